"""Frames for scrubbing: decoded on a thread of their own, and only the latest wish counts."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QObject, QSize, Qt, QThread, Signal
from PySide6.QtGui import QImage

from trainer.protocol.job import TrainedSize
from wan_studio.domain.clip import SourceVideo
from wan_studio.errors import AppError
from wan_studio.services.frame_reader import FrameReader

_log = logging.getLogger(__name__)


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
        frame_failed: It could not be. args: FrameRequest, a sentence
    """

    frame_ready = Signal(object, QImage)
    frame_failed = Signal(object, str)

    def __init__(
        self, parent: QObject | None = None, open_reader: Callable[[SourceVideo], FrameReader] = FrameReader
    ) -> None:
        super().__init__(parent)
        self._open_reader = open_reader
        self._wish: FrameRequest | None = None
        self._changed = Condition()
        self._is_ending = False

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
        reader: FrameReader | None = None
        opened: SourceVideo | None = None
        while True:
            wish = self._next_wish()
            if wish is None:
                break
            try:
                if reader is None or opened != wish.source:
                    if reader is not None:
                        reader.close()
                    reader, opened = None, None
                    reader = self._open_reader(wish.source)
                    opened = wish.source
                image = _image(reader, wish)
            except (AppError, OSError, ValueError, IndexError) as error:
                _log.warning("Frame %s of %s: %s", wish.frame, wish.source.path, error)
                self.frame_failed.emit(wish, str(error))
            else:
                self.frame_ready.emit(wish, image)
        if reader is not None:
            reader.close()

    def _next_wish(self) -> FrameRequest | None:
        with self._changed:
            while self._wish is None and not self._is_ending:
                self._changed.wait()
            wish, self._wish = self._wish, None
            return None if self._is_ending else wish


def _image(reader: FrameReader, wish: FrameRequest) -> QImage:
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
