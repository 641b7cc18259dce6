"""Bucket sizes: at which width and height a picture trains."""

import math
from functools import lru_cache

from trainer.protocol.job import BucketSize, CropBox, TrainedSize

SIZE_STEP = 16
"""Pixel sizes are multiples of this: VAE stride 8 times patch size 2."""


@lru_cache(maxsize=4096)
def bucket_for(width: float, height: float, resolution: int, *, allow_upscale: bool = False) -> BucketSize:
    """The bucket of a picture: the area of resolution², its own aspect, not above its own size.

    Args:
        width: Displayed width of the (cropped) picture, in square pixels.
        height: Displayed height.
        resolution: Side of the square whose area is wanted.
        allow_upscale: Whether a smaller picture is enlarged to that area.

    Returns:
        Multiples of 16, each at least 16. Of the four roundings around the exact size that keep the
        limits, the one with the aspect nearest to the picture's.
    """
    area = resolution * resolution if allow_upscale else min(resolution * resolution, width * height)
    exact_width = math.sqrt(area * width / height)
    exact_height = math.sqrt(area * height / width)
    candidates = [
        (rounded_width, rounded_height)
        for rounded_width in _steps_around(exact_width)
        for rounded_height in _steps_around(exact_height)
        if rounded_width * rounded_height <= max(area, SIZE_STEP * SIZE_STEP) * 1.02
        and (allow_upscale or rounded_width <= max(width, SIZE_STEP))
        and (allow_upscale or rounded_height <= max(height, SIZE_STEP))
    ] or [(_steps_around(exact_width)[0], _steps_around(exact_height)[0])]

    def misfit(size: tuple[int, int]) -> float:
        aspect_error = abs(math.log(size[0] / size[1] * height / width))
        area_loss = abs(math.log(size[0] * size[1] / area))
        return aspect_error + 0.5 * area_loss

    best_width, best_height = min(candidates, key=misfit)
    return BucketSize(width=best_width, height=best_height)


def trained_size(
    crop: CropBox, pixel_aspect: float, resolution: int, *, allow_upscale: bool = False
) -> TrainedSize:
    """The bucket of a cropped picture, and the part of the crop, centred, that fills it undistorted."""
    bucket = bucket_for(crop.width * pixel_aspect, crop.height, resolution, allow_upscale=allow_upscale)
    wanted_aspect = bucket.width / bucket.height / pixel_aspect
    width, height = crop.width, crop.height
    if width / height > wanted_aspect:
        width = max(1, round(height * wanted_aspect))
    else:
        height = max(1, round(width / wanted_aspect))
    return TrainedSize(
        width=bucket.width,
        height=bucket.height,
        crop=CropBox(
            left=crop.left + (crop.width - width) // 2,
            top=crop.top + (crop.height - height) // 2,
            width=width,
            height=height,
        ),
    )


def _steps_around(pixels: float) -> tuple[int, int]:
    lower = max(SIZE_STEP, math.floor(pixels / SIZE_STEP) * SIZE_STEP)
    return lower, lower + SIZE_STEP
