"""From a decoded frame to the picture that trains: right colours, upright, cropped, resized.

Colour conversion is FFmpeg's (it knows every pixel format, matrix and range). Cropping and
resizing are Pillow's: it cuts at the exact pixel, whereas FFmpeg's crop and scale work on
subsampled colour, and its Lanczos is the filter with which diffusers prepares the control image
at inference. Pillow comes with diffusers.
"""

# H, W height and width in pixels, C colour channels (red, green, blue)

import io
from pathlib import Path
from typing import Any, NamedTuple, cast

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray
from PIL import Image, ImageFilter, UnidentifiedImageError

from trainer.data.tone_mapping import ToneMapper
from trainer.protocol.job import CropBox
from trainer.protocol.tone_map import is_hdr

Picture = NDArray[np.uint8]

_CONVERSION = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_UNSPECIFIED_COLORSPACE = 2
_ORIENTATION_TAG = 0x0112
# For each EXIF orientation: transpose, then flip rows, then flip columns makes it upright.
_EXIF_TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


class Colours(NamedTuple):
    """What turns frames into pictures; kept by the caller from frame to frame, so that its tables are built once."""

    reformatter: VideoReformatter
    tone_mapper: ToneMapper


def new_colours() -> Colours:
    """For one video."""
    return Colours(VideoReformatter(), ToneMapper())


def upright_rgb(frame: av.VideoFrame, colours: Colours, orientation: int = 0) -> Picture:
    """The frame as an upright picture of 8-bit full-range RGB in BT.709; HDR is tone-mapped.

    Args:
        frame: Decoded frame of any pixel format; 10 and 12 bits become 8.
        colours: From `new_colours`.
        orientation: EXIF orientation (1 to 8) of a still image; 0 takes the frame's display matrix.

    Returns:
        uint8 (H, W, 3).

    Raises:
        av.error.FFmpegError: the frame's colours cannot be converted.
    """
    reformatter, tone_mapper = colours
    if is_hdr(int(frame.color_trc)):
        converted = reformatter.reformat(
            tone_mapper.mapped(frame, _CONVERSION), format="rgb24", interpolation=_CONVERSION, threads=1
        )
        return _upright(cast("Picture", converted.to_ndarray()), frame, orientation)
    # A file without a tag: players take BT.709 for high definition and BT.601 below.
    untagged_hd = frame.colorspace == _UNSPECIFIED_COLORSPACE and (frame.width >= 1280 or frame.height > 576)
    converted = reformatter.reformat(
        frame,
        format="rgb24",
        src_colorspace=Colorspace.ITU709 if untagged_hd else None,
        dst_color_range=ColorRange.JPEG,
        interpolation=_CONVERSION,
        threads=1,
    )
    return _upright(cast("Picture", converted.to_ndarray()), frame, orientation)


def _upright(stored_HWC: Picture, frame: av.VideoFrame, orientation: int) -> Picture:
    turns = _EXIF_TURNS[orientation] if orientation else _turns_of(frame)
    return np.ascontiguousarray(_turned(stored_HWC, turns))


def exif_orientation(path: Path) -> int:
    """EXIF orientation of a still image, 1 to 8; 0 when it has none or cannot be read.

    FFmpeg reports only the angle, so that a mirrored picture would come out upside down.
    """
    try:
        with Image.open(path) as image:
            found = image.getexif().get(_ORIENTATION_TAG, 0)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 0
    return found if found in _EXIF_TURNS else 0


def resize_crop(picture_HWC: Picture, crop: CropBox, width: int, height: int) -> Picture:
    """Cut the box out of the picture and resize it to width x height with an antialiased Lanczos filter.

    Raises:
        ValueError: the box reaches beyond the picture.
    """
    picture_height, picture_width = picture_HWC.shape[:2]
    right, bottom = crop.left + crop.width, crop.top + crop.height
    if right > picture_width or bottom > picture_height:
        raise ValueError(
            f"the crop reaches to {right} x {bottom}, the picture is {picture_width} x {picture_height}"
        )
    # Cut first: Pillow's filter would look beyond a box, and bring back the edge of what was cropped away.
    cut_HWC = np.ascontiguousarray(picture_HWC[crop.top : bottom, crop.left : right])
    if (crop.width, crop.height) == (width, height):
        return cut_HWC.copy()
    return _resized(cut_HWC, (0, 0, crop.width, crop.height), width, height)


def degraded(picture_HWC: Picture, blur_pixels: float, jpeg_quality: int) -> Picture:
    """The picture blurred and compressed, as a picture from elsewhere might be.

    Args:
        picture_HWC: uint8 (H, W, 3).
        blur_pixels: Standard deviation of the Gaussian blur; 0 blurs nothing.
        jpeg_quality: 1 to 100; 100 compresses nothing.
    """
    image = Image.fromarray(picture_HWC)
    if blur_pixels > 0:
        image = image.filter(ImageFilter.GaussianBlur(blur_pixels))
    if jpeg_quality < 100:
        compressed = io.BytesIO()
        image.save(compressed, "JPEG", quality=jpeg_quality)
        image = Image.open(compressed)
    return np.array(image.convert("RGB"))


def cover_frame(picture_HWC: Picture, width: int, height: int) -> Picture:
    """Scale the picture until it covers width x height, and cut the middle out: for control images.

    Returns:
        uint8 (height, width, 3).
    """
    picture_height, picture_width = picture_HWC.shape[:2]
    scale = max(width / picture_width, height / picture_height)
    box_width, box_height = width / scale, height / scale
    left, top = (picture_width - box_width) / 2, (picture_height - box_height) / 2
    # Rounding may leave the box a hair outside, which Pillow refuses.
    right, bottom = min(left + box_width, picture_width), min(top + box_height, picture_height)
    return _resized(picture_HWC, (max(left, 0.0), max(top, 0.0), right, bottom), width, height)


def _resized(
    picture_HWC: Picture, box: tuple[float, float, float, float], width: int, height: int
) -> Picture:
    image = Image.fromarray(picture_HWC).resize((width, height), Image.Resampling.LANCZOS, box=box)
    return np.asarray(image).copy()


def _turned(picture_HWC: Picture, turns: tuple[bool, bool, bool]) -> Picture:
    transpose, flip_rows, flip_columns = turns
    turned = picture_HWC.transpose(1, 0, 2) if transpose else picture_HWC
    return turned[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def _turns_of(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """Which turns make the frame upright, by its display matrix, mirrored ones included."""
    try:
        matrix = np.frombuffer(bytes(cast("Any", frame).side_data["DISPLAYMATRIX"]), np.int32)
    except (KeyError, ValueError):
        # PyAV raises ValueError when the frame carries any side data that it has no name for.
        quarter_turns = round(frame.rotation / 90) % 4
        return _EXIF_TURNS[(1, 8, 3, 6)[quarter_turns]]
    # Where a source pixel (column p, row q) is shown: x = a p + c q, y = b p + d q.
    a, b, c, d = (int(matrix[index]) for index in (0, 1, 3, 4))
    if abs(b) > abs(a):
        return True, b < 0, c < 0
    return False, d < 0, a < 0
