"""A crop of the upright picture, found again in the picture as it is stored."""

from fractions import Fraction

import numpy as np
import pytest

from trainer.protocol.job import CropBox
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.stored_crop import stored_crop


def source(width, height, rotation):
    return SourceVideo("/a.mp4", 1, 1, width, height, (0, 1), Fraction(1, 16), "h264", rotation)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_the_stored_part_turned_upright_is_the_crop(rotation):
    upright = np.arange(20 * 30).reshape(20, 30)
    stored = np.rot90(upright, -(rotation // 90))
    crop = CropBox(left=3, top=5, width=11, height=8)
    found = stored_crop(source(30, 20, rotation), crop, is_even=False)
    cut = stored[found.top : found.top + found.height, found.left : found.left + found.width]
    assert np.array_equal(np.rot90(cut, rotation // 90), upright[5:13, 3:14])


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_sides_move_inward_to_even_pixels_of_the_stored_picture(rotation):
    video = source(31, 21, rotation)
    crop = CropBox(left=3, top=5, width=11, height=8)
    exact, even = (stored_crop(video, crop, is_even=is_even) for is_even in (False, True))
    assert not any(value % 2 for value in (even.left, even.top, even.width, even.height))
    assert exact.left <= even.left <= exact.left + 1
    assert exact.top <= even.top <= exact.top + 1
    assert even.left + even.width <= exact.left + exact.width
    assert even.top + even.height <= exact.top + exact.height


def test_a_crop_of_one_pixel_becomes_two():
    found = stored_crop(source(31, 21, 0), CropBox(left=30, top=7, width=1, height=1), is_even=True)
    assert found == CropBox(left=28, top=8, width=2, height=2)
