"""Shows frames of one video: the picture, its requests to the decoder, and the clock."""

from dataclasses import dataclass

from PySide6.QtCore import QRect, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QColor, QImage, QMouseEvent, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from trainer.protocol.job import TrainedSize
from wan_studio.bridge.frame_decoder import FrameDecoder, FrameRequest, WindowWish, fitting_size
from wan_studio.bridge.playback import Playback
from wan_studio.domain.clip import SourceVideo
from wan_studio.views.theme import tone, tones

_SETTLED_MILLISECONDS = 200
"""So long after the last change of size or range the pictures are decoded anew."""
_MARGIN_FRAMES = 48
"""So many frames before the range are kept before those after it."""


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
    starts = source.frame_starts()
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
        self._note = ""

    @property
    def image(self) -> QImage:
        """What is shown now."""
        return self._image

    @property
    def note(self) -> str:
        """What is said in the picture's corner."""
        return self._note

    def show_image(self, image: QImage, *, pixelated: bool = False, note: str = "") -> None:
        """Show a picture, with a note in its corner; `pixelated` enlarges small ones with hard edges: as they are."""
        self._image, self._message, self._is_pixelated, self._note = image, "", pixelated, note
        self.update()

    def show_message(self, message: str) -> None:
        """Show a sentence instead of a picture."""
        self._image, self._message, self._note = QImage(), message, ""
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
            box = self.image_box
            is_hard = self._is_pixelated and box.width() >= self._image.width()
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, not is_hard)
            painter.drawImage(box, self._image)
            if self._note:
                self._draw_note(painter, box)
        elif self._message:
            painter.setPen(QColor("#c8ced6"))
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(self.rect().adjusted(24, 24, -24, -24), flags, self._message)
        if self.hasFocus():
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(tone("accent"))
            painter.drawRoundedRect(self.rect().adjusted(0, 0, -1, -1), 8, 8)

    def _draw_note(self, painter: QPainter, box: QRect) -> None:
        width = painter.fontMetrics().horizontalAdvance(self._note) + 16
        height = painter.fontMetrics().height() + 6
        place = QRect(box.left() + 8, box.bottom() - height - 8, width, height)
        painter.setBrush(QColor(0, 0, 0, 170))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.drawRoundedRect(place, 4, 4)
        painter.setPen(QColor("#ffffff"))
        painter.drawText(place, Qt.AlignmentFlag.AlignCenter, self._note)

    @property
    def image_box(self) -> QRect:
        """Where the picture lies on the surface."""
        size = self._image.size().scaled(self.size(), Qt.AspectRatioMode.KeepAspectRatio)
        box = QRect(0, 0, size.width(), size.height())
        box.moveCenter(self.rect().center())
        return box


