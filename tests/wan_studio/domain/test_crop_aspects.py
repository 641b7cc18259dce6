import pytest

from trainer.protocol.job import CropBox
from wan_studio.domain.buckets import trained_size
from wan_studio.domain.crop_aspects import FREE, crop_aspects, dragged_crop, largest_crop, moved_crop

WHOLE = CropBox(left=0, top=0, width=1920, height=1080)


def test_free_comes_first_and_every_other_aspect_is_a_buckets():
    first, *others = crop_aspects(1920, 1080, 512)
    assert first is FREE
    for aspect in others:
        crop = largest_crop(WHOLE, aspect.ratio)
        size = trained_size(crop, 1.0, 512)
        # Of a crop with the bucket's own aspect nothing more is cut off, but for a rounded pixel.
        assert size.crop.width >= crop.width - 2
        assert size.crop.height >= crop.height - 2
        assert f"{size.width} × {size.height}" in aspect.name


def test_the_largest_crop_lies_in_the_middle():
    assert largest_crop(WHOLE, 1.0) == CropBox(left=420, top=0, width=1080, height=1080)
    assert largest_crop(WHOLE, 3.0) == CropBox(left=0, top=220, width=1920, height=640)


def test_a_moved_crop_stays_in_the_picture():
    crop = CropBox(left=10, top=10, width=100, height=50)
    assert moved_crop(crop, WHOLE, -50, 5) == CropBox(left=0, top=15, width=100, height=50)
    assert moved_crop(crop, WHOLE, 5000, 5000) == CropBox(left=1820, top=1030, width=100, height=50)


@pytest.mark.parametrize("ratio", [None, 16 / 9, 0.5])
@pytest.mark.parametrize("corner", [(3000, 2000), (-50, -80), (900, 20), (901, 501), (1919.6, 0.2)])
@pytest.mark.parametrize("anchor", [(900, 500), (0, 0), (1920, 1080)])
def test_a_dragged_crop_lies_in_the_picture_and_keeps_its_aspect(anchor, corner, ratio):
    crop = dragged_crop(anchor, corner, WHOLE, ratio)
    assert crop.left >= 0
    assert crop.top >= 0
    assert crop.left + crop.width <= 1920
    assert crop.top + crop.height <= 1080
    assert crop.width >= 16
    assert crop.height >= 16
    if ratio is not None:
        assert crop.width == pytest.approx(crop.height * ratio, abs=2)


def test_a_free_crop_reaches_from_corner_to_corner():
    assert dragged_crop((100, 50), (400, 250), WHOLE, None) == CropBox(
        left=100, top=50, width=300, height=200
    )
    assert dragged_crop((400, 250), (100, 50), WHOLE, None) == CropBox(
        left=100, top=50, width=300, height=200
    )
