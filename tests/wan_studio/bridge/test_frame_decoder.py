import os
import signal
import sys

import pytest
from PySide6.QtCore import QSize

from tests.media import make_video, number_in
from tests.wan_studio.bridge.pixels import pixels_of
from trainer.protocol.job import CropBox, TrainedSize
from wan_studio.bridge.frame_decoder import FrameDecoder, FrameRequest, WindowWish, fitting_size
from wan_studio.services.decoder_process import DecoderProcess
from wan_studio.services.media_probe import probe
from wan_studio.services.proxy_maker import ProxyMaker

pytestmark = pytest.mark.media

ROOM = QSize(96, 64)


@pytest.fixture(scope="module")
def process():
    made = DecoderProcess()
    yield made
    made.close()


@pytest.fixture
def source(tmp_path):
    return probe(make_video(tmp_path / "clip.mp4", frames=40, fps=20, width=96, height=64, gop=40))


@pytest.fixture
def decoder(qtbot, process):
    made = FrameDecoder(process=process)
    yield made
    made.stop()


def wish(source, frame, size=None):
    return FrameRequest(source, frame, size, ROOM)


def window(source, first, end, size=None, room=ROOM):
    frames = (*range(first, end), *range(end, source.frame_count))
    return WindowWish(source, frames, end - first, size, room)


def kept(decoder, source, size=None):
    return [frame for frame in range(source.frame_count) if decoder.picture(source, frame, size) is not None]


def test_the_picture_is_the_frame_asked_for(qtbot, decoder, source):
    for frame in (0, 17, 5, 39):
        with qtbot.waitSignal(decoder.frame_ready) as blocker:
            decoder.request(wish(source, frame))
        asked, image = blocker.args
        assert asked.frame == frame
        assert number_in(pixels_of(image)) == frame


def test_while_it_is_busy_only_the_latest_wish_is_kept(qtbot, decoder, source):
    seen = []
    decoder.frame_ready.connect(lambda asked, _: seen.append(asked.frame))
    for frame in range(39):
        decoder.request(wish(source, frame))
    qtbot.waitUntil(lambda: 38 in seen)
    assert seen == sorted(seen)
    assert len(seen) < 20


def test_the_training_view_has_the_buckets_pixels(qtbot, decoder, source):
    size = TrainedSize(width=48, height=32, crop=CropBox(left=0, top=0, width=96, height=64))
    with qtbot.waitSignal(decoder.frame_ready) as blocker:
        decoder.request(wish(source, 9, size))
    image = blocker.args[1]
    assert (image.width(), image.height()) == (48, 32)
    assert number_in(pixels_of(image)) == 9


def test_a_file_that_vanished_is_a_sentence(qtbot, decoder, source, tmp_path):
    (tmp_path / "clip.mp4").unlink()
    with qtbot.waitSignal(decoder.frame_failed) as blocker:
        decoder.request(wish(source, 3))
    assert "clip.mp4" in blocker.args[1]


def test_a_proxys_picture_comes_first_and_the_sources_own_follows(qtbot, decoder, source, tmp_path):
    proxy = ProxyMaker(tmp_path / "proxies").make(source)
    decoder.use_proxy(source, proxy)
    seen = []
    decoder.draft_ready.connect(lambda asked, image: seen.append(("draft", number_in(pixels_of(image)))))
    decoder.frame_ready.connect(lambda asked, image: seen.append(("exact", number_in(pixels_of(image)))))
    decoder.request(wish(source, 17))
    qtbot.waitUntil(lambda: seen == [("draft", 17), ("exact", 17)])


def test_without_its_proxy_a_source_is_read_itself(qtbot, decoder, source, tmp_path):
    proxy = ProxyMaker(tmp_path / "proxies").make(source)
    decoder.use_proxy(source, proxy)
    (tmp_path / "proxies" / proxy.name).unlink()
    with qtbot.waitSignal(decoder.frame_ready) as blocker:
        decoder.request(wish(source, 17))
    assert number_in(pixels_of(blocker.args[1])) == 17


def test_far_from_a_keyframe_its_picture_comes_first_and_says_which_frame_it_is(qtbot, decoder, source):
    near = []
    decoder.near_ready.connect(
        lambda asked, frame, image: near.append((asked.frame, frame, number_in(pixels_of(image))))
    )
    with qtbot.waitSignal(decoder.frame_ready) as blocker:
        decoder.request(wish(source, 30))
    assert number_in(pixels_of(blocker.args[1])) == 30
    assert near == [(30, 0, 0)]


def test_a_decoder_that_dies_is_started_again_and_the_wish_is_met(qtbot, decoder, process, source):
    with qtbot.waitSignal(decoder.frame_ready):
        decoder.request(wish(source, 2))
    first = process.pid
    decoder.keep(window(source, 10, 20))
    os.kill(first, signal.SIGTERM)
    with qtbot.waitSignal(decoder.frame_ready) as blocker:
        decoder.request(wish(source, 25))
    assert number_in(pixels_of(blocker.args[1])) == 25
    qtbot.waitUntil(lambda: set(range(10, 20)) <= set(kept(decoder, source)))
    assert process.pid != first