class Player(QWidget):
    """A surface with its own decoder thread and clock.

    Signals:
        position_changed: Another position of the strip is on screen. arg: int
        frame_shown: The picture of a source frame was drawn. arg: int
        window_filled: So many frames of the range are kept in memory. args: int, int
        found_slow: Seeking in this video takes too long for scrubbing. arg: SourceVideo
    """

    position_changed = Signal(int)
    frame_shown = Signal(int)
    window_filled = Signal(int, int)
    found_slow = Signal(object)

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.surface = FrameSurface()
        self.surface.setParent(self)
        self.playback = Playback(self)
        self._decoder = FrameDecoder(self)
        self._strip: Strip | None = None
        self._range: tuple[int, int] | None = None
        self._is_from_window = False
        self._exact_frame = -1
        self._settled = QTimer(self)
        self._settled.setSingleShot(True)
        self._settled.setInterval(_SETTLED_MILLISECONDS)
        self._settled.timeout.connect(self._fill_window)
        self._decoder.filled.connect(self.window_filled)
        self._decoder.found_slow.connect(self.found_slow)
        self._decoder.near_ready.connect(self._on_near_ready)
        self._decoder.draft_ready.connect(self._on_frame_ready)
        self._decoder.frame_ready.connect(self._on_frame_ready)
        self._decoder.frame_failed.connect(self._on_frame_failed)
        self.playback.position_changed.connect(self._on_position_changed)
        self.surface.clicked.connect(self._on_clicked)
        self.surface.resized.connect(self._on_resized)

    @property
    def strip(self) -> Strip | None:
        """What is played."""
        return self._strip

    @property
    def source_frame(self) -> int:
        """The source frame of the position on screen."""
        return self._strip.frames[self.playback.position] if self._strip else 0

    def show_strip(
        self,
        strip: Strip | None,
        position: int = 0,
        message: str = "",
        keep: tuple[int, int] | None = None,
    ) -> None:
        """Show another sequence, or a message instead of one; `keep` as in `keep_range`, and at once."""
        if strip is None or self._strip is None or strip.source != self._strip.source:
            self.surface.show_message(message)
            self._exact_frame = -1
        self._strip = strip
        self._range = keep
        self._settled.stop()
        if strip is None:
            self._decoder.keep(None)
            self.playback.set_sequence((0.0,), 0.0)
            return
        # First: the frame that is shown next lies in the range, and is reached only once.
        self._fill_window()
        self.playback.set_sequence(strip.starts, strip.end_seconds, position)
        self.request_frame()

    def keep_range(self, first: int, end: int) -> None:
        """Keep the pictures of positions [first, end) in memory, and as many after them as fit."""
        if (first, end) != self._range:
            self._range = (first, end)
            self._settled.start()

    def kept_picture(self, frame: int) -> QImage | None:
        """The picture of a source frame as it is played, if it is in memory."""
        strip = self._strip
        return None if strip is None else self._decoder.picture(strip.source, frame, strip.trained_size)

    def use_proxy(self, source: SourceVideo, proxy: SourceVideo) -> None:
        """Scrub this source on a small copy with the same frames."""
        self._decoder.use_proxy(source, proxy)

    def request_frame(self) -> None:
        """Show the picture of the position on screen, or ask for it."""
        strip = self._strip
        if strip is None or not self.isVisible():
            return
        frame, size = self.source_frame, fitting_size(strip.source, self._room())
        kept = self._decoder.picture(strip.source, frame, strip.trained_size)
        self._is_from_window = kept is not None
        if kept is not None:
            self._show(frame, kept)
            if strip.trained_size is not None or kept.width() + 2 >= size.width():
                return
        self._decoder.request(FrameRequest(strip.source, frame, strip.trained_size, size))

    def shut_down(self) -> None:
        """Let the decoder go."""
        self.playback.stop()
        self._settled.stop()
        self._decoder.stop()

    def release(self) -> None:
        """Forget the kept pictures: the page is not looked at."""
        self._range = None
        self._settled.stop()
        self._decoder.keep(None)

    def _room(self) -> QSize:
        ratio = self.devicePixelRatioF()
        return QSize(round(self.surface.width() * ratio), round(self.surface.height() * ratio))

    def _fill_window(self) -> None:
        strip = self._strip
        # A contact sheet may lie over the player, and shows the same pictures.
        holder = self.parentWidget() or self
        if strip is None or self._range is None or not holder.isVisible():
            return
        first, end = self._range
        needed = strip.frames[first:end]
        # Around the range, too, for the handles are dragged outward: as much as there is room for.
        before = max(0, first - _MARGIN_FRAMES)
        around = (*strip.frames[before:first], *strip.frames[end:], *strip.frames[:before])
        frames = dict.fromkeys((*needed, *around))
        count = len(dict.fromkeys(needed))
        self._decoder.keep(WindowWish(strip.source, tuple(frames), count, strip.trained_size, self._room()))

    def _on_resized(self) -> None:
        if self._range is not None:
            self._settled.start()
        self.request_frame()

    def _show(self, frame: int, image: QImage) -> None:
        assert self._strip is not None
        self._exact_frame = frame
        self.surface.show_image(image, pixelated=self._strip.trained_size is not None)
        self.frame_shown.emit(frame)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """The surface fills the player."""
        super().resizeEvent(event)
        self.surface.setGeometry(self.rect())

    def showEvent(self, event: object) -> None:
        """The picture was not asked for while the page was hidden."""
        del event
        self._decoder.warm_up()
        if self._range is not None:
            self._settled.start()
        self.request_frame()

    def _on_position_changed(self, position: int) -> None:
        self.request_frame()
        self.position_changed.emit(position)

    def _on_clicked(self) -> None:
        self.setFocus()
        if self._strip is not None:
            self.playback.toggle()

    def _on_frame_ready(self, wish: FrameRequest, image: QImage) -> None:
        strip = self._strip
        if strip is None or wish.source != strip.source or wish.trained_size != strip.trained_size:
            return
        # Under way when a kept picture of another frame was shown: it would jump back to the old one.
        if not self._is_from_window or wish.frame == self.source_frame:
            self._show(wish.frame, image)

    def _on_near_ready(self, wish: FrameRequest, frame: int, image: QImage) -> None:
        strip = self._strip
        if strip is None or wish.source != strip.source or wish.trained_size != strip.trained_size:
            return
        if wish.frame == self.source_frame and not self._is_from_window and self._exact_frame != wish.frame:
            self.surface.show_image(image, note=f"frame {frame}, until {wish.frame} is decoded")

    def show_still(self, source: SourceVideo, frame: int, image: QImage) -> None:
        """Show a picture of this frame that was kept from before, unless a newer one is there."""
        strip = self._strip
        if strip is None or strip.source != source or strip.trained_size is not None:
            return
        if self.source_frame == frame and self._exact_frame != frame:
            self._show(frame, image)

    def _on_frame_failed(self, wish: FrameRequest, message: str) -> None:
        if self._strip is not None and wish.source == self._strip.source:
            self.playback.stop()
            self.surface.show_message(message)
