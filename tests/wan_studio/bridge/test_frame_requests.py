import threading

import pytest
from PySide6.QtCore import QSize

from tests.media import make_video, number_in
from tests.wan_studio.bridge.pixels import pixels_of
from trainer.protocol.job import CropBox, TrainedSize
from wan_studio.bridge.frame_requests import FrameRequest, FrameRequester
from wan_studio.services.frame_reader import FrameReader
from wan_studio.services.media_probe import probe
from wan_studio.services.proxy_maker import ProxyMaker

pytestmark = pytest.mark.media


@pytest.fixture
def source(tmp_path):
    return probe(make_video(tmp_path / "clip.mp4", frames=30, fps=20, width=96, height=64))


@pytest.fixture
def requester(qtbot):
    made = FrameRequester()
    yield made
    made.stop()


def wish(source, frame, size=None):
    return FrameRequest(source, frame, size, QSize(96, 64))


def test_the_picture_is_the_frame_asked_for(qtbot, requester, source):
    for frame in (0, 17, 5, 29):
        with qtbot.waitSignal(requester.frame_ready) as blocker:
            requester.request(wish(source, frame))
        asked, image = blocker.args
        assert asked.frame == frame
        assert number_in(pixels_of(image)) == frame


def test_while_it_is_busy_only_the_latest_wish_is_kept(qtbot, request, source):
    gate = threading.Event()

    class SlowReader(FrameReader):
        def read_scaled(self, frame_index, max_width, max_height):
            gate.wait(5)
            return super().read_scaled(frame_index, max_width, max_height)

    requester = FrameRequester(open_reader=SlowReader)
    request.addfinalizer(requester.stop)
    seen = []
    requester.frame_ready.connect(lambda asked, _: seen.append(asked.frame))
    requester.request(wish(source, 0))
    qtbot.wait(30)
    for frame in range(1, 20):
        requester.request(wish(source, frame))
    gate.set()
    qtbot.waitUntil(lambda: 19 in seen)
    assert seen == [0, 19]


def test_the_training_view_has_the_buckets_pixels(qtbot, requester, source):
    size = TrainedSize(width=48, height=32, crop=CropBox(left=0, top=0, width=96, height=64))
    with qtbot.waitSignal(requester.frame_ready) as blocker:
        requester.request(wish(source, 9, size))
    image = blocker.args[1]
    assert (image.width(), image.height()) == (48, 32)
    assert number_in(pixels_of(image)) == 9


def test_a_file_that_vanished_is_a_sentence(qtbot, requester, source, tmp_path):
    (tmp_path / "clip.mp4").unlink()
    with qtbot.waitSignal(requester.frame_failed) as blocker:
        requester.request(wish(source, 3))
    assert "clip.mp4" in blocker.args[1]


def test_a_proxys_picture_comes_first_and_the_sources_own_follows(qtbot, requester, source, tmp_path):
    proxy = ProxyMaker(tmp_path / "proxies").make(source)
    requester.use_proxy(source, proxy)
    seen = []
    requester.draft_ready.connect(lambda asked, image: seen.append(("draft", number_in(pixels_of(image)))))
    requester.frame_ready.connect(lambda asked, image: seen.append(("exact", number_in(pixels_of(image)))))
    requester.request(wish(source, 17))
    qtbot.waitUntil(lambda: seen == [("draft", 17), ("exact", 17)])


def test_without_its_proxy_a_source_is_read_itself(qtbot, requester, source, tmp_path):
    proxy = ProxyMaker(tmp_path / "proxies").make(source)
    requester.use_proxy(source, proxy)
    (tmp_path / "proxies" / proxy.name).unlink()
    with qtbot.waitSignal(requester.frame_ready) as blocker:
        requester.request(wish(source, 17))
    assert number_in(pixels_of(blocker.args[1])) == 17
