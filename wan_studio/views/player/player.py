"""Shows frames of one video: the picture, its requests to the decoder, and the clock."""

from dataclasses import dataclass

from PySide6.QtCore import QRect, QSize, Qt, Signal
from PySide6.QtGui import QColor, QImage, QMouseEvent, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from trainer.protocol.job import TrainedSize
from wan_studio.bridge.frame_requests import FrameRequest, FrameRequester
from wan_studio.bridge.playback import Playback
from wan_studio.domain.clip import SourceVideo
from wan_studio.views.theme import tone, tones


@dataclass(frozen=True, slots=True)
class Strip:
    """What is played: source frames in their order, and when each is on screen.

    Attributes:
        frames: Source frame index of each position.
        starts: Second at which each position starts.
        end_seconds: Where the last one ends.
        trained_size: When given, the picture is shown as it trains.
    """

    source: SourceVideo
    frames: tuple[int, ...]
    starts: tuple[float, ...]
    end_seconds: float
    trained_size: TrainedSize | None = None


def whole_strip(source: SourceVideo) -> Strip:
    """Every frame of a video at its own time."""
    starts = tuple(source.seconds_at(frame) for frame in range(source.frame_count))
    return Strip(source, tuple(range(source.frame_count)), starts, source.duration_seconds)


class FrameSurface(QWidget):
    """The picture, as large as fits, on black.

    Signals:
        clicked: The picture was clicked.
        resized: There is more or less room.
    """

    clicked = Signal()
    resized = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Picture")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(160, 120)
        self._image = QImage()
        self._message = ""
        self._is_pixelated = False

    @property
    def image(self) -> QImage:
        """What is shown now."""
        return self._image

    def show_image(self, image: QImage, *, pixelated: bool = False) -> None:
        """Show a picture; `pixelated` enlarges small ones with hard edges: as they are."""
        self._image, self._message, self._is_pixelated = image, "", pixelated
        self.update()

    def show_message(self, message: str) -> None:
        """Show a sentence instead of a picture."""
        self._image, self._message = QImage(), message
        self.update()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """There is more or less room."""
        super().resizeEvent(event)
        self.resized.emit()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """A click plays or pauses."""
        event.accept()
        self.clicked.emit()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        """Draw it."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(tones().video))
        painter.drawRoundedRect(self.rect(), 8, 8)
        if not self._image.isNull():
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, not self._is_pixelated)
            painter.drawImage(self._image_box(), self._image)
        elif self._message:
            painter.setPen(QColor("#c8ced6"))
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(self.rect().adjusted(24, 24, -24, -24), flags, self._message)
        if self.hasFocus():
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(tone("accent"))
            painter.drawRoundedRect(self.rect().adjusted(0, 0, -1, -1), 8, 8)

    def _image_box(self) -> QRect:
        size = self._image.size().scaled(self.size(), Qt.AspectRatioMode.KeepAspectRatio)
        box = QRect(0, 0, size.width(), size.height())
        box.moveCenter(self.rect().center())
        return box


class Player(QWidget):
    """A surface with its own decoder thread and clock.

    Signals:
        position_changed: Another position of the strip is on screen. arg: int
        frame_shown: The picture of a source frame was drawn. arg: int
    """

    position_changed = Signal(int)
    frame_shown = Signal(int)

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.surface = FrameSurface()
        self.surface.setParent(self)
        self.playback = Playback(self)
        self._requester = FrameRequester(self)
        self._strip: Strip | None = None
        self._requester.frame_ready.connect(self._on_frame_ready)
        self._requester.frame_failed.connect(self._on_frame_failed)
        self.playback.position_changed.connect(self._on_position_changed)
        self.surface.clicked.connect(self._on_clicked)
        self.surface.resized.connect(self.request_frame)

    @property
    def strip(self) -> Strip | None:
        """What is played."""
        return self._strip

    @property
    def source_frame(self) -> int:
        """The source frame of the position on screen."""
        return self._strip.frames[self.playback.position] if self._strip else 0

    def show_strip(self, strip: Strip | None, position: int = 0, message: str = "") -> None:
        """Show another sequence, or a message instead of one."""
        if strip is None or self._strip is None or strip.source != self._strip.source:
            self.surface.show_message(message)
        self._strip = strip
        if strip is None:
            self.playback.set_sequence((0.0,), 0.0)
            return
        self.playback.set_sequence(strip.starts, strip.end_seconds, position)
        self.request_frame()

    def request_frame(self) -> None:
        """Ask for the picture of the position on screen."""
        if self._strip is None or not self.isVisible():
            return
        ratio = self.devicePixelRatioF()
        size = QSize(round(self.surface.width() * ratio), round(self.surface.height() * ratio))
        self._requester.request(
            FrameRequest(self._strip.source, self.source_frame, self._strip.trained_size, size)
        )

    def shut_down(self) -> None:
        """End the decoder thread."""
        self.playback.stop()
        self._requester.stop()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """The surface fills the player."""
        super().resizeEvent(event)
        self.surface.setGeometry(self.rect())

    def showEvent(self, event: object) -> None:
        """The picture was not asked for while the page was hidden."""
        del event
        self.request_frame()

    def _on_position_changed(self, position: int) -> None:
        self.request_frame()
        self.position_changed.emit(position)

    def _on_clicked(self) -> None:
        self.setFocus()
        if self._strip is not None:
            self.playback.toggle()

    def _on_frame_ready(self, wish: FrameRequest, image: QImage) -> None:
        if self._strip is not None and wish.source == self._strip.source:
            self.surface.show_image(image, pixelated=wish.trained_size is not None)
            self.frame_shown.emit(wish.frame)

    def _on_frame_failed(self, wish: FrameRequest, message: str) -> None:
        if self._strip is not None and wish.source == self._strip.source:
            self.playback.stop()
            self.surface.show_message(message)
