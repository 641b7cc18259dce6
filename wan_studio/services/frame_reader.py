"""Exact frames of a source by their number: seeks by time stamp, steps without seeking."""

import os
from bisect import bisect_left, bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from wan_studio.domain.clip import SourceVideo
from wan_studio.services.media_probe import (
    MEDIA_ERRORS,
    UnreadableVideoError,
    open_media,
    picture_stream,
    pts_of,
)
from wan_studio.services.picture_colours import ColourConverter, Picture

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

CACHE_BYTES = 96 * 1024 * 1024
STEP_FRAMES = 24
"""A frame at most this far ahead is reached by decoding on, which beats seeking."""

_INDEXED_CONTAINERS = frozenset({"mov", "matroska"})
"""Their index names every keyframe."""
_THREADS = max(1, min(8, os.cpu_count() or 1))
_SKIPPABLE_CODECS = frozenset({"h264"})
"""In these a frame that is marked as unreferenced is needed for no other frame."""


class DecodingStopped(Exception):  # noqa: N818 - it is no error
    """`FrameReader.stop_when` held on the way to a frame; what was decoded is kept, and the way can be gone on."""


class FrameReader:
    """Reads one source. Not thread-safe: one reader for each thread.

    The last decoded frames are kept, as the decoder gave them, so that going back a few frames
    is as fast as going on.

    Args:
        cache_bytes: Memory for them.
        keep_back: So many frames before a wished one are kept; as many as there is room for when None.
    """

    def __init__(
        self, source: SourceVideo, cache_bytes: int = CACHE_BYTES, keep_back: int | None = None
    ) -> None:
        self._source = source
        self._cache_limit = cache_bytes
        room = cache_bytes // max(1, source.width * source.height * 3 // 2)
        self._keep_back = max(STEP_FRAMES, room) if keep_back is None else keep_back
        self._path = Path(source.path)
        self._resources = ExitStack()
        self._colours = ColourConverter()
        self._opened: tuple[InputContainer, VideoStream] | None = None
        self._packets: Iterator[Packet[VideoStream]] = iter(())
        self._decoded: deque[VideoFrame] = deque()
        self._position: int | None = None
        self._keys: tuple[int, ...] = ()
        self._cache: OrderedDict[int, VideoFrame] = OrderedDict()
        self._cache_bytes = 0
        self.on_key: Callable[[int, VideoFrame], object] | None = None
        """Told the number and picture of the keyframe that a seek lands on, if that is not the frame itself."""
        self.stop_when: Callable[[], bool] | None = None
        """Asked after each frame on the way to another one."""

    def __enter__(self) -> "FrameReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def source(self) -> SourceVideo:
        return self._source

    @property
    def position(self) -> int | None:
        """The last frame that was decoded, the next one being the cheapest; None after a seek or at the end."""
        return None if self._position is None else bisect_left(self._source.frame_pts, self._position)

    @property
    def cache_bytes(self) -> int:
        """Memory that the kept frames may take."""
        return self._cache_limit

    @property
    def kept_bytes(self) -> int:
        """Memory of the decoded frames that are kept."""
        return self._cache_bytes

    def is_kept(self, frame_index: int) -> bool:
        """Whether a frame needs no decoding any more."""
        return self._source.frame_pts[frame_index] in self._cache

    def key_before(self, frame_index: int) -> int | None:
        """The keyframe from which a frame is decoded; None where the file does not tell."""
        if self._opened is None and not self._source.is_image:
            self._open()
        if not self._keys:
            return None
        return self._keys[max(0, bisect_right(self._keys, frame_index) - 1)]

    def forget(self, frame_index: int) -> None:
        """A kept frame is not needed any more."""
        dropped = self._cache.pop(self._source.frame_pts[frame_index], None)
        if dropped is not None:
            self._cache_bytes -= _frame_bytes(dropped)

    def decode(self, frame_index: int) -> None:
        """Decode a frame, to be read later without waiting.

        Raises:
            IndexError: the source has no such frame.
            UnreadableVideoError: the file changed, vanished or is damaged there.
        """
        self._frame(frame_index)

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

    def read_grey(self, frame_index: int, max_width: int, max_height: int) -> Picture:
        """The same as `read_scaled` in grey levels, (height, width): a quarter of the work.

        Raises:
            IndexError: the source has no such frame.
            UnreadableVideoError: the file changed, vanished or is damaged there.
        """
        frame = self._frame(frame_index)
        width, height = _decoded_size_within(self._source, max_width, max_height)
        grey = self._colours.grey(frame, width, height)
        return np.ascontiguousarray(np.rot90(grey, self._source.rotation // 90), dtype=np.uint8)

    def picture(self, frame: "VideoFrame", max_width: int, max_height: int) -> Picture:
        """A decoded frame of this source as `read_scaled` gives it."""
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
        self._packets = iter(())
        self._decoded.clear()
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
        return _converted(self._source, frame, width, height, self._colours)

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
        if self._is_ahead_in_group(frame_index, wanted_pts):
            found = self._decode_to(frame_index, wanted_pts)
            if found is not None:
                return found
        for frames_back in (0, 60, 300):
            if frame_index <= frames_back:
                break
            self._seek(pts[frame_index - frames_back])
            found = self._decode_to(frame_index, wanted_pts)
            if found is not None:
                return found
        self._open()
        return self._decode_to(frame_index, wanted_pts)

    def _is_ahead_in_group(self, frame_index: int, wanted_pts: int) -> bool:
        """Whether decoding on reaches a frame sooner than a seek."""
        if self._position is None or self._position >= wanted_pts:
            return False
        pts = self._source.frame_pts
        key = self.key_before(frame_index)
        return pts[max(0, frame_index - STEP_FRAMES)] <= self._position or (
            key is not None and pts[key] <= self._position
        )

    def _only_frame(self, wanted_pts: int) -> "VideoFrame | None":
        self._open()
        frame = self._next_frame(None)
        if frame is not None:
            self._keep(frame, wanted_pts)
        return frame

    def _decode_to(self, frame_index: int, wanted_pts: int) -> "VideoFrame | None":
        """Decode on until the frame; None when it is not ahead."""
        keep_from = self._source.frame_pts[max(0, frame_index - self._keep_back)]
        is_first = self._position is None
        while (frame := self._next_frame(keep_from)) is not None:
            pts = pts_of(frame)
            if pts is None:
                continue
            self._position = pts
            if pts >= keep_from:
                self._keep(frame, pts)
            if pts >= wanted_pts:
                return frame if pts == wanted_pts else None
            if is_first and self.on_key is not None:
                self.on_key(bisect_left(self._source.frame_pts, pts), frame)
            is_first = False
            if self.stop_when is not None and self.stop_when():
                raise DecodingStopped
        self._position = None
        return None

    def _next_frame(self, keep_from: int | None) -> "VideoFrame | None":
        """The next frame that the decoder gives; before `keep_from` only those that others need."""
        while not self._decoded:
            packet = next(self._packets, None)
            if packet is None:
                return None
            context = packet.stream.codec_context
            if keep_from is not None and context.name in _SKIPPABLE_CODECS:
                is_passed = packet.pts is not None and packet.pts < keep_from
                context.skip_frame = "NONREF" if is_passed else "DEFAULT"
            self._decoded.extend(packet.decode())
        return self._decoded.popleft()

    def _seek(self, pts: int) -> None:
        opened = self._opened
        if opened is None:
            # An x264 file names its encoder's version in its first packet only, and FFmpeg decodes some
            # files by it: a seek before that packet was seen gives garbage that is not marked as damaged.
            opened = self._open()
            self._next_frame(None)
        container, stream = opened
        container.seek(pts, stream=stream, backward=True)
        self._decoded.clear()
        self._packets = container.demux(stream)
        self._position = None

    def _open(self) -> "tuple[InputContainer, VideoStream]":
        """Open the file afresh, at its start."""
        self._resources.close()
        container = self._resources.enter_context(open_media(self._path))
        stream = picture_stream(self._path, container)
        # Most encoders write one slice a picture, which only threads over frames can share. Each delays
        # the first frame after a seek by one.
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = _THREADS
        self._opened = container, stream
        self._decoded.clear()
        self._packets = container.demux(stream)
        self._position = None
        self._keys = self._keys_in(container, stream)
        return self._opened

    def _keys_in(self, container: "InputContainer", stream: "VideoStream") -> tuple[int, ...]:
        """Numbers of the keyframes, ascending; empty where the file's index does not name them all."""
        names = set(container.format.name.split(","))
        if not _INDEXED_CONTAINERS & names:
            return ()
        entries = stream.index_entries
        pts = self._source.frame_pts
        if len(entries) < len(pts) or not entries[0].is_keyframe:
            return ()
        # The index has decoding times; the first frame tells how far they lie before presentation.
        delay = pts[0] - entries[0].timestamp
        return tuple([bisect_left(pts, entry.timestamp + delay) for entry in entries if entry.is_keyframe])

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
    return _converted(source, frame, width, height, ColourConverter())


def _decoded_size_within(source: SourceVideo, max_width: int, max_height: int) -> tuple[int, int]:
    """The size, before it is turned, that fits when upright; never enlarged."""
    shown_width = source.width * source.pixel_aspect
    scale = min(1.0, max_width / shown_width, max_height / source.height)
    width, height = max(1, round(shown_width * scale)), max(1, round(source.height * scale))
    return (height, width) if source.rotation in {90, 270} else (width, height)


def _converted(
    source: SourceVideo, frame: "VideoFrame", width: int, height: int, colours: ColourConverter
) -> Picture:
    turned = np.rot90(colours.rgb(frame, width, height), source.rotation // 90)
    return np.ascontiguousarray(turned, dtype=np.uint8)
