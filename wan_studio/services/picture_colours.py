"""From a decoded frame to RGB, as the trainer converts it (`trainer.data.pictures`): SDR by FFmpeg, HDR tone-mapped."""

import tempfile
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from trainer.protocol.tone_map import cube_text, is_hdr

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Picture = NDArray[np.uint8]
"""RGB picture: (height, width, 3), 0..255; grey ones are (height, width)."""

_UNSPECIFIED = 2
_CONVERSION = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_DEEP = "gbrp16le"


class ColourConverter:
    """Converts frames of one video; keeps its tables from frame to frame. For one thread."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._deep = VideoReformatter()
        self._grey = VideoReformatter()
        self._graph: tuple[object, Graph] | None = None

    def rgb(self, frame: "VideoFrame", width: int, height: int) -> Picture:
        """The frame at this size, full-range RGB, not turned.

        Raises:
            av.error.FFmpegError: its colours cannot be converted.
        """
        if is_hdr(int(frame.color_trc)):
            return self._tone_mapped(frame, width, height)
        # A file without a tag: players take BT.709 for high definition and BT.601 below.
        is_untagged = int(frame.colorspace) == _UNSPECIFIED
        is_hd = frame.width >= 1280 or frame.height > 576
        converted = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            src_colorspace=Colorspace.ITU709 if is_untagged and is_hd else None,
            dst_color_range=ColorRange.JPEG,
            interpolation=_CONVERSION,
            threads=1,
        )
        return cast("Picture", converted.to_ndarray())

    def grey(self, frame: "VideoFrame", width: int, height: int) -> Picture:
        """The frame's brightness at this size, (height, width), full range, not turned; HDR as it is stored."""
        converted = self._grey.reformat(
            frame,
            width=width,
            height=height,
            format="gray",
            dst_color_range=ColorRange.JPEG,
            interpolation=Interpolation.BICUBIC,
        )
        return cast("Picture", converted.to_ndarray())

    def _tone_mapped(self, frame: "VideoFrame", width: int, height: int) -> Picture:
        is_untagged = int(frame.colorspace) == _UNSPECIFIED
        transfer = int(frame.color_trc)
        deep = self._deep.reformat(
            frame,
            width=width,
            height=height,
            format=_DEEP,
            src_colorspace=Colorspace.BT2020 if is_untagged else None,
            dst_color_range=ColorRange.JPEG,
            interpolation=_CONVERSION,
            threads=1,
        )
        key = (transfer, width, height)
        if self._graph is None or self._graph[0] != key:
            self._graph = key, _tone_map_graph(transfer, width, height)
        graph = self._graph[1]
        graph.push(deep)
        mapped = cast("VideoFrame", graph.pull())
        converted = self._reformatter.reformat(mapped, format="rgb24", interpolation=_CONVERSION, threads=1)
        return cast("Picture", converted.to_ndarray())


def _tone_map_graph(transfer: int, width: int, height: int) -> Graph:
    graph = Graph()
    # PyAV's types know no keyword options of filters.
    untyped = cast("Any", graph)
    source = untyped.add_buffer(
        width=width, height=height, format=VideoFormat(_DEEP, width, height), time_base=Fraction(1, 1000)
    )
    # The filter reads its table from a file, and only while it is made.
    with tempfile.TemporaryDirectory(prefix="wan-studio-") as folder:
        cube = Path(folder) / "tone_map.cube"
        cube.write_text(_cube(transfer), encoding="ascii")
        table = untyped.add("lut3d", file=str(cube), interp="tetrahedral")
        sink = untyped.add("buffersink")
        source.link_to(table)
        table.link_to(sink)
        graph.configure()
    return graph


@cache
def _cube(transfer: int) -> str:
    return cube_text(transfer)
