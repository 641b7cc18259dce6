"""The crop on the picture: drawn over the player, dragged and moved by hand or by keys."""

from enum import Enum

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QKeyEvent, QMouseEvent, QPainter, QPainterPath, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from trainer.protocol.job import CropBox
from wan_studio.bridge.frame_decoder import fitting_size
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.crop_aspects import dragged_crop, largest_crop, moved_crop
from wan_studio.views.player.player import FrameSurface
from wan_studio.views.theme import tone

_GRAB = 12
_HANDLE = 5
_MOVES = {
    Qt.Key.Key_Left: (-1, 0),
    Qt.Key.Key_Right: (1, 0),
    Qt.Key.Key_Up: (0, -1),
    Qt.Key.Key_Down: (0, 1),
}
_SIZES = {Qt.Key.Key_Plus: 8, Qt.Key.Key_Equal: 8, Qt.Key.Key_Minus: -8}
_ENDS = (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Escape)


class _Grip(Enum):
    NONE = 0
    BOX = 1
    CORNER = 2


class CropOverlay(QWidget):
    """Shows which part of the picture trains; while it is edited, that part can be moved and resized.

    Signals:
        changed: The box is another one, while it is edited. arg: CropBox
        applied: The edited box is taken. arg: CropBox
        cancelled: It is left as it was.
    """

    changed = Signal(object)
    applied = Signal(object)
    cancelled = Signal()

    def __init__(self, surface: FrameSurface) -> None:
        super().__init__(surface)
        self._surface = surface
        self.setAccessibleName("Crop box")
        self.setAccessibleDescription("Arrows move it, plus and minus resize it, Enter applies, Esc cancels")
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._source: SourceVideo | None = None
        self._crop: CropBox | None = None
        self._ratio: float | None = None
        self._is_editing = False
        self._grip = _Grip.NONE
        self._anchor = (0.0, 0.0)
        self._last = QPointF()
        surface.resized.connect(lambda: self.resize(surface.size()))
        self.resize(surface.size())

    @property
    def is_editing(self) -> bool:
        """Whether the box can be changed now."""
        return self._is_editing

    @property
    def crop(self) -> CropBox | None:
        """The box that is shown, in pixels of the upright source; None is the whole picture."""
        return self._crop

    def show_crop(self, source: SourceVideo | None, crop: CropBox | None) -> None:
        """Show a clip's crop; a crop that is being edited is given up."""
        self._end()
        self._source, self._crop = source, crop
        self.setVisible(source is not None)
        self.update()

    def begin(self) -> None:
        """Let the user change it."""
        if self._source is None:
            return
        self._is_editing = True
        self._crop = self._crop or self._source.whole_picture
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents, on=False)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setFocus()
        self.update()
        self.changed.emit(self._crop)

    def set_crop(self, crop: CropBox) -> None:
        """Put the edited box elsewhere."""
        if self._is_editing and crop != self._crop:
            self._crop = crop
            self.update()
            self.changed.emit(crop)

    def set_ratio(self, ratio: float | None) -> None:
        """Hold the edited box to an aspect (displayed width by height), or free it."""
        source = self._source
        self._ratio = None if ratio is None or source is None else ratio / source.pixel_aspect
        if self._ratio is not None and self._is_editing and source is not None:
            self.set_crop(largest_crop(source.whole_picture, self._ratio))

    def apply(self) -> None:
        """Take the edited box."""
        if self._is_editing and self._crop is not None:
            crop = self._crop
            self._end()
            self.applied.emit(crop)

    def cancel(self) -> None:
        """Leave it as it was."""
        if self._is_editing:
            self._end()
            self.cancelled.emit()

    def event(self, event: QEvent) -> bool:
        """While it is edited, its keys are its own and not the player's."""
        if event.type() is QEvent.Type.ShortcutOverride and self._is_editing:
            assert isinstance(event, QKeyEvent)
            if event.key() in _MOVES or event.key() in _SIZES or event.key() in _ENDS:
                event.accept()
                return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Arrows move it, plus and minus resize it, Enter takes it and Esc leaves it."""
        key, crop, source = Qt.Key(event.key()), self._crop, self._source
        if not self._is_editing or crop is None or source is None:
            super().keyPressEvent(event)
            return
        if key in _MOVES:
            step = 10 if event.modifiers() & Qt.KeyboardModifier.ShiftModifier else 1
            across, down = _MOVES[key]
            self.set_crop(moved_crop(crop, source.whole_picture, step * across, step * down))
        elif key in _SIZES:
            self._resize_by(_SIZES[key])
        elif key is Qt.Key.Key_Escape:
            self.cancel()
        elif key in _ENDS:
            self.apply()
        else:
            super().keyPressEvent(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Take a corner or the box; elsewhere a new box begins."""
        crop = self._crop
        if event.button() is not Qt.MouseButton.LeftButton or crop is None:
            return
        at, box = event.position(), self._box_on_screen(crop)
        corners = {
            (crop.left, crop.top): (crop.left + crop.width, crop.top + crop.height),
            (crop.left + crop.width, crop.top): (crop.left, crop.top + crop.height),
            (crop.left, crop.top + crop.height): (crop.left + crop.width, crop.top),
            (crop.left + crop.width, crop.top + crop.height): (crop.left, crop.top),
        }
        self._last = at
        for corner, opposite in corners.items():
            if (self._on_screen(*corner) - at).manhattanLength() <= 2 * _GRAB:
                self._grip, self._anchor = _Grip.CORNER, opposite
                return
        if box.contains(at):
            self._grip = _Grip.BOX
            return
        self._grip, self._anchor = _Grip.CORNER, self._in_source(at)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Drag what was taken."""
        crop, source, at = self._crop, self._source, event.position()
        if crop is None or source is None:
            return
        if self._grip is _Grip.CORNER:
            corner = self._in_source(at)
            self.set_crop(dragged_crop(self._anchor, corner, source.whole_picture, self._ratio))
        elif self._grip is _Grip.BOX:
            (from_x, from_y), (to_x, to_y) = self._in_source(self._last), self._in_source(at)
            across, down = round(to_x - from_x), round(to_y - from_y)
            if across or down:
                self._last = at
                self.set_crop(moved_crop(crop, source.whole_picture, across, down))

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Let go."""
        del event
        self._grip = _Grip.NONE

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Take the box."""
        del event
        self.apply()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        """Veil what is cut off; while it is edited, show thirds and corners."""
        crop = self._crop
        if crop is None or self._source is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        box, picture = self._box_on_screen(crop), QRectF(self._picture_box)
        outside = QPainterPath()
        outside.addRect(picture)
        inside = QPainterPath()
        inside.addRect(box)
        painter.fillPath(outside.subtracted(inside), QColor(0, 0, 0, 150))
        painter.setPen(QPen(QColor("#ffffff"), 1))
        painter.drawRect(box)
        if not self._is_editing:
            return
        painter.setPen(QPen(QColor(255, 255, 255, 110), 1))
        for third in (1 / 3, 2 / 3):
            x, y = box.left() + third * box.width(), box.top() + third * box.height()
            painter.drawLine(QPointF(x, box.top()), QPointF(x, box.bottom()))
            painter.drawLine(QPointF(box.left(), y), QPointF(box.right(), y))
        painter.setPen(QPen(QColor("#ffffff"), 1))
        painter.setBrush(tone("accent"))
        for corner in (box.topLeft(), box.topRight(), box.bottomLeft(), box.bottomRight()):
            painter.drawEllipse(corner, _HANDLE, _HANDLE)

    def _end(self) -> None:
        self._is_editing = False
        self._ratio = None
        self._grip = _Grip.NONE
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        player = self._surface.parentWidget()
        if self.hasFocus() and player is not None:
            player.setFocus()
        self.update()

    def _resize_by(self, pixels: int) -> None:
        crop, source = self._crop, self._source
        assert crop is not None
        assert source is not None
        ratio = self._ratio or crop.width / crop.height
        middle_x, middle_y = crop.left + crop.width / 2, crop.top + crop.height / 2
        width = min(max(crop.width + 2 * pixels, 32), source.width)
        anchor = (middle_x - width / 2, middle_y - width / ratio / 2)
        corner = (middle_x + width / 2, middle_y + width / ratio / 2)
        self.set_crop(dragged_crop(anchor, corner, source.whole_picture, self._ratio))

    @property
    def _picture_box(self) -> QRectF:
        """Where the whole picture lies, also while a smaller draft of it is shown."""
        assert self._source is not None
        room = self.size()
        shown = fitting_size(self._source, QSize(1 << 20, 1 << 20)).scaled(
            room, Qt.AspectRatioMode.KeepAspectRatio
        )
        left, top = (room.width() - shown.width()) // 2, (room.height() - shown.height()) // 2
        return QRectF(left, top, shown.width(), shown.height())

    def _on_screen(self, x: float, y: float) -> QPointF:
        assert self._source is not None
        box = self._picture_box
        return QPointF(
            box.left() + x / self._source.width * box.width(),
            box.top() + y / self._source.height * box.height(),
        )

    def _in_source(self, at: QPointF) -> tuple[float, float]:
        assert self._source is not None
        box = self._picture_box
        return (
            (at.x() - box.left()) / max(box.width(), 1) * self._source.width,
            (at.y() - box.top()) / max(box.height(), 1) * self._source.height,
        )

    def _box_on_screen(self, crop: CropBox) -> QRectF:
        return QRectF(
            self._on_screen(crop.left, crop.top),
            self._on_screen(crop.left + crop.width, crop.top + crop.height),
        )
