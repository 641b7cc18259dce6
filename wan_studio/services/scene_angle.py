"""Reads the camera's angle off the frames of a known scene: how it is shown that a LoRA turns the camera."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wan_studio.services.scene import Camera, Scene
from wan_studio.services.scene_renderer import render

Frames: TypeAlias = NDArray[np.uint8]

_COMPARED_SIZE = 48
"""Frames are compared at this many pixels a side: generated ones are soft, and edges would only distract."""


def estimate_azimuths(
    frames: Frames, scene: Scene, start: Camera, candidates_degrees: Sequence[float]
) -> NDArray[np.float64]:
    """How far the camera has turned in each frame, by comparison with drawings from known angles.

    Each frame is compared with the scene drawn from every candidate angle, and takes the angle of
    the drawing that it differs from least. A frame that shows something else altogether still gets
    an angle, so look at the frames as well.

    Args:
        frames: RGB, shape (frames, height, width, 3), square, at least 48 pixels a side.
        scene: What they show.
        start: Camera that angle 0 stands for.
        candidates_degrees: Angles from `start` that are tried, ascending and evenly spaced; 3 degrees
            apart is enough, since the best is refined between its neighbours.

    Returns:
        Degrees from `start`, one a frame.
    """
    drawn = np.stack(
        [render(scene, start.turned(angle), _COMPARED_SIZE, _COMPARED_SIZE) for angle in candidates_degrees]
    )
    seen = np.stack([_shrunk(frame) for frame in frames])
    difference = _soft(seen)[:, None] - _soft(drawn.astype(np.float64))[None]
    error = np.square(difference).mean(axis=(2, 3, 4))
    angles = np.asarray(candidates_degrees, np.float64)
    return np.array([_lowest(angles, row) for row in error])


def _shrunk(frame: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Box-filtered to the compared size, for any size at or above it."""
    side = frame.shape[0]
    pixel = np.arange(side, dtype=np.float64)[None, :]
    low = (np.arange(_COMPARED_SIZE, dtype=np.float64) * side / _COMPARED_SIZE)[:, None]
    high = low + side / _COMPARED_SIZE
    weights = np.clip(np.minimum(high, pixel + 1.0) - np.maximum(low, pixel), 0.0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("yh,hwc,xw->yxc", weights, frame.astype(np.float64), weights)


def _soft(frames: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Blurred by a 3 x 3 box, so that a slight shift is a slight difference."""
    padded = np.pad(frames, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) / 9.0


def _lowest(angles: NDArray[np.float64], error: NDArray[np.floating[Any]]) -> float:
    """Angle of the smallest error, refined by the parabola through it and its neighbours."""
    best = int(np.argmin(error))
    if not 0 < best < len(angles) - 1:
        return float(angles[best])
    before, here, after = (float(error[best + step]) for step in (-1, 0, 1))
    bend = before - 2.0 * here + after
    shift = 0.0 if bend <= 0.0 else 0.5 * (before - after) / bend
    return float(angles[best] + shift * (angles[1] - angles[0]))
