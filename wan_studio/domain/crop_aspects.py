"""Crops: the aspects that the buckets have, and boxes that keep one."""

from dataclasses import dataclass

from trainer.protocol.job import CropBox
from wan_studio.domain.buckets import SIZE_STEP, bucket_for

SMALLEST_SIDE = 2 * SIZE_STEP
"""Pixels; a smaller crop has nothing to learn from."""

_RATIOS = ((21, 9), (16, 9), (3, 2), (4, 3), (1, 1), (3, 4), (2, 3), (9, 16))


@dataclass(frozen=True, slots=True)
class CropAspect:
    """An aspect that a crop can be held to.

    Attributes:
        name: For the user.
        ratio: Displayed width divided by height; None is free.
    """

    name: str
    ratio: float | None


FREE = CropAspect("Free", None)


def crop_aspects(width: float, height: float, resolution: int) -> tuple[CropAspect, ...]:
    """Free, and the buckets of the common aspects at a resolution: a crop of that aspect loses nothing more.

    Args:
        width: Of the whole picture, displayed in square pixels.
        height: The same.
        resolution: Side of the square whose area the buckets keep.
    """
    found: dict[tuple[int, int], CropAspect] = {}
    for across, down in _RATIOS:
        scale = min(width / across, height / down)
        bucket = bucket_for(across * scale, down * scale, resolution)
        name = f"{across}:{down}, {bucket.width} × {bucket.height}"
        found.setdefault((bucket.width, bucket.height), CropAspect(name, bucket.width / bucket.height))
    return (FREE, *found.values())


def largest_crop(whole: CropBox, ratio: float) -> CropBox:
    """The largest box of an aspect (in pixels of the source), in the middle of a picture."""
    width, height = whole.width, whole.height
    if width / height > ratio:
        width = max(1, round(height * ratio))
    else:
        height = max(1, round(width / ratio))
    return CropBox(
        left=whole.left + (whole.width - width) // 2,
        top=whole.top + (whole.height - height) // 2,
        width=width,
        height=height,
    )


def moved_crop(crop: CropBox, whole: CropBox, across: int, down: int) -> CropBox:
    """The box moved, as far as the picture goes."""
    left = min(max(crop.left + across, whole.left), whole.left + whole.width - crop.width)
    top = min(max(crop.top + down, whole.top), whole.top + whole.height - crop.height)
    return CropBox(left=left, top=top, width=crop.width, height=crop.height)


def dragged_crop(
    anchor: tuple[float, float], corner: tuple[float, float], whole: CropBox, ratio: float | None
) -> CropBox:
    """The box between a corner that stays and one that follows the hand, inside the picture.

    Args:
        anchor: The corner that stays, in pixels of the source.
        corner: Where the other one is wished.
        whole: The whole picture.
        ratio: Width divided by height in pixels of the source; None is free.
    """
    anchor_x = min(max(anchor[0], whole.left), whole.left + whole.width)
    anchor_y = min(max(anchor[1], whole.top), whole.top + whole.height)
    goes_right, room_x = _direction(anchor_x - whole.left, corner[0] - anchor_x, whole.width)
    goes_down, room_y = _direction(anchor_y - whole.top, corner[1] - anchor_y, whole.height)
    smallest_x, smallest_y = min(SMALLEST_SIDE, room_x), min(SMALLEST_SIDE, room_y)
    width = min(max(abs(corner[0] - anchor_x), smallest_x), room_x)
    height = min(max(abs(corner[1] - anchor_y), smallest_y), room_y)
    if ratio is not None:
        width = max(width, height * ratio)
        width = min(width, room_x, room_y * ratio)
        height = width / ratio
    left = round(anchor_x if goes_right else anchor_x - width)
    top = round(anchor_y if goes_down else anchor_y - height)
    left, top = max(left, whole.left), max(top, whole.top)
    return CropBox(
        left=left,
        top=top,
        width=max(1, min(round(width), whole.left + whole.width - left)),
        height=max(1, min(round(height), whole.top + whole.height - top)),
    )


def _direction(before: float, wished: float, length: float) -> tuple[bool, float]:
    """Whether the box lies after its fixed corner along one side, and how much room there is.

    It lies where the hand is, unless there is no room for the smallest box.
    """
    after = length - before
    is_after = wished > 0 or (wished == 0 and after > before)
    if (after if is_after else before) < min(SMALLEST_SIDE, length / 2):
        is_after = not is_after
    return is_after, after if is_after else before
