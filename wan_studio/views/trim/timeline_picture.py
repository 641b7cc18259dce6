"""How the timeline is drawn: ruler, filmstrip, motion, cuts, the range with its handles, the playhead."""

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QImage, QPainter, QPainterPath, QPen, QPolygonF

from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.domain.clip_motion import ClipMotion
from wan_studio.domain.frame_sampling import FrameSample
from wan_studio.views.theme import numeric_font, tone, tones

if TYPE_CHECKING:
    # Its import takes a tenth of a second: whoever looks through a video has done it, on another thread.
    import numpy as np
    from numpy.typing import NDArray

MARGIN = 12
TRACK_TOP = 26
TRACK_HEIGHT = 44
MOTION_HEIGHT = 26
HEIGHT = TRACK_TOP + TRACK_HEIGHT + MOTION_HEIGHT + 12
HANDLE_WIDTH = 8

_RULER_STEPS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)


@dataclass(frozen=True, slots=True)
class Scale:
    """Which seconds lie between the margins.

    Attributes:
        start: Second at the left margin.
        length: Seconds from margin to margin.
        width: Pixels of the whole timeline.
    """

    start: float
    length: float
    width: int

    def x_of(self, seconds: float) -> float:
        """Where a second lies."""
        return MARGIN + (seconds - self.start) / self.length * self._room

    def seconds_at(self, x: float) -> float:
        """Which second lies there."""
        return self.start + (x - MARGIN) / self._room * self.length

    @property
    def _room(self) -> float:
        return max(self.width - 2 * MARGIN, 1)


@dataclass(slots=True)
class TimelineContent:
    """What the timeline shows.

    Attributes:
        others: Ranges of other clips of the same file.
        motion: Once the video was looked through.
        heights: Of the motion at each frame, 0 to 1, as `motion_heights` gives them.
        cuts: First frames of new scenes.
        strip: Small pictures side by side, of `strip_frames`.
        suggestion: The range that the motion suggests.
        starts: Second at which each frame starts, and at last where the video ends.
    """

    source: SourceVideo | None = None
    trim: TrimRange = field(default_factory=lambda: TrimRange(0, 1))
    sample: FrameSample | None = None
    frame: int = 0
    others: tuple[TrimRange, ...] = ()
    motion: ClipMotion | None = None
    heights: Any = None
    cuts: tuple[int, ...] = ()
    strip: QImage = field(default_factory=QImage)
    strip_frames: tuple[int, ...] = ()
    suggestion: TrimRange | None = None
    starts: tuple[float, ...] = (0.0, 1.0)

    def seconds_at(self, frame: int) -> float:
        """Start of a frame, without working it out anew at each painting."""
        return self.starts[min(frame, len(self.starts) - 1)]

    @property
    def duration(self) -> float:
        """Seconds of the whole video."""
        return max(self.starts[-1], 1e-6)


def image_of_strip(strip: "NDArray[np.uint8]") -> QImage:
    """The filmstrip as a picture of its own."""
    import numpy as np

    height, width = strip.shape[:2]
    if not width:
        return QImage()
    pixels = np.ascontiguousarray(strip)
    return QImage(pixels.data, width, height, 3 * width, QImage.Format.Format_RGB888).copy()


def paint_timeline(painter: QPainter, content: TimelineContent, scale: Scale) -> None:
    """Draw all of it."""
    track = QRectF(MARGIN, TRACK_TOP, scale.width - 2 * MARGIN, TRACK_HEIGHT)
    motion = QRectF(MARGIN, track.bottom() + 3, track.width(), MOTION_HEIGHT - 6)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(tones().sunken))
    painter.drawRoundedRect(track, 4, 4)
    painter.drawRoundedRect(motion, 3, 3)
    if content.source is None:
        return
    _paint_ruler(painter, content, scale)
    painter.save()
    painter.setClipRect(QRectF(MARGIN, 0, track.width(), HEIGHT))
    _paint_strip(painter, content, scale, track)
    _paint_motion(painter, content, scale, motion)
    _paint_outside(painter, content, scale, track.united(motion))
    _paint_others(painter, content, scale, track)
    _paint_cuts(painter, content, scale, track.united(motion))
    painter.restore()
    painter.save()
    painter.setClipRect(QRectF(0, 0, scale.width, HEIGHT))
    _paint_range(painter, content, scale, track)
    _paint_playhead(painter, scale.x_of(content.seconds_at(content.frame)), track, motion)
    painter.restore()


