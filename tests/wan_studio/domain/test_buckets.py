import math
import random

import pytest

from trainer.protocol.job import CropBox
from wan_studio.domain.buckets import bucket_for, trained_size

PICTURES = [
    (1920, 1080),
    (1080, 1920),
    (640, 480),
    (480, 640),
    (1280, 720),
    (3840, 2160),
    (720, 720),
    (2048, 858),
]


@pytest.mark.parametrize(("width", "height"), PICTURES)
@pytest.mark.parametrize("resolution", [256, 512, 768])
def test_a_bucket_keeps_area_and_aspect(width, height, resolution):
    bucket = bucket_for(width, height, resolution)
    assert bucket.width % 16 == bucket.height % 16 == 0
    wanted_area = min(resolution**2, width * height)
    assert 0.85 <= bucket.width * bucket.height / wanted_area <= 1.02
    assert abs(math.log(bucket.width / bucket.height * height / width)) < 0.06


def test_a_bucket_is_the_best_of_all_near_sizes():
    """Against a search over every size, by the same wish: aspect first, area second."""
    for width, height in PICTURES:
        bucket = bucket_for(width, height, 512)
        area = 512 * 512

        def misfit(w, h, width=width, height=height, area=area):
            return abs(math.log(w / h * height / width)) + 0.5 * abs(math.log(w * h / area))

        near = [
            misfit(w, h)
            for w in range(16, 1600, 16)
            for h in range(16, 1600, 16)
            if w * h <= area * 1.02 and max(abs(w * h / area - 1), 0) < 0.15
        ]
        assert misfit(bucket.width, bucket.height) <= min(near) + 0.02


def test_turning_a_picture_turns_its_bucket():
    for width, height in PICTURES:
        upright, lying = bucket_for(width, height, 512), bucket_for(height, width, 512)
        assert (upright.width, upright.height) == (lying.height, lying.width)


def test_a_small_picture_is_never_enlarged():
    generator = random.Random(0)
    for _ in range(500):
        width, height = generator.randint(16, 900), generator.randint(16, 900)
        bucket = bucket_for(width, height, 512)
        assert bucket.width <= width
        assert bucket.height <= height


def test_a_small_picture_is_enlarged_when_that_is_asked_for():
    generator = random.Random(2)
    for _ in range(300):
        width, height = generator.randint(100, 400), generator.randint(100, 400)
        plain, enlarged = bucket_for(width, height, 512), bucket_for(width, height, 512, allow_upscale=True)
        assert plain.width * plain.height < enlarged.width * enlarged.height
        assert 0.85 <= enlarged.width * enlarged.height / 512**2 <= 1.02
        assert abs(math.log(enlarged.width / enlarged.height * height / width)) < 0.06
        # It is the bucket of the same picture with more pixels.
        assert enlarged == bucket_for(width * 8, height * 8, 512)


@pytest.mark.parametrize(("width", "height"), PICTURES)
def test_leave_to_enlarge_changes_nothing_for_a_large_picture(width, height):
    assert bucket_for(width, height, 512, allow_upscale=True) == bucket_for(width, height, 512)


def test_an_enlarged_size_keeps_the_crop():
    crop = CropBox(left=5, top=7, width=160, height=120)
    size = trained_size(crop, 1.0, 512, allow_upscale=True)
    assert (size.width, size.height) == (592, 448)
    assert size.crop.width == pytest.approx(160, abs=2)
    assert size.crop.height == pytest.approx(120, abs=2)


def test_the_smallest_bucket_is_sixteen_pixels():
    bucket = bucket_for(5, 3, 512)
    assert (bucket.width, bucket.height) == (16, 16)


def test_the_crop_of_a_trained_size_has_the_buckets_aspect_and_lies_inside():
    generator = random.Random(1)
    for _ in range(300):
        crop = CropBox(
            left=generator.randint(0, 50),
            top=generator.randint(0, 50),
            width=generator.randint(64, 2000),
            height=generator.randint(64, 2000),
        )
        pixel_aspect = generator.choice([1.0, 1.0, 16 / 15, 0.75])
        size = trained_size(crop, pixel_aspect, 512)
        part = size.crop
        assert part.left >= crop.left
        assert part.top >= crop.top
        assert part.left + part.width <= crop.left + crop.width
        assert part.top + part.height <= crop.top + crop.height
        # Rounding to whole pixels is all that may distort.
        tolerance = 1.0 / min(part.width, part.height)
        shown_aspect = part.width * pixel_aspect / part.height
        assert shown_aspect == pytest.approx(size.width / size.height, rel=tolerance + 1e-6)
        # One of the two sides is used whole, and the cut is centred.
        assert part.width == crop.width or part.height == crop.height
        assert abs((part.left - crop.left) * 2 + part.width - crop.width) <= 1
        assert abs((part.top - crop.top) * 2 + part.height - crop.height) <= 1
