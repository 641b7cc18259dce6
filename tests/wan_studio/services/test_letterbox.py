import av
import numpy as np
import pytest

from trainer.protocol.job import CropBox
from wan_studio.services.letterbox import picture_without_bars
from wan_studio.services.media_probe import probe

pytestmark = pytest.mark.media


def film(path, paint, frames=20):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv420p"
        stream.options = {"crf": "18", "preset": "ultrafast"}
        generator = np.random.default_rng(1)
        for at in range(frames):
            picture = generator.integers(60, 200, (128, 192, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(paint(picture, at), format="rgb24")))
        container.mux(stream.encode(None))
    return probe(path)


def bars(top=0, bottom=0, left=0, right=0):
    def paint(picture, _):
        picture[:top] = 0
        picture[128 - bottom :] = 0
        picture[:, :left] = 0
        picture[:, 192 - right :] = 0
        return picture

    return paint


@pytest.mark.parametrize("sides", [{"top": 20, "bottom": 20}, {"left": 24, "right": 32}, {"bottom": 12}])
def test_bars_are_cut_off_with_at_most_two_pixels_more(tmp_path, sides):
    source = film(tmp_path / "a.mp4", bars(**sides))
    found = picture_without_bars(source, source.whole_range)
    left, top = sides.get("left", 0), sides.get("top", 0)
    right, bottom = 192 - sides.get("right", 0), 128 - sides.get("bottom", 0)
    assert left <= found.left <= left + 2
    assert top <= found.top <= top + 2
    assert right - 2 <= found.left + found.width <= right
    assert bottom - 2 <= found.top + found.height <= bottom


def test_a_picture_without_bars_is_left_whole(tmp_path):
    source = film(tmp_path / "a.mp4", bars())
    assert picture_without_bars(source, source.whole_range) is None


def test_a_dark_scene_is_not_taken_for_bars(tmp_path):
    def paint(picture, at):
        if at < 15:
            picture[:40] = 0
        return picture

    source = film(tmp_path / "a.mp4", paint)
    assert picture_without_bars(source, source.whole_range) is None


def test_an_all_black_clip_is_left_whole(tmp_path):
    source = film(tmp_path / "a.mp4", lambda picture, _: picture * 0)
    assert picture_without_bars(source, source.whole_range) is None


def test_subtitles_in_a_bar_do_not_hide_it(tmp_path):
    def paint(picture, at):
        painted = bars(top=20, bottom=20)(picture, at)
        painted[116:120, 90:94] = 220
        return painted

    source = film(tmp_path / "a.mp4", paint)
    found = picture_without_bars(source, source.whole_range)
    assert isinstance(found, CropBox)
    assert found.top + found.height <= 108
