"""Captions say what the camera does."""

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def learning():
    import miniature_scenes

    return miniature_scenes


def test_captions_name_the_motion_that_a_clip_shows(learning):
    library = object.__new__(learning.TrackLibrary)
    library.scenes, library.zooms = ["a red cone", "a blue cube"], [False, True]
    generator = np.random.default_rng(0)

    def caption(**cut: object) -> str:
        return library.caption(learning.ClipPlan(offset=0, **cut), generator)

    assert caption(track=0, direction=1, mirrored=False) == "turntable right, a red cone"
    assert caption(track=0, direction=1, mirrored=True) == "turntable left, a red cone"
    assert caption(track=0, direction=-1, mirrored=True) == "turntable right, a red cone"
    assert caption(track=1, direction=-1, mirrored=True) == "zoom out, a blue cube"
    still = {caption(track=0, direction=0, mirrored=False) for _ in range(200)}
    assert "" in still
    assert not any("turntable" in text or "zoom" in text for text in still)
