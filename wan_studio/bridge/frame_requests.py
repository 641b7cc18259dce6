"""Frames for scrubbing: decoded on a thread of their own, and only the latest wish counts.

Where a source has a proxy, its small picture of the same frame comes first, and the source's own
as soon as nothing else is wished for.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QObject, QSize, Qt, QThread, Signal
from PySide6.QtGui import QImage

from trainer.protocol.job import TrainedSize
from wan_studio.domain.clip import SourceVideo
from wan_studio.errors import AppError
from wan_studio.services.frame_reader import FrameReader

_log = logging.getLogger(__name__)

SLOW_SECONDS = 0.06
"""A seek that takes longer than this makes scrubbing lag behind the hand: the source wants a proxy."""
_REST_SECONDS = 0.12
"""After a proxy's picture, so long without a further wish, the source's own is decoded."""


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """One frame that is wanted.

    Attributes:
        trained_size: When given, the picture is cut and resized as it trains.
        display_size: The picture is made no larger than this, in device pixels.
    """

    source: SourceVideo
    frame: int
    trained_size: TrainedSize | None
    display_size: QSize


class FrameRequester(QThread):
    """Decodes one frame at a time; a wish that comes while it is busy replaces the one that waits.

    Signals:
        frame_ready: A frame was decoded. args: FrameRequest, QImage
        draft_ready: Its picture from the proxy; `frame_ready` follows. args: FrameRequest, QImage
        frame_failed: It could not be. args: FrameRequest, a sentence
        found_slow: Seeking in this video takes too long for scrubbing. arg: SourceVideo
    """

    frame_ready = Signal(object, QImage)
    draft_ready = Signal(object, QImage)
    frame_failed = Signal(object, str)
    found_slow = Signal(object)

    def __init__(
        self, parent: QObject | None = None, open_reader: Callable[[SourceVideo], FrameReader] = FrameReader
    ) -> None:
        super().__init__(parent)
        self._open_reader = open_reader
        self._wish: FrameRequest | None = None
        self._changed = Condition()
        self._is_ending = False
        self._proxies: dict[SourceVideo, SourceVideo] = {}
        self._exact = _Opened(open_reader)
        self._draft = _Opened(open_reader)

    def use_proxy(self, source: SourceVideo, proxy: SourceVideo) -> None:
        """Scrub this source on a small copy with the same frames."""
        with self._changed:
            self._proxies[source] = proxy

    def request(self, wish: FrameRequest) -> None:
        """Ask for a frame; an older wish that has not begun is forgotten."""
        with self._changed:
            self._wish = wish
            self._changed.notify()
        if not self.isRunning() and not self._is_ending:
            self.start()

    def stop(self) -> None:
        """End the thread; it may be asked again afterwards."""
        with self._changed:
            self._is_ending = True
            self._wish = None
            self._changed.notify()
        self.wait()
        self._is_ending = False

    def run(self) -> None:
        """The thread: keeps the last video open, for the next frame is mostly its neighbour."""
        while True:
            wish = self._next_wish()
            if wish is None:
                break
            try:
                self._serve(wish)
            except (AppError, OSError, ValueError, IndexError) as error:
                _log.warning("Frame %s of %s: %s", wish.frame, wish.source.path, error)
                self.frame_failed.emit(wish, str(error))
        self._exact.close()
        self._draft.close()

    def _serve(self, wish: FrameRequest) -> None:
        began = perf_counter()
        reader = self._exact.reader(wish.source)
        was_near = reader.is_near(wish.frame)
        if not was_near and self._show_draft(wish) and self._is_overtaken():
            return
        began = perf_counter() if wish.source in self._proxies else began
        image = picture_of(reader, wish)
        self.frame_ready.emit(wish, image)
        is_seek = not was_near and wish.frame > 0
        if is_seek and perf_counter() - began > SLOW_SECONDS and wish.source not in self._proxies:
            self.found_slow.emit(wish.source)

    def _show_draft(self, wish: FrameRequest) -> bool:
        """Show the proxy's picture, where there is one."""
        proxy = self._proxies.get(wish.source)
        if proxy is None or wish.trained_size is not None:
            return False
        try:
            image = picture_of(self._draft.reader(proxy), wish)
        except (AppError, OSError, ValueError, IndexError) as error:
            # A cache may be emptied at any time; the source is still there.
            _log.info("The proxy %s: %s", proxy.path, error)
            self._draft.close()
            with self._changed:
                self._proxies.pop(wish.source, None)
            return False
        self.draft_ready.emit(wish, image)
        return True

    def _is_overtaken(self) -> bool:
        """Whether another wish comes within the time that a hand rests."""
        with self._changed:
            if self._wish is None and not self._is_ending:
                self._changed.wait(_REST_SECONDS)
            return self._wish is not None or self._is_ending

    def _next_wish(self) -> FrameRequest | None:
        with self._changed:
            while self._wish is None and not self._is_ending:
                self._changed.wait()
            wish, self._wish = self._wish, None
            return None if self._is_ending else wish


class _Opened:
    """A reader that stays open on the last video."""

    def __init__(self, open_reader: Callable[[SourceVideo], FrameReader]) -> None:
        self._open_reader = open_reader
        self._reader: FrameReader | None = None
        self._source: SourceVideo | None = None

    def reader(self, source: SourceVideo) -> FrameReader:
        """The reader of this video."""
        if self._reader is None or self._source != source:
            self.close()
            self._reader = self._open_reader(source)
            self._source = source
        return self._reader

    def close(self) -> None:
        """Close the video."""
        if self._reader is not None:
            self._reader.close()
        self._reader, self._source = None, None


def picture_of(reader: FrameReader, wish: FrameRequest) -> QImage:
    """The frame as a picture with square pixels, as small as it is shown."""
    smooth = Qt.TransformationMode.SmoothTransformation
    if wish.trained_size is not None:
        crop, size = wish.trained_size.crop, wish.trained_size
        # The bucket's own pixels first: what is shown has exactly the detail that trains.
        image = _as_image(reader.read(wish.frame)).copy(crop.left, crop.top, crop.width, crop.height)
        image = image.scaled(size.width, size.height, Qt.AspectRatioMode.IgnoreAspectRatio, smooth)
        if _is_larger(image, wish.display_size):
            image = image.scaled(wish.display_size, Qt.AspectRatioMode.KeepAspectRatio, smooth)
        return image
    if not wish.display_size.isValid():
        return _as_image(reader.read(wish.frame))
    return _as_image(reader.read_scaled(wish.frame, wish.display_size.width(), wish.display_size.height()))


def _as_image(frame_HWC: NDArray[np.uint8]) -> QImage:
    """The pixels as a picture of its own: a QImage over an array would read it after it is gone."""
    pixels = np.ascontiguousarray(frame_HWC)
    height, width = pixels.shape[:2]
    return QImage(pixels.data, width, height, 3 * width, QImage.Format.Format_RGB888).copy()


def _is_larger(image: QImage, size: QSize) -> bool:
    return size.isValid() and (image.width() > size.width() or image.height() > size.height())
