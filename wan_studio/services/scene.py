"""Synthetic scenes: a few coloured shapes on a patterned floor, and the camera that looks at them.

They serve the demo and the miniature model, where real footage would be too large and its camera
unknown: here the angle of every frame is known exactly.

World: y is up, the floor is y = 0, lengths are in scene units (shapes are about one unit wide).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias

import numpy as np

Rgb: TypeAlias = tuple[float, float, float]

COLORS: dict[str, Rgb] = {
    "red": (0.90, 0.16, 0.13),
    "green": (0.13, 0.66, 0.26),
    "blue": (0.14, 0.36, 0.92),
    "yellow": (0.98, 0.80, 0.10),
    "purple": (0.55, 0.22, 0.80),
    "orange": (0.98, 0.50, 0.08),
    "white": (0.95, 0.95, 0.93),
}
"""Named screen colours (sRGB) of shapes; captions use the names."""

FLOORS: tuple[tuple[Rgb, Rgb], ...] = (
    ((0.86, 0.85, 0.82), (0.36, 0.38, 0.44)),
    ((0.93, 0.88, 0.76), (0.48, 0.34, 0.26)),
    ((0.82, 0.90, 0.92), (0.22, 0.44, 0.52)),
    ((0.92, 0.90, 0.88), (0.56, 0.30, 0.34)),
    ((0.88, 0.92, 0.82), (0.30, 0.44, 0.30)),
)
"""Screen colours of the light and the dark tiles."""

SKIES: tuple[tuple[Rgb, Rgb], ...] = (
    ((0.86, 0.92, 0.97), (0.34, 0.58, 0.88)),
    ((0.98, 0.89, 0.78), (0.46, 0.54, 0.80)),
    ((0.92, 0.93, 0.95), (0.56, 0.62, 0.72)),
    ((0.97, 0.84, 0.82), (0.44, 0.40, 0.66)),
)
"""Screen colours of the horizon and the zenith."""


class ShapeKind(Enum):
    """What a shape is; the value is its word in captions."""

    SPHERE = "sphere"
    CUBE = "cube"
    CYLINDER = "cylinder"
    CONE = "cone"


class FloorPattern(Enum):
    """How the two colours of the floor alternate."""

    CHECKER = "checker"
    STRIPES = "stripes"


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape that stands on the floor.

    Attributes:
        kind: What it is.
        color: A name in `COLORS`.
        x: Position of its axis, in scene units.
        z: Position of its axis, in scene units.
        radius: Half its width.
        height: Of a cylinder or cone; a sphere or cube is as high as it is wide.
        yaw_degrees: How far a cube is turned about its axis.
    """

    kind: ShapeKind
    color: str
    x: float
    z: float
    radius: float
    height: float
    yaw_degrees: float = 0.0

    @property
    def reach(self) -> float:
        """Radius of the circle on the floor that holds the shape."""
        return self.radius * math.sqrt(2.0) if self.kind is ShapeKind.CUBE else self.radius


@dataclass(frozen=True, slots=True)
class Scene:
    """Shapes, floor, sky and sun; hashable, so that what is computed once a scene is kept.

    Attributes:
        shapes: On the floor, apart from each other, around the origin.
        floor: Screen colours of the two kinds of tiles.
        pattern: How they alternate.
        tile: Width of a tile in scene units.
        floor_yaw_degrees: How far the pattern is turned.
        sky: Screen colours of the horizon and the zenith.
        sun_azimuth_degrees: Where the sun stands, in the world and not with the camera.
        sun_elevation_degrees: Above the floor.
    """

    shapes: tuple[Shape, ...]
    floor: tuple[Rgb, Rgb] = FLOORS[0]
    pattern: FloorPattern = FloorPattern.CHECKER
    tile: float = 1.6
    floor_yaw_degrees: float = 0.0
    sky: tuple[Rgb, Rgb] = SKIES[0]
    sun_azimuth_degrees: float = 40.0
    sun_elevation_degrees: float = 55.0

    @classmethod
    def random(cls, seed: int, shape_count: int | None = None) -> Scene:
        """A scene drawn from the seed; the same seed gives the same scene.

        Args:
            seed: Any number >= 0.
            shape_count: 1 to 5 shapes; two to four when not given.
        """
        generator = np.random.default_rng(seed)
        count = int(generator.integers(2, 5)) if shape_count is None else shape_count
        pattern = FloorPattern.CHECKER if generator.random() < 0.75 else FloorPattern.STRIPES
        return cls(
            shapes=_random_shapes(generator, count),
            floor=FLOORS[int(generator.integers(len(FLOORS)))],
            pattern=pattern,
            tile=float(generator.uniform(1.5, 2.2)),
            floor_yaw_degrees=float(generator.uniform(0.0, 90.0)),
            sky=SKIES[int(generator.integers(len(SKIES)))],
            sun_azimuth_degrees=float(generator.uniform(0.0, 360.0)),
            sun_elevation_degrees=float(generator.uniform(48.0, 66.0)),
        )

    def describe(self) -> str:
        """The two largest shapes in words: ``a red sphere and a blue cube``."""
        largest = sorted(self.shapes, key=lambda shape: -shape.radius)[:2]
        return " and ".join(
            f"{'an' if shape.color[0] in 'aeiou' else 'a'} {shape.color} {shape.kind.value}"
            for shape in largest
        )


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera that looks at a point from an angle and a distance.

    Attributes:
        azimuth_degrees: Where it stands around the vertical axis; an orbit changes this.
        elevation_degrees: Above the floor.
        distance: From the point, in scene units.
        target: The point it looks at.
        field_of_view_degrees: Vertical.
    """

    azimuth_degrees: float
    elevation_degrees: float = 28.0
    distance: float = 7.2
    target: tuple[float, float, float] = (0.0, 0.45, 0.0)
    field_of_view_degrees: float = 40.0

    def turned(self, degrees: float) -> Camera:
        """The same camera, further around its target."""
        return replace(self, azimuth_degrees=self.azimuth_degrees + degrees)


def _random_shapes(generator: np.random.Generator, count: int) -> tuple[Shape, ...]:
    """Shapes around the origin, none near it and none touching another, all of different colours."""
    colors = [str(name) for name in generator.permutation(list(COLORS))]
    kinds = list(ShapeKind)
    shapes: list[Shape] = []
    first_angle = generator.uniform(0.0, 2.0 * math.pi)
    for index in range(count):
        kind = kinds[int(generator.integers(len(kinds)))]
        radius = float(generator.uniform(0.48, 0.78)) * (0.85 if kind is ShapeKind.CUBE else 1.0)
        shape = Shape(
            kind=kind,
            color=colors[index % len(colors)],
            x=0.0,
            z=0.0,
            radius=radius,
            height=float(generator.uniform(1.0, 1.7)),
            yaw_degrees=float(generator.uniform(0.0, 90.0)),
        )
        # Even sectors with some play keep the shapes apart; moving outwards settles the rest.
        angle = first_angle + 2.0 * math.pi * (index + generator.uniform(-0.2, 0.2)) / count
        away = float(generator.uniform(0.85, 1.35))
        while True:
            placed = replace(shape, x=away * math.sin(angle), z=away * math.cos(angle))
            if all(_apart(placed, other) for other in shapes):
                break
            away += 0.1
        shapes.append(placed)
    return tuple(shapes)


def _apart(one: Shape, other: Shape) -> bool:
    return math.hypot(one.x - other.x, one.z - other.z) > one.reach + other.reach + 0.08
