"""Pictures are cut at the pixel and scaled without distortion."""

import numpy as np
import pytest

from tests.media import is_upright, number_in, numbered_picture
from trainer.data.pictures import cover_frame, resize_crop
from trainer.protocol.job import CropBox


def ramp(width: int, height: int) -> np.ndarray:
    """Red is the column's place from 0 to 255, green the row's."""
    red = np.broadcast_to(np.linspace(0, 255, width), (height, width))
    green = np.broadcast_to(np.linspace(0, 255, height)[:, None], (height, width))
    return np.stack([red, green, np.zeros((height, width))], -1).round().astype(np.uint8)


def test_a_picture_of_the_right_shape_is_only_scaled():
    covered = cover_frame(numbered_picture(77, 320, 240), 64, 48)
    assert covered.shape == (48, 64, 3)
    assert covered.dtype == np.uint8
    assert number_in(covered) == 77
    assert is_upright(covered)


@pytest.mark.parametrize(
    ("size", "wanted", "columns", "rows"),
    [
        ((400, 200), (64, 64), (1 / 4, 3 / 4), (0, 1)),
        ((200, 400), (64, 64), (0, 1), (1 / 4, 3 / 4)),
        ((64, 32), (128, 128), (1 / 4, 3 / 4), (0, 1)),
        ((641, 359), (48, 96), (0.3600, 0.6400), (0, 1)),
    ],
)
def test_the_middle_that_covers_is_kept_undistorted(size, wanted, columns, rows):
    covered = cover_frame(ramp(*size), *wanted).astype(float) / 255
    assert covered.shape == (wanted[1], wanted[0], 3)
    assert covered[:, 0, 0].mean() == pytest.approx(columns[0], abs=0.02)
    assert covered[:, -1, 0].mean() == pytest.approx(columns[1], abs=0.02)
    assert covered[0, :, 1].mean() == pytest.approx(rows[0], abs=0.02)
    assert covered[-1, :, 1].mean() == pytest.approx(rows[1], abs=0.02)


def test_every_odd_size_can_be_covered():
    for width in range(1, 40, 3):
        for height in range(1, 40, 7):
            assert cover_frame(np.zeros((height, width, 3), np.uint8), 48, 32).shape == (32, 48, 3)


def test_a_crop_of_the_wanted_size_is_taken_as_it_is():
    picture = ramp(101, 67)
    cut = resize_crop(picture, CropBox(left=5, top=3, width=32, height=16), 32, 16)
    assert np.array_equal(cut, picture[3:19, 5:37])
    cut[:] = 0
    assert picture[3, 5].any()


def test_a_resized_crop_holds_what_was_inside_the_box_and_nothing_else():
    picture = np.full((100, 100, 3), 255, np.uint8)
    picture[20:60, 10:50] = 40
    cut = resize_crop(picture, CropBox(left=10, top=20, width=40, height=40), 16, 16)
    assert np.array_equal(cut, np.full((16, 16, 3), 40))


@pytest.mark.parametrize("crop", [(0, 0, 102, 10), (0, 0, 10, 68), (100, 0, 2, 10), (0, 66, 10, 2)])
def test_a_crop_beyond_the_picture_is_refused(crop):
    left, top, width, height = crop
    with pytest.raises(ValueError, match="101 x 67"):
        resize_crop(ramp(101, 67), CropBox(left=left, top=top, width=width, height=height), 16, 16)
