"""HDR frames as pictures of ordinary range, by the table of `trainer.protocol.tone_map`.

The app's `services/picture_colours.py` takes the same steps, and `tests/contract/test_seen_is_trained.py`
holds the two to equal pixels.
"""

import tempfile
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, cast

import av
import av.filter
from av.video.format import VideoFormat
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from trainer.protocol.tone_map import cube_text

__all__ = ["ToneMapper"]

_UNSPECIFIED_COLORSPACE = 2
_DEEP = "gbrp16le"


class ToneMapper:
    """Maps frames of one video; keeps its filter from frame to frame."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._graph: tuple[object, av.filter.Graph] | None = None

    def mapped(self, frame: av.VideoFrame, conversion: Interpolation) -> av.VideoFrame:
        """A PQ or HLG frame as BT.709 in 16-bit RGB of full range, not turned.

        Raises:
            av.error.FFmpegError: the frame's colours cannot be converted.
        """
        is_untagged = frame.colorspace == _UNSPECIFIED_COLORSPACE
        deep = self._reformatter.reformat(
            frame,
            format=_DEEP,
            src_colorspace=Colorspace.BT2020 if is_untagged else None,
            dst_color_range=ColorRange.JPEG,
            interpolation=conversion,
            threads=1,
        )
        key = (int(frame.color_trc), frame.width, frame.height)
        if self._graph is None or self._graph[0] != key:
            self._graph = key, _graph_for(*key)
        graph = self._graph[1]
        graph.push(deep)
        return cast("av.VideoFrame", graph.pull())


def _graph_for(transfer: int, width: int, height: int) -> av.filter.Graph:
    graph = av.filter.Graph()
    # PyAV's types know no keyword options of filters.
    untyped = cast("Any", graph)
    source = untyped.add_buffer(
        width=width, height=height, format=VideoFormat(_DEEP, width, height), time_base=Fraction(1, 1000)
    )
    # The filter reads its table from a file, and only while it is made.
    with tempfile.TemporaryDirectory(prefix="wan-trainer-") as folder:
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