def test_a_file_that_brings_the_decoder_down_each_time_is_given_up_with_a_sentence(qtbot, source):
    fatal = DecoderProcess([sys.executable, "-c", "import os, sys; sys.stdin.buffer.read(8); os.abort()"])
    decoder = FrameDecoder(process=fatal)
    with qtbot.waitSignal(decoder.frame_failed, timeout=10_000) as blocker:
        decoder.request(wish(source, 3))
    assert "clip.mp4 brought the decoder down" in blocker.args[1]
    fatal.close()


def test_the_range_is_kept_and_each_picture_is_the_frame_asked_for(qtbot, decoder, source):
    decoder.keep(window(source, 10, 20))
    qtbot.waitUntil(lambda: kept(decoder, source) == list(range(10, 40)))
    for frame in (10, 19, 33):
        assert number_in(pixels_of(decoder.picture(source, frame, None))) == frame


def test_wishes_among_the_range_while_it_fills_are_met_and_leave_no_gap(qtbot, decoder, source):
    seen = {}
    decoder.frame_ready.connect(lambda asked, image: seen.update({asked.frame: number_in(pixels_of(image))}))
    decoder.keep(window(source, 4, 36))
    for frame in (4, 30, 12, 35):
        if decoder.picture(source, frame, None) is None:
            with qtbot.waitSignal(decoder.frame_ready):
                decoder.request(wish(source, frame))
    qtbot.waitUntil(lambda: kept(decoder, source) == list(range(4, 40)))
    assert all(frame == number for frame, number in seen.items())
    assert all(number_in(pixels_of(decoder.picture(source, frame, None))) == frame for frame in range(4, 36))


def test_it_tells_how_much_of_the_range_is_kept(qtbot, decoder, source):
    told = []
    decoder.filled.connect(lambda *counts: told.append(counts))
    decoder.keep(window(source, 0, 20))
    qtbot.waitUntil(lambda: (20, 20) in told)
    assert told == [(8, 20), (16, 20), (20, 20)]


@pytest.mark.parametrize(("megabytes", "smallest"), [(8, 180), (2, 180)])
def test_memory_is_bounded_and_a_long_range_is_kept_as_smaller_pictures(
    qtbot, process, tmp_path, megabytes, smallest
):
    source = probe(make_video(tmp_path / "large.mp4", frames=40, width=640, height=480))
    decoder = FrameDecoder(process=process, limit_bytes=megabytes << 20)
    decoder.keep(window(source, 5, 35, room=QSize(640, 480)))
    qtbot.waitUntil(lambda: len(kept(decoder, source)) > 8)
    qtbot.wait(100)
    first = kept(decoder, source)[0]
    picture = decoder.picture(source, first, None)
    assert first == 5
    assert smallest <= picture.height() < 480
    assert number_in(pixels_of(picture)) == 5
    assert decoder.kept_bytes <= megabytes << 20
    decoder.stop()


def test_another_video_forgets_the_first_and_a_moved_range_keeps_what_both_share(qtbot, decoder, source):
    decoder.keep(WindowWish(source, tuple(range(10)), 10, None, ROOM))
    qtbot.waitUntil(lambda: kept(decoder, source) == list(range(10)))
    shared = decoder.picture(source, 7, None)
    decoder.keep(WindowWish(source, tuple(range(5, 15)), 10, None, ROOM))
    qtbot.waitUntil(lambda: kept(decoder, source) == list(range(5, 15)))
    assert decoder.picture(source, 7, None) is shared
    decoder.keep(None)
    assert kept(decoder, source) == []
    assert decoder.kept_bytes == 0


def test_the_training_view_keeps_the_buckets_pixels(qtbot, decoder, source):
    size = TrainedSize(width=48, height=32, crop=CropBox(left=0, top=0, width=96, height=64))
    decoder.keep(WindowWish(source, (3, 9, 15), 3, size, QSize(960, 640)))
    qtbot.waitUntil(lambda: kept(decoder, source, size) == [3, 9, 15])
    picture = decoder.picture(source, 9, size)
    assert (picture.width(), picture.height()) == (48, 32)
    assert decoder.picture(source, 9, None) is None


def test_a_range_of_a_file_that_vanished_keeps_nothing_and_raises_nothing(qtbot, decoder, source, tmp_path):
    (tmp_path / "clip.mp4").unlink()
    decoder.keep(window(source, 0, 10))
    qtbot.wait(50)
    assert kept(decoder, source) == []


def test_square_pixels_are_fitted_and_never_enlarged(source):
    assert fitting_size(source, QSize(48, 1000)) == QSize(48, 32)
    assert fitting_size(source, QSize(1000, 1000)) == QSize(96, 64)
