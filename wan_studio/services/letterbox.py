"""Black bars around the picture: found where every one of some frames is black."""

import numpy as np
from numpy.typing import NDArray

from trainer.protocol.job import CropBox
from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.services.frame_reader import FrameReader

_PICTURES = 9
_BLACK = 28
"""Of 255: a bar's noise after lossy coding stays below."""
_THINNEST_SHARE = 0.012
_LEAST_LEFT_SHARE = 0.3


def picture_without_bars(source: SourceVideo, trim: TrimRange) -> CropBox | None:
    """The part of the upright picture that is not black bars; None where there are none.

    Frames of the whole range are looked at, so that a dark scene is not taken for bars; a bar is
    cut with one pixel more, where the codec smears the edge.

    Raises:
        UnreadableVideoError: the source cannot be read.
    """
    last = trim.end_frame - 1
    frames = sorted(
        {round(trim.start_frame + (last - trim.start_frame) * i / (_PICTURES - 1)) for i in range(_PICTURES)}
    )
    brightest: NDArray[np.uint8] | None = None
    with FrameReader(source) as reader:
        for frame in frames:
            shown = reader.read(frame).max(axis=2)
            brightest = shown if brightest is None else np.maximum(brightest, shown)
    if brightest is None:
        return None
    # A few bright pixels in a row are noise or a watermark, not the picture.
    rows = np.quantile(brightest, 0.97, axis=1) > _BLACK
    columns = np.quantile(brightest, 0.97, axis=0) > _BLACK
    if not rows.any() or not columns.any():
        return None
    top, bottom = _edges(rows, source.height)
    left, right = _edges(columns, source.width)
    box = CropBox(left=left, top=top, width=right - left, height=bottom - top)
    is_whole = (box.width, box.height) == (source.width, source.height)
    is_most = box.width * box.height >= _LEAST_LEFT_SHARE * source.width * source.height
    return box if is_most and not is_whole else None


def _edges(is_picture: NDArray[np.bool_], length: int) -> tuple[int, int]:
    """First and end of the picture along one side; thin bars are left alone."""
    shown = np.flatnonzero(is_picture)
    first, end = int(shown[0]), int(shown[-1]) + 1
    thinnest = max(2, round(_THINNEST_SHARE * length))
    first = first + 1 if first >= thinnest else 0
    end = end - 1 if length - end >= thinnest else length
    return first, end
