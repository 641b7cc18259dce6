"""Draws synthetic scenes by ray casting in numpy: sun with a soft shadow, light from the sky, a fading floor.

Colours are linear RGB in [0, 1] until the last line of `render`, which encodes them for the screen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wan_studio.services.scene import COLORS, Camera, FloorPattern, Rgb, Scene, Shape, ShapeKind

Floats: TypeAlias = NDArray[np.floating[Any]]
Indices: TypeAlias = NDArray[np.intp]
Vector: TypeAlias = tuple[Floats | float, Floats | float, Floats | float]
"""Three coordinates: single numbers for a shared point or direction, arrays for one a ray."""

_SUN_STRENGTH = 0.80
_AMBIENT_STRENGTH = 0.46
_SUN_SIZE = 0.10  # tangent of the sun's angular radius: how soft shadows are
_MAP_TEXELS = 96
_MAP_EXTENT = 4.5  # the floor's light map covers [-extent, extent] in x and z
_FLOOR_FADE_START = 2.6
_FLOOR_FADE_END = 7.0
_SELF_HIT = 1e-3  # rays that leave a surface start this far from it


def render(
    scene: Scene, camera: Camera, width: int, height: int, supersampling: int = 2
) -> NDArray[np.uint8]:
    """Draw one frame.

    Args:
        scene: What is there.
        camera: From where.
        width: Of the frame in pixels.
        height: Of the frame in pixels.
        supersampling: Rays a pixel along each axis; 1 is fast and jagged.

    Returns:
        sRGB, shape (height, width, 3).
    """
    columns, rows = width * supersampling, height * supersampling
    origin, direction = _camera_rays(camera, columns, rows)
    color = _trace(scene, origin, direction)
    pixels = np.zeros((height, width, 3), np.float32)
    for row in range(supersampling):
        for column in range(supersampling):
            pixels += color.reshape(rows, columns, 3)[row::supersampling, column::supersampling]
    pixels /= supersampling**2
    return (np.power(np.clip(pixels, 0.0, 1.0), 1.0 / 2.2) * 255.0 + 0.5).astype(np.uint8)


def render_path(scene: Scene, cameras: Sequence[Camera], width: int, height: int) -> NDArray[np.uint8]:
    """Draw one frame a camera: sRGB, shape (frames, height, width, 3)."""
    return np.stack([render(scene, camera, width, height) for camera in cameras])


def orbit(
    scene: Scene, degrees: float, frames: int, start: Camera, width: int, height: int
) -> NDArray[np.uint8]:
    """A clip whose camera moves around the scene at an even speed.

    Args:
        scene: What is there.
        degrees: Angle between the first and the last frame; negative turns the other way.
        frames: How many, at least 1.
        start: Camera of the first frame.
        width: Of a frame in pixels.
        height: Of a frame in pixels.

    Returns:
        sRGB, shape (frames, height, width, 3).
    """
    return render_path(scene, orbit_cameras(degrees, frames, start), width, height)


def orbit_cameras(degrees: float, frames: int, start: Camera) -> list[Camera]:
    """The cameras of `orbit`."""
    return [start.turned(degrees * index / max(frames - 1, 1)) for index in range(frames)]


def still(scene: Scene, frames: int, camera: Camera, width: int, height: int) -> NDArray[np.uint8]:
    """A clip whose camera does not move: sRGB, shape (frames, height, width, 3)."""
    return np.repeat(render(scene, camera, width, height)[None], frames, axis=0)


# ---- Rays -------------------------------------------------------------------------------------


def _camera_rays(camera: Camera, columns: int, rows: int) -> tuple[Vector, Vector]:
    """Origin (single numbers) and unit directions (arrays in row order) of every ray."""
    azimuth, elevation = math.radians(camera.azimuth_degrees), math.radians(camera.elevation_degrees)
    back = (
        math.cos(elevation) * math.sin(azimuth),
        math.sin(elevation),
        math.cos(elevation) * math.cos(azimuth),
    )
    right = (math.cos(azimuth), 0.0, -math.sin(azimuth))
    up = (
        -math.sin(elevation) * math.sin(azimuth),
        math.cos(elevation),
        -math.sin(elevation) * math.cos(azimuth),
    )
    half = math.tan(math.radians(camera.field_of_view_degrees) / 2.0)
    across = ((np.arange(columns, dtype=np.float32) + 0.5) * (2.0 / columns) - 1.0) * (half * columns / rows)
    above = (1.0 - (np.arange(rows, dtype=np.float32) + 0.5) * (2.0 / rows)) * half
    scale = 1.0 / np.sqrt(1.0 + above[:, None] ** 2 + across[None, :] ** 2)
    x, y, z = (
        ((across[None, :] * right[axis] + above[:, None] * up[axis] - back[axis]) * scale).ravel()
        for axis in range(3)
    )
    start = (
        camera.target[0] + camera.distance * back[0],
        camera.target[1] + camera.distance * back[1],
        camera.target[2] + camera.distance * back[2],
    )
    return start, (x, y, z)


def _trace(scene: Scene, origin: Vector, direction: Vector) -> Floats:
    """Linear colour of every ray, shape (rays, 3)."""
    down = np.asarray(direction[1])
    with np.errstate(divide="ignore"):
        distance = np.where(down < -1e-4, -origin[1] / down, np.inf).astype(np.float32)
    owner = np.where(np.isfinite(distance), -1, -2).astype(np.int8)
    for index, shape in enumerate(scene.shapes):
        near = _rays_near(shape, origin, direction)
        hit = _intersect(shape, origin, _take(direction, near))
        closer = hit < distance[near]
        distance[near[closer]] = hit[closer]
        owner[near[closer]] = index
    color = _sky_color(scene, down)
    floor = np.flatnonzero(owner == -1)
    color[floor] = _floor_color(scene, _points(origin, _take(direction, floor), distance[floor]))
    for index, shape in enumerate(scene.shapes):
        seen = np.flatnonzero(owner == index)
        if seen.size:
            toward = _take(direction, seen)
            color[seen] = _shape_color(scene, shape, _points(origin, toward, distance[seen]), toward)
    return color


def _take(vector: Vector, indices: Indices) -> Vector:
    x, y, z = (np.asarray(axis)[indices] for axis in vector)
    return x, y, z


def _points(origin: Vector, direction: Vector, distance: Floats) -> Vector:
    x, y, z = (
        np.asarray(start + step * distance, np.float32) for start, step in zip(origin, direction, strict=True)
    )
    return x, y, z


def _rays_near(shape: Shape, origin: Vector, direction: Vector) -> Indices:
    """Rays from one origin that pass through the ball around the shape: the only ones worth a test."""
    half_height = _height(shape) / 2.0
    ball = math.hypot(shape.reach, half_height) if shape.kind is not ShapeKind.SPHERE else shape.radius
    x, y, z = shape.x - origin[0], half_height - origin[1], shape.z - origin[2]
    along = x * direction[0] + y * direction[1] + z * direction[2]
    return np.flatnonzero((along > 0) & (x * x + y * y + z * z - along * along < ball * ball))


def _height(shape: Shape) -> float:
    return shape.height if shape.kind in (ShapeKind.CYLINDER, ShapeKind.CONE) else 2.0 * shape.radius


# ---- Shapes -----------------------------------------------------------------------------------


def _intersect(shape: Shape, origin: Vector, direction: Vector) -> Floats:
    """Distance along each ray to the shape; infinite where it is missed. Undersides are never seen."""
    x, y, z = origin[0] - shape.x, origin[1], origin[2] - shape.z
    local = (x, y, z)
    with np.errstate(divide="ignore", invalid="ignore"):
        match shape.kind:
            case ShapeKind.SPHERE:
                return _hit_sphere(shape, (x, y - shape.radius, z), direction)
            case ShapeKind.CUBE:
                return _hit_cube(shape, local, direction)
            case ShapeKind.CYLINDER:
                return _hit_cylinder(shape, local, direction)
            case ShapeKind.CONE:
                return _hit_cone(shape, local, direction)


def _hit_sphere(shape: Shape, origin: Vector, direction: Vector) -> Floats:
    along = origin[0] * direction[0] + origin[1] * direction[1] + origin[2] * direction[2]
    beyond = origin[0] ** 2 + origin[1] ** 2 + origin[2] ** 2 - shape.radius**2
    hit = -along - np.sqrt(along * along - beyond)
    return np.where(hit > _SELF_HIT, hit, np.inf).astype(np.float32)


def _hit_cube(shape: Shape, origin: Vector, direction: Vector) -> Floats:
    origin, direction = _turned(shape, origin), _turned(shape, direction)
    enter: Floats | float = -np.inf
    leave: Floats | float = np.inf
    centre = (0.0, shape.radius, 0.0)
    for axis in range(3):
        near = (centre[axis] - shape.radius - origin[axis]) / direction[axis]
        far = (centre[axis] + shape.radius - origin[axis]) / direction[axis]
        enter = np.maximum(enter, np.minimum(near, far))
        leave = np.minimum(leave, np.maximum(near, far))
    return np.where((enter < leave) & (enter > _SELF_HIT), enter, np.inf).astype(np.float32)


def _hit_cylinder(shape: Shape, origin: Vector, direction: Vector) -> Floats:
    square = direction[0] ** 2 + direction[2] ** 2
    along = origin[0] * direction[0] + origin[2] * direction[2]
    beyond = origin[0] ** 2 + origin[2] ** 2 - shape.radius**2
    side = (-along - np.sqrt(along * along - square * beyond)) / square
    at = origin[1] + side * direction[1]
    side = np.where((side > _SELF_HIT) & (at > 0.0) & (at < shape.height), side, np.inf)
    top = (shape.height - origin[1]) / direction[1]
    out = (origin[0] + top * direction[0]) ** 2 + (origin[2] + top * direction[2]) ** 2
    top = np.where((top > _SELF_HIT) & (out < shape.radius**2), top, np.inf)
    return np.minimum(side, top).astype(np.float32)


def _hit_cone(shape: Shape, origin: Vector, direction: Vector) -> Floats:
    slope = (shape.radius / shape.height) ** 2
    apex = origin[1] - shape.height
    square = direction[0] ** 2 + direction[2] ** 2 - slope * direction[1] ** 2
    along = origin[0] * direction[0] + origin[2] * direction[2] - slope * apex * direction[1]
    beyond = origin[0] ** 2 + origin[2] ** 2 - slope * apex * apex
    root = np.sqrt(along * along - square * beyond)
    best: Floats | float = np.inf
    for sign in (-1.0, 1.0):
        hit = (-along + sign * root) / square
        at = origin[1] + hit * direction[1]
        best = np.minimum(best, np.where((hit > _SELF_HIT) & (at > 0.0) & (at < shape.height), hit, np.inf))
    return np.asarray(best, np.float32)


def _turned(shape: Shape, vector: Vector) -> Vector:
    """From the world into the cube's own axes."""
    cosine, sine = math.cos(math.radians(shape.yaw_degrees)), math.sin(math.radians(shape.yaw_degrees))
    return cosine * vector[0] - sine * vector[2], vector[1], sine * vector[0] + cosine * vector[2]