def _paint_ruler(painter: QPainter, content: TimelineContent, scale: Scale) -> None:
    room = (scale.width - 2 * MARGIN) / 64
    step = next((one for one in _RULER_STEPS if scale.length / one <= room), 600)
    painter.setFont(numeric_font(9))
    painter.setPen(tone("muted"))
    at = max(0.0, math.ceil((scale.start - 1e-6) / step) * step)
    end = min(scale.start + scale.length, content.duration)
    while at <= end + 1e-6:
        x = scale.x_of(at)
        painter.drawLine(QPointF(x, TRACK_TOP - 5), QPointF(x, TRACK_TOP - 1))
        if x < scale.width - 44:
            painter.drawText(QPointF(x + 3, TRACK_TOP - 8), f"{at:g} s")
        at = round(at + step, 6)


def _paint_strip(painter: QPainter, content: TimelineContent, scale: Scale, track: QRectF) -> None:
    """Pictures side by side at their own aspect, each the one nearest to its middle."""
    frames = content.strip_frames
    if content.strip.isNull() or not frames:
        return
    width = content.strip.width() // len(frames)
    shown_width = width * track.height() / content.strip.height()
    times = [content.seconds_at(frame) for frame in frames]
    end = min(track.right(), scale.x_of(content.duration))
    # From the video's start, not the window's: pictures stay where they are when the window moves.
    x = scale.x_of(0)
    x += max(0, int((track.left() - x) / shown_width)) * shown_width
    while x < end:
        at = _nearest(times, scale.seconds_at(x + shown_width / 2))
        shown = min(shown_width, end - x)
        part = QRectF(at * width, 0, width * shown / shown_width, content.strip.height())
        painter.drawImage(QRectF(x, track.top(), shown, track.height()), content.strip, part)
        x += shown_width


def _nearest(times: list[float], seconds: float) -> int:
    after = bisect_left(times, seconds)
    around = [at for at in (after - 1, after) if 0 <= at < len(times)]
    return min(around, key=lambda at: abs(times[at] - seconds))


def motion_heights(motion: ClipMotion, cuts: tuple[int, ...]) -> "NDArray[np.float64]":
    """The curve as heights from 0 to 1, its strongest fiftieth at 1; changes at cuts are no motion."""
    import numpy as np

    curve = np.array(motion.curve)
    curve[list(cuts)] = 0.0
    return np.minimum(curve / max(float(np.percentile(curve, 98)), 0.5), 1.0)


def _highest_by_pixel(content: TimelineContent, scale: Scale) -> list[tuple[float, float]]:
    """Of the frames in view, the greatest height at each pixel: an hour has no more points than a second."""
    import numpy as np

    first = max(1, bisect_left(content.starts, scale.start) - 1)
    end = min(len(content.starts) - 1, bisect_right(content.starts, scale.start + scale.length) + 1)
    heights = content.heights[first:end]
    if not len(heights):
        return []
    if len(heights) <= scale.width:
        places = [scale.x_of(second) for second in content.starts[first:end]]
        return list(zip(places, heights.tolist(), strict=True))
    x = np.floor(scale.x_of(np.array(content.starts[first:end])))  # type: ignore[arg-type]
    begins = np.flatnonzero(np.diff(x, prepend=x[0] - 1))
    return list(zip(x[begins].tolist(), np.maximum.reduceat(heights, begins).tolist(), strict=True))


def _paint_motion(painter: QPainter, content: TimelineContent, scale: Scale, box: QRectF) -> None:
    """The curve, its strongest tenth filling the height; changes at cuts are no motion."""
    if content.heights is None or len(content.starts) < 3:
        return
    path = QPainterPath(QPointF(scale.x_of(0), box.bottom()))
    for x, height in _highest_by_pixel(content, scale):
        path.lineTo(x, box.bottom() - height * (box.height() - 2))
    path.lineTo(scale.x_of(content.duration), box.bottom())
    path.closeSubpath()
    colour = tone("accent")
    colour.setAlphaF(0.55)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(colour)
    painter.drawPath(path)
    if content.suggestion is not None:
        left = scale.x_of(content.seconds_at(content.suggestion.start_frame))
        right = scale.x_of(content.seconds_at(content.suggestion.end_frame))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(tone("accent"), 1.2, Qt.PenStyle.DashLine))
        painter.drawRoundedRect(QRectF(left, box.top() + 0.5, right - left, box.height() - 1), 3, 3)


