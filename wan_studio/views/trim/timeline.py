"""The timeline under the player: zoomed, scrubbed, and its range dragged."""

from enum import Enum
from typing import TYPE_CHECKING

from PySide6.QtCore import QPointF, QSize, Qt, Signal
from PySide6.QtGui import QMouseEvent, QPainter, QPaintEvent, QWheelEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.domain.clip_motion import cuts_of
from wan_studio.domain.frame_sampling import FrameSample
from wan_studio.views.trim.timeline_picture import (
    HEIGHT,
    MARGIN,
    MOTION_HEIGHT,
    TRACK_HEIGHT,
    TRACK_TOP,
    Scale,
    TimelineContent,
    image_of_strip,
    motion_heights,
    paint_timeline,
)

if TYPE_CHECKING:
    from wan_studio.services.clip_analysis import ClipAnalysis

_GRAB = 10
_ZOOM_STEP = 1.6
_FEWEST_FRAMES = 12
"""Zoomed in at most so far."""


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
        self.setMinimumHeight(HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._content = TimelineContent()
        self._span: tuple[float, float] | None = None
        self._grip = _Grip.NONE

    def sizeHint(self) -> QSize:
        """As wide as there is room."""
        return QSize(400, HEIGHT)

    @property
    def content(self) -> TimelineContent:
        """What is shown."""
        return self._content

    @property
    def scale(self) -> Scale:
        """Which part of the time is shown."""
        start, length = self._span or (0.0, self._duration)
        return Scale(start, length, self.width())

    def show_clip(
        self,
        source: SourceVideo | None,
        trim: TrimRange,
        sample: FrameSample | None,
        others: tuple[TrimRange, ...] = (),
    ) -> None:
        """Show a clip's range and the frames chosen in it."""
        if source != self._content.source:
            self._content = TimelineContent()
            if source is not None:
                self._content.starts = (*source.frame_starts(), source.duration_seconds)
            self._span = None
        content = self._content
        content.source, content.trim, content.sample, content.others = source, trim, sample, others
        self.setEnabled(source is not None)
        if source is not None:
            self.setAccessibleDescription(
                f"In frame {trim.start_frame}, out frame {trim.end_frame} of {source.frame_count}"
            )
        self.update()

    def show_analysis(self, analysis: "ClipAnalysis | None") -> None:
        """Show motion, cuts and filmstrip."""
        content = self._content
        if content.source is None or analysis is None:
            content.motion, content.heights, content.cuts, content.strip_frames = None, None, (), ()
        elif content.motion is not analysis.motion:
            content.motion = analysis.motion
            content.cuts = cuts_of(content.source, analysis.motion)
            content.heights = motion_heights(analysis.motion, content.cuts)
            content.strip, content.strip_frames = image_of_strip(analysis.strip), analysis.strip_frames
        self.update()

    def show_suggestion(self, trim: TrimRange | None) -> None:
        """Mark the range that the motion suggests."""
        self._content.suggestion = trim
        self.update()

    def set_frame(self, frame: int) -> None:
        """Put the playhead on a source frame; a zoomed timeline follows it."""
        content = self._content
        if frame == content.frame or content.source is None:
            return
        content.frame = frame
        if self._span is not None and self._grip is _Grip.NONE:
            seconds, (start, length) = content.seconds_at(frame), self._span
            if not start <= seconds <= start + length:
                self._show_span(seconds - length * (0.1 if seconds > start else 0.9), length)
        self.update()

    def zoom(self, steps: float, around: float | None = None) -> None:
        """Zoom in, or with negative steps out, around a second; without one around the playhead."""
        source = self._content.source
        if source is None:
            return
        scale = self.scale
        if around is None:
            around = self._content.seconds_at(self._content.frame)
            if not scale.start <= around <= scale.start + scale.length:
                around = scale.start + scale.length / 2
        shortest = min(self._duration, _FEWEST_FRAMES * self._duration / max(source.frame_count, 1))
        length = min(self._duration, max(shortest, scale.length * _ZOOM_STEP**-steps))
        share = (around - scale.start) / scale.length
        self._show_span(around - share * length, length)

    def zoom_to_fit(self) -> None:
        """Show all of the video."""
        self._span = None
        self.update()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Take a handle, or put the playhead there."""
        if self._content.source is None or event.button() is not Qt.MouseButton.LeftButton:
            return
        self._grip = self._grip_at(event.position())
        if self._grip is _Grip.PLAYHEAD:
            self.seek_wanted.emit(self._frame_at(event.position().x()))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Drag what was taken."""
        if self._content.source is None:
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
            self.trim_chosen.emit(self._content.trim)
        self._grip = _Grip.NONE

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Zoom where the pointer is; sideways, or with Shift, move along."""
        turned = event.angleDelta()
        if turned.x() or event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            scale = self.scale
            self._show_span(scale.start - (turned.x() or turned.y()) / 960 * scale.length, scale.length)
        else:
            self.zoom(turned.y() / 120, self.scale.seconds_at(event.position().x()))
        event.accept()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        """Draw it."""
        paint_timeline(QPainter(self), self._content, self.scale)

    @property
    def _duration(self) -> float:
        return self._content.duration

    def _show_span(self, start: float, length: float) -> None:
        if length >= self._duration - 1e-9:
            self._span = None
        else:
            self._span = (min(max(start, 0.0), self._duration - length), length)
        self.update()

    def _drag_handle(self, x: float) -> None:
        frame, old = self._frame_at(x), self._content.trim
        if self._grip is _Grip.IN:
            trim = TrimRange(min(frame, old.end_frame - 1), old.end_frame)
            shown = trim.start_frame
        else:
            trim = TrimRange(old.start_frame, max(frame + 1, old.start_frame + 1))
            shown = trim.end_frame - 1
        if trim != old:
            self._content.trim = trim
            self.trim_dragged.emit(trim)
            self.seek_wanted.emit(shown)

    def _grip_at(self, at: QPointF) -> _Grip:
        if TRACK_TOP - 4 <= at.y() <= TRACK_TOP + TRACK_HEIGHT + MOTION_HEIGHT:
            start = self.scale.x_of(self._content.seconds_at(self._content.trim.start_frame))
            end = self.scale.x_of(self._content.seconds_at(self._content.trim.end_frame))
            if -_GRAB <= at.x() - start <= 3:
                return _Grip.IN
            if -3 <= at.x() - end <= _GRAB:
                return _Grip.OUT
        return _Grip.PLAYHEAD

    def _frame_at(self, x: float) -> int:
        source = self._content.source
        assert source is not None
        x = min(max(x, MARGIN), self.width() - MARGIN)
        return source.frame_at(min(max(self.scale.seconds_at(x), 0.0), self._duration))