def _normal(shape: Shape, point: Vector) -> Vector:
    """Outward unit normals at points on the shape."""
    x, y, z = (np.asarray(axis) for axis in (point[0] - shape.x, point[1], point[2] - shape.z))
    zero = np.zeros_like(x)
    match shape.kind:
        case ShapeKind.SPHERE:
            return x / shape.radius, (y - shape.radius) / shape.radius, z / shape.radius
        case ShapeKind.CUBE:
            across, _, through = (np.asarray(axis) for axis in _turned(shape, (x, y, z)))
            above = y - shape.radius
            largest = np.maximum(np.maximum(abs(across), abs(above)), abs(through)) * 0.9999
            side = np.where(abs(across) >= largest, np.sign(across), 0.0)
            top = np.where(abs(above) >= largest, np.sign(above), 0.0)
            front = np.where(abs(through) >= largest, np.sign(through), 0.0)
            back = replace(shape, yaw_degrees=-shape.yaw_degrees)
            return _unit(_turned(back, (side, top, front)))
        case ShapeKind.CYLINDER:
            top = y > shape.height - 1e-3
            out_x, out_z = x / shape.radius, z / shape.radius
            return np.where(top, 0.0, out_x), np.where(top, 1.0, zero), np.where(top, 0.0, out_z)
        case ShapeKind.CONE:
            out = np.maximum(np.hypot(x, z), 1e-6)
            return _unit((x / out, zero + shape.radius / shape.height, z / out))


