"""Decoded pictures of the range that is being trimmed, kept in memory: scrubbing there waits for nothing."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition

from PySide6.QtCore import QObject, QSize, QThread, Signal
from PySide6.QtGui import QImage

from trainer.protocol.job import TrainedSize
from wan_studio.bridge.frame_requests import FrameRequest, picture_of
from wan_studio.domain.clip import SourceVideo
from wan_studio.errors import AppError
from wan_studio.services.frame_reader import FrameReader

_log = logging.getLogger(__name__)

WINDOW_BYTES = 320 * 1024 * 1024
_SMALLEST_HEIGHT = 180
_READER_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class WindowWish:
    """Which pictures are kept.

    Attributes:
        frames: Source frames in the order in which they are decoded; ascending runs are fastest.
        needed: The first so many must fit into memory, if need be as smaller pictures.
        trained_size: When given, pictures are cut and resized as they train.
        display_size: They are made no larger than this, in device pixels.
    """

    source: SourceVideo
    frames: tuple[int, ...]
    needed: int
    trained_size: TrainedSize | None
    display_size: QSize


def _lean_reader(source: SourceVideo) -> FrameReader:
    """It goes forward only, and needs no memory of its own."""
    return FrameReader(source, _READER_BYTES)


class FrameWindow(QThread):
    """Decodes the wished frames once, forward, on a thread of its own; another wish replaces the first.

    Signals:
        filled: So many of the needed frames are kept. args: int, int
    """

    filled = Signal(int, int)

    def __init__(
        self,
        parent: QObject | None = None,
        open_reader: Callable[[SourceVideo], FrameReader] = _lean_reader,
        limit_bytes: int = WINDOW_BYTES,
    ) -> None:
        super().__init__(parent)
        self._open_reader = open_reader
        self._limit = limit_bytes
        self._changed = Condition()
        self._wish: WindowWish | None = None
        self._is_new = False
        self._is_ending = False
        self._kind: object = None
        self._pictures: dict[int, QImage] = {}
        self._bytes = 0

    @property
    def kept_bytes(self) -> int:
        """Memory of the pictures that are kept."""
        return self._bytes

    def show(self, wish: WindowWish | None) -> None:
        """Keep the pictures of another range, or none; what both ranges share stays."""
        with self._changed:
            if wish == self._wish:
                return
            self._wish, self._is_new = wish, True
            kind = None if wish is None else (wish.source, wish.trained_size)
            if kind != self._kind:
                self._kind = kind
                self._pictures.clear()
                self._bytes = 0
            self._changed.notify()
        if wish is not None and not self.isRunning() and not self._is_ending:
            self.start()

    def picture(self, source: SourceVideo, frame: int, trained_size: TrainedSize | None) -> QImage | None:
        """The picture of a frame, if it is kept; it may be smaller than wished."""
        with self._changed:
            return self._pictures.get(frame) if self._kind == (source, trained_size) else None

    def stop(self) -> None:
        """End the thread and forget the pictures; it may be asked again afterwards."""
        self.show(None)
        with self._changed:
            self._is_ending = True
            self._changed.notify()
        self.wait()
        self._is_ending = False

    def run(self) -> None:
        """The thread: one range after another."""
        while True:
            with self._changed:
                while not self._is_new and not self._is_ending:
                    self._changed.wait()
                if self._is_ending:
                    return
                wish, self._is_new = self._wish, False
            if wish is None:
                continue
            try:
                self._fill(wish)
            except (AppError, OSError, ValueError, IndexError) as error:
                # The player asks for the same frame and shows the sentence.
                _log.info("Frames of %s: %s", wish.source.path, error)

    def _fill(self, wish: WindowWish) -> None:
        size, room = _size_and_room(wish, self._limit)
        frames = wish.frames[:room]
        self._drop_all_but(frozenset(frames), size)
        needed = min(wish.needed, len(frames))
        with self._open_reader(wish.source) as reader:
            for at, frame in enumerate(frames):
                with self._changed:
                    if self._is_new or self._is_ending:
                        return
                    is_kept = frame in self._pictures
                if not is_kept:
                    image = picture_of(reader, FrameRequest(wish.source, frame, wish.trained_size, size))
                    with self._changed:
                        if self._is_new:
                            return
                        self._pictures[frame] = image
                        self._bytes += image.sizeInBytes()
                if at < needed and (at % 8 == 7 or at == needed - 1):
                    self.filled.emit(at + 1, needed)

    def _drop_all_but(self, frames: frozenset[int], size: QSize) -> None:
        """Forget what is not wished for any more, or has another size."""
        with self._changed:
            for frame in list(self._pictures):
                image = self._pictures[frame]
                is_fitting = image.width() == size.width() or image.height() == size.height()
                if frame not in frames or not is_fitting:
                    self._bytes -= image.sizeInBytes()
                    del self._pictures[frame]


def fitting_size(source: SourceVideo, room: QSize) -> QSize:
    """The size at which the whole picture is shown in some room: square pixels, never enlarged."""
    shown_width = source.width * source.pixel_aspect
    scale = min(1.0, room.width() / shown_width, room.height() / source.height)
    return QSize(max(1, round(shown_width * scale)), max(1, round(source.height * scale)))


def _size_and_room(wish: WindowWish, limit: int) -> tuple[QSize, int]:
    """How large the pictures are kept, and how many of them there is room for."""
    size = wish.display_size
    if wish.trained_size is not None:
        size = QSize(wish.trained_size.width, wish.trained_size.height).boundedTo(wish.display_size)
        return wish.display_size, max(1, limit // max(1, _bytes_of(size)))
    size = fitting_size(wish.source, wish.display_size)
    wanted = _bytes_of(size) * max(1, wish.needed)
    if wanted > limit:
        smallest = min(size.height(), _SMALLEST_HEIGHT)
        height = max(smallest, int(size.height() * math.sqrt(limit / wanted)))
        size = fitting_size(wish.source, QSize(size.width(), height))
    return size, max(1, limit // max(1, _bytes_of(size)))


def _bytes_of(size: QSize) -> int:
    # Rows of a picture begin at multiples of four bytes.
    return (size.width() * 3 + 3) // 4 * 4 * size.height()
