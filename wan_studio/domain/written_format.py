"""In which pixel format a frame is written: its own wherever the encoder has it."""

import re
from dataclasses import dataclass
from typing import Literal

_PACKED_YUV = {
    "nv12": "yuv420p",
    "nv21": "yuv420p",
    "nv16": "yuv422p",
    "nv24": "yuv444p",
    "yuyv422": "yuv422p",
    "uyvy422": "yuv422p",
    "p010le": "yuv420p10le",
    "p210le": "yuv422p10le",
}
_CHROMA = {"h264": ("420", "422", "444"), "ffv1": ("420", "422", "440", "444")}
_DEPTHS = {"h264": (8, 10), "ffv1": (8, 9, 10, 12, 14, 16)}
_RGB_DEPTHS = (9, 10, 12, 14, 16)


@dataclass(frozen=True, slots=True)
class WrittenFormat:
    """How a frame is written.

    Attributes:
        name: Pixel format of the file.
        through: Format to which the frame is converted first, of the same layout; empty where its own is.
        is_full_range: Whether luma uses all values; None as the frame says.
        from_rgb: Whether red, green and blue become luma and colour differences.
    """

    name: str
    through: str = ""
    is_full_range: bool | None = None
    from_rgb: bool = False


def written_format(
    name: str, bits: int, codec: Literal["h264", "ffv1"], *, is_turned: bool, is_rgb: bool
) -> WrittenFormat:
    """The format for frames of the format `name`.

    FFV1 has every usual format; only colour that is a quarter as wide as the picture, or that a quarter
    turn would change (4:2:2), becomes 4:4:4. H.264 has 8 and 10 bits, and no RGB here.

    Args:
        name: As FFmpeg calls it.
        bits: Of the widest component.
        codec: What encodes.
        is_turned: Whether the picture is turned by 90 or 270 degrees.
        is_rgb: Whether it is made of red, green and blue, or of a palette of them.
    """
    known = re.fullmatch(r"yuv(j?)a?(4\d\d)p(\d*)(?:le|be)?", _PACKED_YUV.get(name, name))
    if known is not None:
        return _yuv(name, known, codec, is_turned=is_turned)
    if name.startswith("gray") and not is_rgb:
        if codec == "ffv1":
            depth = _at_least(bits, _DEPTHS["ffv1"])
            plain = "gray" if depth == 8 else f"gray{depth}le"
            return WrittenFormat(plain, "" if name == plain else plain)
        plain = "yuv420p" if bits <= 8 else "yuv420p10le"
        return WrittenFormat(plain, plain)
    if codec == "ffv1":
        plain = "bgr0" if bits <= 8 else f"gbrp{_at_least(bits, _RGB_DEPTHS)}le"
        return WrittenFormat(plain, "" if name == plain else plain)
    plain = "yuv444p" if bits <= 8 else "yuv444p10le"
    return WrittenFormat(plain, plain, is_full_range=False, from_rgb=True)


def _yuv(
    name: str, known: re.Match[str], codec: Literal["h264", "ffv1"], *, is_turned: bool
) -> WrittenFormat:
    is_full, chroma, depth = known.group(1), known.group(2), int(known.group(3) or 8)
    written_chroma, written_depth = chroma, _at_least(depth, _DEPTHS[codec])
    if chroma not in _CHROMA[codec] or (is_turned and chroma in ("422", "440")):
        written_chroma = "444"
    ending = "" if written_depth == 8 else f"{written_depth}le"
    plain = f"yuv{written_chroma}p{ending}"
    # "yuvj" is an old name of full range, not another layout: converting to "yuv" would squeeze the range.
    through = f"yuvj{written_chroma}p" if is_full and written_depth == 8 else plain
    return WrittenFormat(plain, "" if through == name else through, is_full_range=True if is_full else None)


def _at_least(bits: int, depths: tuple[int, ...]) -> int:
    return next((depth for depth in depths if depth >= bits), depths[-1])