def _unit(vector: Vector) -> Vector:
    length = np.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2)
    return vector[0] / length, vector[1] / length, vector[2] / length


# ---- Light ------------------------------------------------------------------------------------


def _linear(color: Rgb) -> Floats:
    return np.power(np.asarray(color, np.float32), 2.2)


def _sun(scene: Scene) -> tuple[float, float, float]:
    azimuth, elevation = math.radians(scene.sun_azimuth_degrees), math.radians(scene.sun_elevation_degrees)
    flat = math.cos(elevation)
    return flat * math.sin(azimuth), math.sin(elevation), flat * math.cos(azimuth)


def _sun_samples(scene: Scene, count: int) -> list[tuple[float, float, float]]:
    """Directions spread over the sun's disc on a sunflower spiral."""
    x, y, z = _sun(scene)
    flat = math.hypot(x, z)
    side = (z / flat, 0.0, -x / flat)
    above = (-y * x / flat, flat, -y * z / flat)
    samples: list[tuple[float, float, float]] = []
    for index in range(count):
        away, angle = _SUN_SIZE * math.sqrt((index + 0.5) / count), index * 2.399963
        a, b = away * math.cos(angle), away * math.sin(angle)
        leaning = (x + a * side[0] + b * above[0], y + b * above[1], z + a * side[2] + b * above[2])
        length = math.sqrt(sum(axis * axis for axis in leaning))
        samples.append((leaning[0] / length, leaning[1] / length, leaning[2] / length))
    return samples


