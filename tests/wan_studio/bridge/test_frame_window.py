import pytest
from PySide6.QtCore import QSize

from tests.media import make_video, number_in
from tests.wan_studio.bridge.pixels import pixels_of
from trainer.protocol.job import CropBox, TrainedSize
from wan_studio.bridge.frame_window import FrameWindow, WindowWish, fitting_size
from wan_studio.services.media_probe import probe

pytestmark = pytest.mark.media


@pytest.fixture
def source(tmp_path):
    return probe(make_video(tmp_path / "clip.mp4", frames=40, fps=20, width=96, height=64, gop=40))


@pytest.fixture
def window(qtbot):
    made = FrameWindow()
    yield made
    made.stop()


ROOM = QSize(96, 64)


def wish(source, first, end, size=None, room=ROOM):
    frames = (*range(first, end), *range(end, source.frame_count))
    return WindowWish(source, frames, end - first, size, room)


def kept(window, source, size=None):
    return [frame for frame in range(source.frame_count) if window.picture(source, frame, size) is not None]


def test_the_range_is_kept_and_each_picture_is_the_frame_asked_for(qtbot, window, source):
    window.show(wish(source, 10, 20))
    qtbot.waitUntil(lambda: kept(window, source) == list(range(10, 40)))
    for frame in (10, 19, 33):
        assert number_in(pixels_of(window.picture(source, frame, None))) == frame


def test_it_tells_how_much_of_the_range_is_kept(qtbot, window, source):
    told = []
    window.filled.connect(lambda *counts: told.append(counts))
    window.show(wish(source, 0, 20))
    qtbot.waitUntil(lambda: (20, 20) in told)
    assert told == [(8, 20), (16, 20), (20, 20)]


def test_memory_is_bounded_and_a_long_range_is_kept_as_smaller_pictures(qtbot, request, tmp_path):
    source = probe(make_video(tmp_path / "large.mp4", frames=40, width=640, height=480))
    window = FrameWindow(limit_bytes=8 * 1024 * 1024)
    request.addfinalizer(window.stop)
    window.show(wish(source, 0, 40, room=QSize(640, 480)))
    qtbot.waitUntil(lambda: kept(window, source)[-1:] == [39])
    picture = window.picture(source, 39, None)
    assert 180 <= picture.height() < 480
    assert number_in(pixels_of(picture)) == 39
    assert window.kept_bytes <= 8 * 1024 * 1024


def test_what_does_not_fit_is_left_to_the_decoder(qtbot, request, tmp_path):
    source = probe(make_video(tmp_path / "large.mp4", frames=40, width=640, height=480))
    window = FrameWindow(limit_bytes=2 * 1024 * 1024)
    request.addfinalizer(window.stop)
    window.show(wish(source, 5, 30, room=QSize(640, 480)))
    qtbot.waitUntil(lambda: len(kept(window, source)) > 8)
    qtbot.wait(100)
    assert kept(window, source)[0] == 5
    assert window.kept_bytes <= 2 * 1024 * 1024


def test_another_video_forgets_the_first_and_a_moved_range_keeps_what_both_share(qtbot, window, source):
    window.show(WindowWish(source, tuple(range(10)), 10, None, QSize(96, 64)))
    qtbot.waitUntil(lambda: kept(window, source) == list(range(10)))
    shared = window.picture(source, 7, None)
    window.show(WindowWish(source, tuple(range(5, 15)), 10, None, QSize(96, 64)))
    qtbot.waitUntil(lambda: kept(window, source) == list(range(5, 15)))
    assert window.picture(source, 7, None) is shared
    window.show(None)
    assert kept(window, source) == []
    assert window.kept_bytes == 0


def test_the_training_view_keeps_the_buckets_pixels(qtbot, window, source):
    size = TrainedSize(width=48, height=32, crop=CropBox(left=0, top=0, width=96, height=64))
    window.show(WindowWish(source, (3, 9, 15), 3, size, QSize(960, 640)))
    qtbot.waitUntil(lambda: kept(window, source, size) == [3, 9, 15])
    picture = window.picture(source, 9, size)
    assert (picture.width(), picture.height()) == (48, 32)
    assert window.picture(source, 9, None) is None


def test_a_file_that_vanished_keeps_nothing_and_raises_nothing(qtbot, window, source, tmp_path):
    (tmp_path / "clip.mp4").unlink()
    window.show(wish(source, 0, 10))
    qtbot.wait(50)
    assert kept(window, source) == []


def test_square_pixels_are_fitted_and_never_enlarged(source):
    assert fitting_size(source, QSize(48, 1000)) == QSize(48, 32)
    assert fitting_size(source, QSize(1000, 1000)) == QSize(96, 64)
