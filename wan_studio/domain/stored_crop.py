"""A crop of the upright picture, as a part of the picture that is stored."""

from trainer.protocol.job import CropBox
from wan_studio.domain.clip import SourceVideo


def stored_crop(source: SourceVideo, crop: CropBox, *, is_even: bool) -> CropBox:
    """The same part before the picture is turned upright.

    Args:
        source: Its rotation counts.
        crop: Pixels of the upright picture.
        is_even: Whether all four sides are moved inward to even pixels, where 4:2:0 colour can be cut
            without a change; what is left of a crop of a pixel or two is two pixels, if there are as many.
    """
    right, bottom = crop.left + crop.width, crop.top + crop.height
    width, height = source.width, source.height
    match source.rotation:
        case 90:
            left, top, right, bottom = height - bottom, crop.left, height - crop.top, right
            width, height = height, width
        case 180:
            left, top, right, bottom = width - right, height - bottom, width - crop.left, height - crop.top
        case 270:
            left, top, right, bottom = crop.top, width - right, bottom, width - crop.left
            width, height = height, width
        case _:
            left, top = crop.left, crop.top
    if is_even:
        left, right = _even(left, right, width)
        top, bottom = _even(top, bottom, height)
    return CropBox(left=left, top=top, width=right - left, height=bottom - top)


def _even(start: int, end: int, length: int) -> tuple[int, int]:
    start, end = start + start % 2, end - end % 2
    if start >= end:
        start = max(0, min(start, length - length % 2 - 2))
        end = min(start + 2, length)
    return start, end
