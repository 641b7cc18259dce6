"""The timeline under the player: the range with its handles, the frames that train, the playhead."""

from enum import Enum

from PySide6.QtCore import QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QWidget

from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.domain.frame_sampling import FrameSample
from wan_studio.views.theme import numeric_font, tone, tones

_HEIGHT = 88
_MARGIN = 12
_TRACK_TOP = 26
_TRACK_HEIGHT = 40
_GRAB = 9


class _Grip(Enum):
    NONE = 0
    PLAYHEAD = 1
    IN = 2
    OUT = 3


class Timeline(QWidget):
    """Time from left to right; everything in seconds of the source, so variable rates look right.

    Signals:
        seek_wanted: The playhead was put on a source frame. arg: int
        trim_dragged: A handle moves. arg: TrimRange
        trim_chosen: A handle was let go. arg: TrimRange
    """

    seek_wanted = Signal(int)
    trim_dragged = Signal(object)
    trim_chosen = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Timeline")
        self.setMouseTracking(True)
        self.setMinimumHeight(_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._source: SourceVideo | None = None
        self._trim = TrimRange(0, 1)
        self._sample: FrameSample | None = None
        self._frame = 0
        self._grip = _Grip.NONE

    def sizeHint(self) -> QSize:
        """As wide as there is room."""
        return QSize(400, _HEIGHT)

    def show_clip(self, source: SourceVideo | None, trim: TrimRange, sample: FrameSample | None) -> None:
        """Show a clip's range and the frames chosen in it."""
        self._source, self._trim, self._sample = source, trim, sample
        self.setEnabled(source is not None)
        if source is not None:
            self.setAccessibleDescription(
                f"In frame {trim.start_frame}, out frame {trim.end_frame} of {source.frame_count}"
            )
        self.update()

    def set_frame(self, frame: int) -> None:
        """Put the playhead on a source frame."""
        if frame != self._frame:
            self._frame = frame
            self.update()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Take a handle, or put the playhead there."""
        if self._source is None or event.button() is not Qt.MouseButton.LeftButton:
            return
        self._grip = self._grip_at(event.position())
        if self._grip is _Grip.PLAYHEAD:
            self.seek_wanted.emit(self._frame_at(event.position().x()))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Drag what was taken."""
        if self._source is None:
            return
        at = event.position()
        if self._grip is _Grip.NONE:
            over = self._grip_at(at)
            is_handle = over in (_Grip.IN, _Grip.OUT)
            self.setCursor(Qt.CursorShape.SizeHorCursor if is_handle else Qt.CursorShape.ArrowCursor)
        elif self._grip is _Grip.PLAYHEAD:
            self.seek_wanted.emit(self._frame_at(at.x()))
        else:
            self._drag_handle(at.x())

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Let go."""
        del event
        if self._grip in (_Grip.IN, _Grip.OUT):
            self.trim_chosen.emit(self._trim)
        self._grip = _Grip.NONE

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        """Draw it."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        track = QRectF(_MARGIN, _TRACK_TOP, self.width() - 2 * _MARGIN, _TRACK_HEIGHT)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(tones().sunken))
        painter.drawRoundedRect(track, 6, 6)
        if self._source is None:
            return
        self._paint_ruler(painter)
        start, end = self._x(self._trim.start_frame), self._x(self._trim.end_frame)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(tones().accent_soft))
        painter.drawRect(QRectF(start, track.top(), end - start, track.height()))
        self._paint_sample(painter, track)
        for x, is_in in ((start, True), (end, False)):
            self._paint_handle(painter, track, x, is_in=is_in)
        self._paint_playhead(painter, track)

    def _paint_ruler(self, painter: QPainter) -> None:
        assert self._source is not None
        duration = max(self._source.duration_seconds, 1e-6)
        room = (self.width() - 2 * _MARGIN) / 64
        step = next((s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60) if duration / s <= room), 300)
        painter.setFont(numeric_font(9))
        painter.setPen(tone("muted"))
        at = 0.0
        while at <= duration + 1e-6:
            x = self._x_of_seconds(at)
            painter.drawLine(QPointF(x, _TRACK_TOP - 5), QPointF(x, _TRACK_TOP - 1))
            if x < self.width() - 40:
                painter.drawText(QPointF(x + 3, _TRACK_TOP - 8), f"{at:g} s")
            at = round(at + step, 6)

    def _paint_sample(self, painter: QPainter, track: QRectF) -> None:
        """A tick for each frame that trains: what lies outside of them is not seen by the model."""
        if self._sample is None or self._source is None:
            return
        painter.setPen(QPen(tone("accent"), 1.5))
        for frame in self._sample.frames:
            x = self._x(frame) + 0.75
            painter.drawLine(QPointF(x, track.center().y() + 2), QPointF(x, track.bottom() - 5))
        painter.setPen(tone("accent"))
        painter.setFont(numeric_font(9))
        text = f"{len(self._sample.frames)} trained frames"
        x = self._x(self._sample.frames[0])
        width = painter.fontMetrics().horizontalAdvance(text)
        if self._x(self._trim.end_frame) - x > width + 32:
            painter.drawText(QPointF(x + 14, track.center().y() - 4), text)

    def _paint_handle(self, painter: QPainter, track: QRectF, x: float, *, is_in: bool) -> None:
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(tone("accent"))
        left = x if is_in else x - 8
        painter.drawRoundedRect(QRectF(left, track.top() - 2, 8, track.height() + 4), 3, 3)
        painter.setPen(QPen(QColor(tones().on_accent), 1.5))
        middle = left + 4
        painter.drawLine(QPointF(middle, track.center().y() - 6), QPointF(middle, track.center().y() + 6))

    def _paint_playhead(self, painter: QPainter, track: QRectF) -> None:
        x = self._x(self._frame)
        painter.setPen(QPen(tone("text"), 2))
        painter.drawLine(QPointF(x, track.top() - 4), QPointF(x, track.bottom() + 6))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(tone("text"))
        base = track.bottom() + 14
        painter.drawPolygon(
            QPolygonF([QPointF(x, track.bottom() + 5), QPointF(x - 6, base), QPointF(x + 6, base)])
        )

    def _drag_handle(self, x: float) -> None:
        assert self._source is not None
        frame = self._frame_at(x)
        if self._grip is _Grip.IN:
            trim = TrimRange(min(frame, self._trim.end_frame - 1), self._trim.end_frame)
            shown = trim.start_frame
        else:
            trim = TrimRange(self._trim.start_frame, max(frame + 1, self._trim.start_frame + 1))
            shown = trim.end_frame - 1
        if trim != self._trim:
            self._trim = trim
            self.trim_dragged.emit(trim)
            self.seek_wanted.emit(shown)

    def _grip_at(self, at: QPointF) -> _Grip:
        start, end = self._x(self._trim.start_frame), self._x(self._trim.end_frame)
        if at.y() <= _TRACK_TOP + _TRACK_HEIGHT + 4:
            if -4 <= at.x() - start <= _GRAB:
                return _Grip.IN
            if -_GRAB <= at.x() - end <= 4:
                return _Grip.OUT
        return _Grip.PLAYHEAD

    def _x(self, frame: int) -> float:
        assert self._source is not None
        return self._x_of_seconds(self._source.seconds_at(frame))

    def _x_of_seconds(self, seconds: float) -> float:
        assert self._source is not None
        share = seconds / max(self._source.duration_seconds, 1e-6)
        return _MARGIN + share * (self.width() - 2 * _MARGIN)

    def _frame_at(self, x: float) -> int:
        assert self._source is not None
        share = (x - _MARGIN) / max(self.width() - 2 * _MARGIN, 1)
        return self._source.frame_at(min(max(share, 0.0), 1.0) * self._source.duration_seconds)