def _paint_outside(painter: QPainter, content: TimelineContent, scale: Scale, box: QRectF) -> None:
    """What does not train is veiled."""
    veil = QColor(tones().window)
    veil.setAlphaF(0.68)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(veil)
    left = scale.x_of(content.seconds_at(content.trim.start_frame))
    right = scale.x_of(content.seconds_at(content.trim.end_frame))
    painter.drawRect(QRectF(box.left(), box.top(), max(0.0, left - box.left()), box.height()))
    painter.drawRect(QRectF(right, box.top(), max(0.0, box.right() - right), box.height()))


def _paint_others(painter: QPainter, content: TimelineContent, scale: Scale, track: QRectF) -> None:
    """A bar for each further clip of the same file."""
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(tone("muted"))
    for other in content.others:
        left = scale.x_of(content.seconds_at(other.start_frame))
        right = scale.x_of(content.seconds_at(other.end_frame))
        painter.drawRect(QRectF(left + 1, track.top(), max(2.0, right - left - 2), 4))


def _paint_cuts(painter: QPainter, content: TimelineContent, scale: Scale, box: QRectF) -> None:
    painter.setPen(QPen(tone("warn"), 1.5, Qt.PenStyle.DotLine))
    for cut in content.cuts:
        x = scale.x_of(content.seconds_at(cut))
        painter.drawLine(QPointF(x, box.top()), QPointF(x, box.bottom()))


def _paint_range(painter: QPainter, content: TimelineContent, scale: Scale, track: QRectF) -> None:
    start = scale.x_of(content.seconds_at(content.trim.start_frame))
    end = scale.x_of(content.seconds_at(content.trim.end_frame))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.setPen(QPen(tone("accent"), 2))
    for y in (track.top() - 1, track.bottom() + 1):
        left, right = max(start, track.left()), min(end, track.right())
        if left < right:
            painter.drawLine(QPointF(left, y), QPointF(right, y))
    _paint_sample(painter, content, scale, track)
    for x, is_in in ((start, True), (end, False)):
        if track.left() - 1 <= x <= track.right() + 1:
            _paint_handle(painter, track, x, is_in=is_in)


def _paint_sample(painter: QPainter, content: TimelineContent, scale: Scale, track: QRectF) -> None:
    """A tick for each frame that trains: what lies outside of them is not seen by the model."""
    if content.sample is None:
        return
    painter.setPen(QPen(tone("accent"), 1.5))
    for frame in content.sample.frames:
        x = scale.x_of(content.seconds_at(frame)) + 0.75
        if track.left() <= x <= track.right():
            painter.drawLine(QPointF(x, track.bottom() - 7), QPointF(x, track.bottom()))


def _paint_handle(painter: QPainter, track: QRectF, x: float, *, is_in: bool) -> None:
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(tone("accent"))
    left = x - HANDLE_WIDTH if is_in else x
    painter.drawRoundedRect(QRectF(left, track.top() - 2, HANDLE_WIDTH, track.height() + 4), 3, 3)
    painter.setPen(QPen(QColor(tones().on_accent), 1.5))
    middle = left + HANDLE_WIDTH / 2
    painter.drawLine(QPointF(middle, track.center().y() - 6), QPointF(middle, track.center().y() + 6))


def _paint_playhead(painter: QPainter, x: float, track: QRectF, motion: QRectF) -> None:
    if not track.left() - 1 <= x <= track.right() + 1:
        return
    # Two tones: it is seen on bright and on dark pictures.
    painter.setPen(QPen(QColor(tones().window), 4))
    painter.drawLine(QPointF(x, track.top() - 3), QPointF(x, motion.bottom()))
    painter.setPen(QPen(tone("text"), 2))
    painter.drawLine(QPointF(x, track.top() - 4), QPointF(x, motion.bottom() + 2))
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(tone("text"))
    base = motion.bottom() + 12
    painter.drawPolygon(
        QPolygonF([QPointF(x, motion.bottom() + 2), QPointF(x - 6, base), QPointF(x + 6, base)])
    )
