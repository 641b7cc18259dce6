from fractions import Fraction

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtTest import QTest

from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.domain.clip_motion import ClipMotion
from wan_studio.services.clip_analysis import ClipAnalysis
from wan_studio.views.trim.timeline import Timeline

VIDEO = SourceVideo(
    path="/clips/a.mp4",
    size_bytes=1,
    modified_ns=1,
    width=640,
    height=480,
    frame_pts=tuple(range(100)),
    time_base=Fraction(1, 20),
    codec="h264",
)


@pytest.fixture
def timeline(qtbot):
    made = Timeline()
    qtbot.addWidget(made)
    made.resize(824, made.sizeHint().height())
    made.show_clip(VIDEO, TrimRange(20, 80), None)
    made.show()
    return made


def place(timeline, frame, beside=0):
    return QPoint(round(timeline.scale.x_of(VIDEO.seconds_at(frame))) + beside, 50)


def drag(timeline, start, end):
    QTest.mousePress(timeline, Qt.MouseButton.LeftButton, pos=start)
    QTest.mouseMove(timeline, end)
    QTest.mouseRelease(timeline, Qt.MouseButton.LeftButton, pos=end)


def test_handles_are_dragged_to_the_frame_under_the_pointer(timeline):
    told, seen = [], []
    timeline.trim_chosen.connect(told.append)
    timeline.seek_wanted.connect(seen.append)
    drag(timeline, place(timeline, 20, -4), place(timeline, 31, 2))
    assert told == [TrimRange(31, 80)]
    drag(timeline, place(timeline, 80, 4), place(timeline, 60, 2))
    # The frame under the pointer is the last one in.
    assert told[-1] == TrimRange(31, 61)
    assert seen == [31, 60]


def test_handles_never_cross(timeline):
    told = []
    timeline.trim_chosen.connect(told.append)
    drag(timeline, place(timeline, 20, -4), place(timeline, 95))
    assert told == [TrimRange(79, 80)]


def test_elsewhere_the_playhead_is_put(timeline):
    seen = []
    timeline.seek_wanted.connect(seen.append)
    drag(timeline, place(timeline, 50, 2), place(timeline, 55, 2))
    assert seen == [50, 55]


def test_the_wheel_zooms_where_the_pointer_is(timeline):
    at = QPointF(place(timeline, 70))
    before = timeline.scale.seconds_at(at.x())
    event = QWheelEvent(
        at,
        at,
        QPoint(),
        QPoint(0, 240),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    timeline.wheelEvent(event)
    assert timeline.scale.length < 2.5
    assert timeline.scale.seconds_at(at.x()) == pytest.approx(before)


def test_another_video_is_shown_whole_and_without_the_first_ones_motion(timeline):
    motion = ClipMotion((1.0,) * 100, (0.0,) * 50 + (40.0,) + (0.0,) * 49)
    timeline.show_analysis(ClipAnalysis(motion, (25, 75), np.zeros((54, 192, 3), np.uint8)))
    timeline.zoom(3)
    assert timeline.content.cuts == (50,)
    timeline.grab()
    other = SourceVideo(**{name: getattr(VIDEO, name) for name in VIDEO.__slots__} | {"path": "/clips/b.mp4"})
    timeline.show_clip(other, TrimRange(0, 100), None)
    assert timeline.content.motion is None
    assert timeline.scale.length == pytest.approx(5.0)


def test_it_zooms_to_a_few_frames_and_no_further(timeline):
    for _ in range(40):
        timeline.zoom(1)
    assert timeline.scale.length == pytest.approx(0.6)
    for _ in range(40):
        timeline.zoom(-1)
    assert timeline.scale.length == pytest.approx(5.0)