def _sun_visibility(scene: Scene, points: Vector, samples: int, skip: Shape | None = None) -> Floats:
    """Share of the sun's disc, 0 to 1, that each point sees past the shapes."""
    x, y, z = (np.asarray(axis, np.float32) for axis in points)
    light = np.zeros_like(x)
    blockers = [shape for shape in scene.shapes if shape is not skip]
    for toward in _sun_samples(scene, samples):
        free = np.ones(x.shape, np.bool_)
        for shape in blockers:
            free &= ~np.isfinite(_intersect(shape, (x, y, z), toward))
        light += free
    return light / np.float32(samples)


@lru_cache(maxsize=64)
def _light_map(scene: Scene) -> Floats:
    """Light on the floor from sun and sky, flat (texels * texels): rows are z, columns are x.

    It does not depend on the camera, so a clip pays for it once.
    """
    axis = np.linspace(-_MAP_EXTENT, _MAP_EXTENT, _MAP_TEXELS, dtype=np.float32)
    z, x = (grid.ravel() for grid in np.meshgrid(axis, axis, indexing="ij"))
    sun = _sun_visibility(scene, (x, np.zeros_like(x), z), samples=12)
    ambient = np.ones_like(x)
    for shape in scene.shapes:
        gap = np.maximum(np.hypot(x - shape.x, z - shape.z) - shape.radius, 0.0)
        ambient *= 1.0 - 0.55 * np.exp(-2.8 * gap / shape.radius)
    return np.asarray(_SUN_STRENGTH * _sun(scene)[1] * sun + _AMBIENT_STRENGTH * ambient, np.float32)


