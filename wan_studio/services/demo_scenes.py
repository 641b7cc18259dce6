"""What the demo's clips show: which scenes, from where, and in which words."""

from __future__ import annotations

import numpy as np

from wan_studio.services.scene import Camera, Scene

DEMO_DEGREES_PER_SECOND = 45.0
"""How fast the camera orbits, always the same way: a window of one second turns by this much."""

DEMO_FIRST_SEED = 1_000
"""Of the first clip's scene; the miniature was trained on seeds from 10000 on and has not seen these."""


def demo_scene(index: int) -> tuple[Scene, Camera]:
    """Scene and first camera of a clip, counted from 0."""
    seed = DEMO_FIRST_SEED + index
    start_degrees = float(np.random.default_rng(seed).uniform(0.0, 360.0))
    return Scene.random(seed), Camera(start_degrees)


def demo_caption(scene: Scene) -> str:
    """What the clip shows, with the project's trigger word still to be filled in."""
    return f"orbit [trigger], the camera orbits around {scene.describe()}"
