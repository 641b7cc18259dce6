"""Exact frames of a source by their number: seeks by time stamp, steps without seeking."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from wan_studio.domain.clip import SourceVideo
from wan_studio.services.media_probe import (
    MEDIA_ERRORS,
    UnreadableVideoError,
    open_media,
    picture_stream,
    pts_of,
)

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Picture = NDArray[np.uint8]
"""Upright RGB picture: (height, width, 3), 0..255."""

CACHE_BYTES = 96 * 1024 * 1024
STEP_FRAMES = 24
"""A frame at most this far ahead is reached by decoding on, which beats seeking."""

_COLOURSPACE_UNSPECIFIED = 2
_CONVERSION = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


class FrameReader:
    """Reads one source. Not thread-safe: one reader for each thread.

    The last decoded frames are kept, as the decoder gave them, so that going back a few frames
    is as fast as going on.
    """

    def __init__(self, source: SourceVideo, cache_bytes: int = CACHE_BYTES) -> None:
        self._source = source
        self._cache_limit = cache_bytes
        self._path = Path(source.path)
        self._resources = ExitStack()
        self._reformatter = VideoReformatter()
        self._opened: tuple[InputContainer, VideoStream] | None = None
        self._frames: Iterator[VideoFrame] = iter(())
        self._position: int | None = None
        self._cache: OrderedDict[int, VideoFrame] = OrderedDict()
        self._cache_bytes = 0

    def __enter__(self) -> "FrameReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def source(self) -> SourceVideo:
        return self._source

    def is_near(self, frame_index: int) -> bool:
        """Whether a frame is kept, or a few frames ahead of the last one: it needs no seek."""
        pts = self._source.frame_pts
        if not 0 <= frame_index < len(pts):
            return False
        nearest = pts[max(0, frame_index - STEP_FRAMES)]
        is_ahead = self._position is not None and nearest <= self._position < pts[frame_index]
        return is_ahead or pts[frame_index] in self._cache

    def read(self, frame_index: int) -> Picture:
        """The frame at its own size, (source.height, source.width, 3) RGB, upright.

        Raises:
            IndexError: the source has no such frame.
            UnreadableVideoError: the file changed, vanished or is damaged there.
        """
        frame = self._frame(frame_index)
        width, height = self._decoded_size
        return self._to_upright(frame, width, height)

    def read_scaled(self, frame_index: int, max_width: int, max_height: int) -> Picture:
        """The frame with square pixels, as large as fits into the given size, never enlarged.

        Raises:
            IndexError: the source has no such frame.
            UnreadableVideoError: the file changed, vanished or is damaged there.
        """
        frame = self._frame(frame_index)
        width, height = _decoded_size_within(self._source, max_width, max_height)
        return self._to_upright(frame, width, height)

    def decoded(self, frame_index: int) -> "VideoFrame":
        """The frame as the decoder gave it: its own format, not turned. It is only to be read.

        Raises:
            IndexError: the source has no such frame.
            UnreadableVideoError: the file changed, vanished or is damaged there.
        """
        return self._frame(frame_index)

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        self._frames = iter(())
        self._position = None
        self._opened = None
        self._cache.clear()
        self._cache_bytes = 0
        self._resources.close()

    @property
    def _decoded_size(self) -> tuple[int, int]:
        width, height = self._source.width, self._source.height
        return (height, width) if self._source.rotation in {90, 270} else (width, height)

    def _to_upright(self, frame: "VideoFrame", width: int, height: int) -> Picture:
        """Convert a decoded frame, at the given size before it is turned."""
        return _converted(self._source, frame, width, height, self._reformatter)

    def _frame(self, frame_index: int) -> "VideoFrame":
        if not 0 <= frame_index < self._source.frame_count:
            raise IndexError(f"{self._source.name} has no frame {frame_index}.")
        wanted_pts = self._source.frame_pts[frame_index]
        kept = self._cache.get(wanted_pts)
        if kept is not None:
            self._cache.move_to_end(wanted_pts)
            return kept
        try:
            found = self._find(frame_index, wanted_pts)
        except MEDIA_ERRORS as error:
            self.close()
            raise UnreadableVideoError(
                self._path, f"cannot be read at frame {frame_index} ({error}).", "Import it again."
            ) from error
        if found is None:
            self.close()
            raise UnreadableVideoError(
                self._path, f"no longer has frame {frame_index}.", "It was changed; import it again."
            )
        return found

    def _find(self, frame_index: int, wanted_pts: int) -> "VideoFrame | None":
        """Try the cheapest way first; a seek that lands too late is followed by one from further back."""
        if self._source.is_image:
            return self._only_frame(wanted_pts)
        pts = self._source.frame_pts
        nearest = pts[max(0, frame_index - STEP_FRAMES)]
        if self._position is not None and nearest <= self._position < wanted_pts:
            found = self._decode_to(wanted_pts)
            if found is not None:
                return found
        for frames_back in (0, 60, 300):
            if frame_index <= frames_back:
                break
            self._seek(pts[frame_index - frames_back])
            found = self._decode_to(wanted_pts)
            if found is not None:
                return found
        self._open()
        return self._decode_to(wanted_pts)

    def _only_frame(self, wanted_pts: int) -> "VideoFrame | None":
        self._open()
        for frame in self._frames:
            self._keep(frame, wanted_pts)
            return frame
        return None

    def _decode_to(self, wanted_pts: int) -> "VideoFrame | None":
        """Decode on until the frame; None when it is not ahead."""
        for frame in self._frames:
            pts = pts_of(frame)
            if pts is None:
                continue
            self._position = pts
            self._keep(frame, pts)
            if pts >= wanted_pts:
                return frame if pts == wanted_pts else None
        self._position = None
        return None

    def _seek(self, pts: int) -> None:
        opened = self._opened
        if opened is None:
            # An x264 file names its encoder's version in its first packet only, and FFmpeg decodes some
            # files by it: a seek before that packet was seen gives garbage that is not marked as damaged.
            opened = self._open()
            next(self._frames, None)
        container, stream = opened
        container.seek(pts, stream=stream, backward=True)
        self._frames = container.decode(stream)
        self._position = None

    def _open(self) -> "tuple[InputContainer, VideoStream]":
        """Open the file afresh, at its start."""
        self._resources.close()
        container = self._resources.enter_context(open_media(self._path))
        stream = picture_stream(self._path, container)
        # Slices need no run-up of frames after a seek, as frame threads do.
        stream.thread_type = "SLICE"
        self._opened = container, stream
        self._frames = container.decode(stream)
        self._position = None
        return self._opened

    def _keep(self, frame: "VideoFrame", pts: int) -> None:
        if pts in self._cache:
            return
        self._cache[pts] = frame
        self._cache_bytes += _frame_bytes(frame)
        while self._cache_bytes > self._cache_limit and len(self._cache) > 1:
            _, dropped = self._cache.popitem(last=False)
            self._cache_bytes -= _frame_bytes(dropped)


def _frame_bytes(frame: "VideoFrame") -> int:
    return sum(plane.buffer_size for plane in frame.planes)


def upright_picture(source: SourceVideo, frame: "VideoFrame", max_width: int, max_height: int) -> Picture:
    """A decoded frame with square pixels, upright, as large as fits into the given size."""
    width, height = _decoded_size_within(source, max_width, max_height)
    return _converted(source, frame, width, height, VideoReformatter())


def _decoded_size_within(source: SourceVideo, max_width: int, max_height: int) -> tuple[int, int]:
    """The size, before it is turned, that fits when upright; never enlarged."""
    shown_width = source.width * source.pixel_aspect
    scale = min(1.0, max_width / shown_width, max_height / source.height)
    width, height = max(1, round(shown_width * scale)), max(1, round(source.height * scale))
    return (height, width) if source.rotation in {90, 270} else (width, height)


def _converted(
    source: SourceVideo, frame: "VideoFrame", width: int, height: int, reformatter: VideoReformatter
) -> Picture:
    # A file without a tag: players take BT.709 for high definition and BT.601 below.
    is_untagged = int(frame.colorspace) == _COLOURSPACE_UNSPECIFIED
    is_hd = frame.width >= 1280 or frame.height > 576
    picture = reformatter.reformat(
        frame,
        width=width,
        height=height,
        format="rgb24",
        src_colorspace=Colorspace.ITU709 if is_untagged and is_hd else None,
        dst_color_range=ColorRange.JPEG,
        interpolation=_CONVERSION,
    ).to_ndarray()
    turned = np.rot90(picture, source.rotation // 90)
    return np.ascontiguousarray(turned, dtype=np.uint8)
