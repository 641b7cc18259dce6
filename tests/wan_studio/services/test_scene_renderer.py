"""The renderer against geometry worked out by hand, and the scenes that it draws."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest

from wan_studio.services.scene import COLORS, Camera, Scene, Shape, ShapeKind
from wan_studio.services.scene_renderer import orbit, orbit_cameras, render, still

BALL = Shape(ShapeKind.SPHERE, "red", x=0.0, z=0.0, radius=0.5, height=1.0)
AT_BALL = Camera(0.0, elevation_degrees=0.0, distance=5.0, target=(0.0, 0.5, 0.0))


def is_red(frame: np.ndarray) -> np.ndarray:
    red, green, blue = (frame[..., channel].astype(int) for channel in range(3))
    return (red > 60) & (red > 2 * green) & (red > 2 * blue)


def test_a_sphere_covers_the_disc_that_perspective_gives_it():
    frame = render(Scene((BALL,)), AT_BALL, 128, 128, supersampling=1)
    half_angle = math.asin(0.5 / 5.0)
    radius_pixels = math.tan(half_angle) / math.tan(math.radians(20.0)) * 64
    covered = is_red(frame)
    rows, columns = np.nonzero(covered)
    assert covered.sum() == pytest.approx(math.pi * radius_pixels**2, rel=0.06)
    assert abs(rows.mean() - 63.5) < 1.0
    assert abs(columns.mean() - 63.5) < 0.6


@pytest.mark.parametrize("azimuth_degrees", [0.0, 30.0, 90.0, 200.0])
def test_a_shape_appears_where_its_projection_falls(azimuth_degrees: float):
    shape = replace(BALL, x=1.2, z=-0.7, radius=0.2)
    camera = Camera(azimuth_degrees, elevation_degrees=20.0, distance=6.0, target=(0.0, 0.2, 0.0))
    _, columns = np.nonzero(is_red(render(Scene((shape,)), camera, 160, 160)))
    azimuth, elevation = math.radians(azimuth_degrees), math.radians(20.0)
    right = 1.2 * math.cos(azimuth) + 0.7 * math.sin(azimuth)
    toward = (1.2 * math.sin(azimuth) - 0.7 * math.cos(azimuth)) * math.cos(elevation)
    expected = 80 + 80 * right / ((6.0 - toward) * math.tan(math.radians(20.0)))
    assert abs(columns.mean() + 0.5 - expected) < 1.0


@pytest.mark.parametrize("kind", list(ShapeKind))
def test_every_kind_of_shape_is_as_high_and_as_wide_as_it_says(kind: ShapeKind):
    high = 1.4 if kind in (ShapeKind.CYLINDER, ShapeKind.CONE) else 1.0
    shape = Shape(kind, "red", x=0.0, z=0.0, radius=0.5, height=1.4)
    camera = Camera(
        0.0, elevation_degrees=0.0, distance=60.0, target=(0.0, 0.7, 0.0), field_of_view_degrees=2.0
    )
    rows, columns = np.nonzero(is_red(render(Scene((shape,)), camera, 256, 256, supersampling=1)))
    units_a_pixel = 2.0 * 60.0 * math.tan(math.radians(1.0)) / 256
    assert (np.ptp(columns) + 1) * units_a_pixel == pytest.approx(1.0, abs=0.04)
    # At elevation 0 the floor is edge on, so the whole height shows.
    assert (128 - rows.min()) * units_a_pixel + 0.7 == pytest.approx(high, abs=0.06)


def test_the_nearer_shape_hides_the_one_behind():
    behind = replace(BALL, color="blue", z=-1.5, radius=0.3)
    frame = render(Scene((behind, BALL)), AT_BALL, 64, 64)
    assert is_red(frame)[32, 32]
    assert is_red(render(Scene((BALL, behind)), AT_BALL, 64, 64))[32, 32]


def test_the_shadow_falls_away_from_the_sun_and_has_a_soft_edge():
    scene = Scene(
        (replace(BALL, radius=0.6),), sun_azimuth_degrees=90.0, sun_elevation_degrees=45.0, tile=50.0
    )
    above = Camera(0.0, elevation_degrees=89.9, distance=12.0, target=(0.0, 0.0, 0.0))
    bare = render(replace(scene, shapes=()), above, 256, 256).astype(float).mean(2)
    frame = render(scene, above, 256, 256).astype(float).mean(2)
    row = frame[128] / bare[128]
    units = (np.arange(256) - 127.5) * 2.0 * 12.0 * math.tan(math.radians(20.0)) / 256
    in_shadow, in_sun = row[np.argmin(abs(units + 1.0))], row[np.argmin(abs(units - 1.0))]
    assert in_shadow < 0.8 < in_sun
    # The shadow of the ball's far side ends near x = -0.6 - 0.6 * sqrt(2); it fades over several pixels.
    edge = row[(units > -1.9) & (units < -1.1)]
    assert ((edge > in_shadow + 0.05) & (edge < 0.95)).sum() >= 5


def test_the_same_seed_gives_the_same_scene_and_others_differ():
    assert Scene.random(5) == Scene.random(5)
    assert len({Scene.random(seed) for seed in range(50)}) == 50


def test_shapes_of_random_scenes_stand_apart_off_centre_and_have_colours_of_their_own():
    for seed in range(300):
        shapes = Scene.random(seed).shapes
        assert 2 <= len(shapes) <= 4
        assert len({shape.color for shape in shapes}) == len(shapes)
        for index, one in enumerate(shapes):
            assert 0.7 < math.hypot(one.x, one.z) < 2.6
            assert one.color in COLORS
            for other in shapes[:index]:
                assert math.hypot(one.x - other.x, one.z - other.z) > one.reach + other.reach


def test_a_scene_is_described_by_its_two_largest_shapes():
    small = replace(BALL, radius=0.2, color="green")
    cone = Shape(ShapeKind.CONE, "orange", x=2.0, z=0.0, radius=0.7, height=1.0)
    assert Scene((small, BALL, cone)).describe() == "an orange cone and a red sphere"
    assert Scene((BALL,)).describe() == "a red sphere"


def test_an_orbit_ends_at_its_angle_and_a_full_turn_ends_where_it_began():
    scene, start = Scene.random(3), Camera(25.0)
    quarter = orbit(scene, 90.0, 5, start, 48, 32)
    assert quarter.shape == (5, 32, 48, 3)
    assert quarter.dtype == np.uint8
    assert np.array_equal(quarter[0], render(scene, start, 48, 32))
    assert np.array_equal(quarter[-1], render(scene, start.turned(90.0), 48, 32))
    full = render(scene, start.turned(360.0), 48, 32).astype(int)
    assert abs(full - quarter[0]).mean() < 0.1
    assert [round(camera.azimuth_degrees, 6) for camera in orbit_cameras(-30.0, 4, start)] == [25, 15, 5, -5]


def test_motion_is_plain_to_see_and_a_still_clip_has_none():
    for seed in range(8):
        scene = Scene.random(seed)
        moving = orbit(scene, 45.0, 2, Camera(0.0), 64, 64).astype(int)
        assert abs(moving[1] - moving[0]).mean() > 12
    frozen = still(scene, 5, Camera(0.0), 64, 64)
    assert frozen.shape == (5, 64, 64, 3)
    assert (frozen == frozen[0]).all()


def test_a_small_frame_takes_a_few_milliseconds():
    scene = Scene.random(1)
    render(scene, Camera(0.0), 64, 64)
    seconds = []
    for turn in range(7):
        begin = time.process_time()
        render(scene, Camera(turn * 20.0), 64, 64)
        seconds.append(time.process_time() - begin)
    assert min(seconds) < 0.02
