import pytest

from tests.media import is_upright, make_video, number_in
from wan_studio.services.frame_reader import FrameReader
from wan_studio.services.media_probe import probe
from wan_studio.services.proxy_maker import ProxyCancelledError, ProxyMaker

pytestmark = pytest.mark.media


@pytest.mark.parametrize(
    "changes",
    [
        {"b_frames": 2, "gop": 30},
        {"rotation": 90},
        {"times": [0, 0.04, 0.2, 0.21, 0.5, 0.9, 0.95, 1.4]},
        {"width": 1280, "height": 720, "frames": 6},
    ],
    ids=["B-frames", "rotated", "variable rate", "large"],
)
def test_every_frame_of_a_proxy_is_the_sources_frame_of_that_number(tmp_path, changes):
    source = probe(make_video(tmp_path / "clip.mp4", **changes))
    proxy = ProxyMaker(tmp_path / "proxies").make(source)
    assert proxy.frame_count == source.frame_count
    with FrameReader(proxy) as reader:
        for frame in reversed(range(proxy.frame_count)):
            picture = reader.read(frame)
            assert number_in(picture) == frame
    assert is_upright(picture, 40)
    assert picture.shape[0] <= 480


def test_a_proxy_is_made_once_for_each_state_of_a_source(tmp_path):
    path = make_video(tmp_path / "clip.mp4", frames=10)
    maker = ProxyMaker(tmp_path / "proxies")
    assert maker.existing(probe(path)) is None
    made = maker.make(probe(path))
    assert maker.existing(probe(path)) == made
    assert maker.make(probe(path)) == made
    make_video(path, frames=12)
    assert maker.existing(probe(path)) is None


def test_a_cancelled_proxy_leaves_nothing_behind(tmp_path):
    source = probe(make_video(tmp_path / "clip.mp4", frames=20))
    with pytest.raises(ProxyCancelledError):
        ProxyMaker(tmp_path / "proxies").make(source, is_cancelled=lambda: True)
    assert list((tmp_path / "proxies").iterdir()) == []


def test_a_damaged_proxy_is_made_again(tmp_path):
    source = probe(make_video(tmp_path / "clip.mp4", frames=10))
    maker = ProxyMaker(tmp_path / "proxies")
    path = tmp_path / "proxies" / maker.make(source).name
    path.write_bytes(path.read_bytes()[:200])
    assert maker.existing(source) is None
    assert maker.make(source).frame_count == 10
