import time
from dataclasses import replace
from fractions import Fraction

import pytest
from PySide6.QtGui import QImage, QPainter

from tests.wan_studio.bridge.pixels import pixels_of
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.clip_motion import ClipMotion
from wan_studio.views.trim.timeline_picture import (
    HEIGHT,
    Scale,
    TimelineContent,
    motion_heights,
    paint_timeline,
)


def painted(content, scale):
    image = QImage(scale.width, HEIGHT, QImage.Format.Format_RGB32)
    image.fill(0)
    painter = QPainter(image)
    began = time.thread_time()
    paint_timeline(painter, content, scale)
    painter.end()
    return pixels_of(image), time.thread_time() - began


def content_of(frames, busy):
    source = SourceVideo("/clips/a.mp4", 1, 1, 640, 480, tuple(range(frames)), Fraction(1, 25), "h264")
    motion = ClipMotion(tuple(5.0 if busy(at) else 0.0 for at in range(frames)), (0.0,) * frames)
    starts = (*source.frame_starts(), source.duration_seconds)
    made = TimelineContent(source, source.whole_range, motion=motion, starts=starts)
    return replace(made, heights=motion_heights(motion, ()))


@pytest.mark.usefixtures("qapp")
def test_an_hour_is_painted_in_a_moment_and_a_short_burst_in_it_is_seen():
    content = content_of(90_000, lambda at: 45_000 <= at < 45_010 or at > 80_000)
    scale = Scale(0.0, 3600.0, 900)
    painted(content, scale)
    picture, seconds = painted(content, scale)
    assert seconds < 0.05
    row = picture[HEIGHT - 26].astype(int).sum(1)
    burst, quiet = int(scale.x_of(1800.2)), int(scale.x_of(1500.0))
    assert {*row[burst - 1 : burst + 2]} != {row[quiet]}
    assert len({*row[int(scale.x_of(3300)) : int(scale.x_of(3500))]}) == 1


@pytest.mark.usefixtures("qapp")
def test_zoomed_in_only_what_is_in_view_is_drawn():
    content = content_of(90_000, lambda at: at % 2 == 0)
    _, seconds = painted(content, Scale(1800.0, 2.0, 900))
    assert seconds < 0.05