def _floor_light(scene: Scene, x: Floats, z: Floats) -> Floats:
    """Light on floor points, read between the map's texels; points outside have its border's light."""
    light_map = _light_map(scene)
    scale = np.float32((_MAP_TEXELS - 1) / (2.0 * _MAP_EXTENT))
    last = np.float32(_MAP_TEXELS - 1.001)
    column = np.clip((x + np.float32(_MAP_EXTENT)) * scale, np.float32(0.0), last)
    row = np.clip((z + np.float32(_MAP_EXTENT)) * scale, np.float32(0.0), last)
    left, top = column.astype(np.int32), row.astype(np.int32)
    across, down = column - left.astype(np.float32), row - top.astype(np.float32)
    corner = top * _MAP_TEXELS + left
    upper = light_map[corner]
    upper += (light_map[corner + 1] - upper) * across
    lower = light_map[corner + _MAP_TEXELS]
    lower += (light_map[corner + (_MAP_TEXELS + 1)] - lower) * across
    return upper + (lower - upper) * down


def _sky_color(scene: Scene, up: Floats) -> Floats:
    horizon, zenith = _linear(scene.sky[0]), _linear(scene.sky[1])
    high = np.clip(up * np.float32(2.6), 0.0, 1.0)[:, None]
    return horizon + (zenith - horizon) * high


def _floor_color(scene: Scene, points: Vector) -> Floats:
    """Tiles in light and shadow that fade into the horizon with the distance from the middle."""
    x, z = np.asarray(points[0]), np.asarray(points[2])
    turn = math.radians(scene.floor_yaw_degrees)
    cosine, sine = np.float32(math.cos(turn) / scene.tile), np.float32(math.sin(turn) / scene.tile)
    parity = np.floor(x * cosine - z * sine + np.float32(0.5))
    if scene.pattern is FloorPattern.CHECKER:
        parity += np.floor(x * sine + z * cosine + np.float32(0.5))
    dark = (parity.astype(np.int32) & 1) != 0
    span = np.float32(1.0 / (_FLOOR_FADE_END - _FLOOR_FADE_START))
    fade = np.clip((np.sqrt(x * x + z * z) - np.float32(_FLOOR_FADE_START)) * span, 0.0, 1.0)
    fade = fade * fade * (np.float32(3.0) - np.float32(2.0) * fade)
    light = _floor_light(scene, x, z) * (np.float32(1.0) - fade)
    tiles = np.stack([_linear(scene.floor[0]), _linear(scene.floor[1])])[dark.astype(np.intp)]
    return tiles * light[:, None] + _linear(scene.sky[0]) * fade[:, None]


def _shape_color(scene: Scene, shape: Shape, points: Vector, toward: Vector) -> Floats:
    """Diffuse light of sun and sky, a little light back from the floor, and a highlight."""
    normal = _normal(shape, points)
    sun = _sun(scene)
    facing = np.maximum(normal[0] * sun[0] + normal[1] * sun[1] + normal[2] * sun[2], 0.0)
    lit = facing * _sun_visibility(scene, points, samples=3, skip=shape)
    open_sky = 0.72 + 0.28 * np.asarray(normal[1])
    low = np.clip(np.asarray(points[1]) / 0.5, 0.0, 1.0)
    ambient = _AMBIENT_STRENGTH * open_sky * (0.65 + 0.35 * low)
    half = _unit((sun[0] - toward[0], sun[1] - toward[1], sun[2] - toward[2]))
    mirror = np.maximum(normal[0] * half[0] + normal[1] * half[1] + normal[2] * half[2], 0.0)
    highlight = 0.30 * np.power(mirror, 40.0) * (lit > 0.0)
    diffuse = (_SUN_STRENGTH * lit + ambient)[:, None] * _linear(COLORS[shape.color])
    return np.asarray(diffuse + highlight[:, None], np.float32)
