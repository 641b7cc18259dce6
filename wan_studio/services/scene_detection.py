"""Where scenes change: FFmpeg's `scdet` filter on small grey pictures."""

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from av.filter import Graph
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

GREY_WIDTH, GREY_HEIGHT = 160, 90

GreyPicture = NDArray[np.uint8]


class SceneDetector:
    """Takes the frames of one video in their order; for each gives a score and the small grey picture.

    The picture has no aspect of its own: 160 x 90, whatever the video's.
    """

    def __init__(self, stream: "VideoStream") -> None:
        self._stream = stream
        self._graph: Graph | None = None
        self._size = (0, 0)

    def look_at(self, frame: "VideoFrame") -> tuple[float, GreyPicture]:
        """How likely a scene begins with this frame (0 to 100, 10 is a cut), and its picture.

        Raises:
            av.error.FFmpegError: the filter cannot take the frame.
        """
        if self._graph is None or self._size != (frame.width, frame.height):
            self._graph = self._build(frame)
            self._size = (frame.width, frame.height)
        self._graph.vpush(frame)
        small = self._graph.vpull()
        score = float(small.metadata.get("lavfi.scd.score", 0.0))
        return score, np.asarray(small.to_ndarray(), np.uint8)

    def _build(self, frame: "VideoFrame") -> Graph:
        graph = Graph()
        source = graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=self._stream.time_base,
        )
        parts = [
            source,
            graph.add("scale", f"{GREY_WIDTH}:{GREY_HEIGHT}:flags=area"),
            # In colour: of YUV the filter sees brightness alone, and scenes may differ in colour only.
            graph.add("format", "rgb24"),
            graph.add("scdet", "threshold=100"),
            graph.add("format", "gray"),
            graph.add("buffersink"),
        ]
        for one, following in pairwise(parts):
            one.link_to(following)
        graph.configure()
        return graph
