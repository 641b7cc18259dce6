"""The camera's angle is read off frames: sharp ones, soft ones, and of other sizes than it compares at."""

import numpy as np
import pytest

from wan_studio.services.scene import Camera, Scene
from wan_studio.services.scene_angle import estimate_azimuths
from wan_studio.services.scene_renderer import orbit, still

CANDIDATES = range(-60, 61, 4)


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_the_angles_of_an_orbit_are_found_between_the_candidates(seed: int):
    start = Camera(70.0)
    frames = orbit(Scene.random(seed), 45.0, 5, start, 96, 96)
    found = estimate_azimuths(frames, Scene.random(seed), start, CANDIDATES)
    assert found == pytest.approx([0.0, 11.25, 22.5, 33.75, 45.0], abs=1.0)


def test_soft_and_noisy_frames_still_tell_the_angle():
    start, scene = Camera(10.0), Scene.random(21)
    frames = orbit(scene, -40.0, 3, start, 64, 64).astype(float)
    soft = (
        frames
        + np.roll(frames, 1, 1)
        + np.roll(frames, -1, 1)
        + np.roll(frames, 1, 2)
        + np.roll(frames, -1, 2)
    ) / 5
    noisy = np.clip(soft + np.random.default_rng(0).normal(0, 20, soft.shape), 0, 255).astype(np.uint8)
    assert estimate_azimuths(noisy, scene, start, CANDIDATES) == pytest.approx([0.0, -20.0, -40.0], abs=2.0)


def test_a_still_clip_has_not_turned():
    start, scene = Camera(200.0), Scene.random(5)
    found = estimate_azimuths(still(scene, 3, start, 64, 64), scene, start, CANDIDATES)
    assert found == pytest.approx([0.0, 0.0, 0.0], abs=0.5)


def test_an_angle_beyond_the_candidates_gets_the_nearest_end():
    start, scene = Camera(0.0), Scene.random(8)
    frames = orbit(scene, 14.0, 2, start, 64, 64)
    assert estimate_azimuths(frames, scene, start, range(-10, 11, 2))[1] == 10.0
