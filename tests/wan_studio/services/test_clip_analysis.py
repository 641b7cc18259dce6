import av
import numpy as np
import pytest

from tests.media import is_upright, make_video
from wan_studio.domain.clip_motion import cuts_of
from wan_studio.domain.trim_suggestion import without_still_ends
from wan_studio.errors import AppError
from wan_studio.services.clip_analysis import AnalysisCache, AnalysisCancelledError, analyse
from wan_studio.services.media_probe import probe

pytestmark = pytest.mark.media


def make_scenes(path, parts, fps=20):
    """Scenes of (frames, brightness, pixels a frame that a square moves)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.options = {"crf": "12", "preset": "ultrafast"}
        place = 0
        for frames, brightness, step in parts:
            for _ in range(frames):
                place += step
                picture = np.full((96, 160, 3), brightness, np.uint8)
                at = place % 100
                picture[20:70, at : at + 50] = 255 - brightness
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return probe(path)


def test_a_change_of_scene_is_found_on_its_first_frame(tmp_path):
    source = make_scenes(tmp_path / "a.mp4", [(30, 20, 1), (25, 230, 1), (20, 90, 1)])
    assert cuts_of(source, analyse(source).motion) == (30, 55)


def test_scenes_that_differ_in_colour_alone_are_told_apart(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        # Of about the same brightness.
        for colour in ((150, 60, 60), (60, 100, 90)):
            for _ in range(20):
                picture = np.full((96, 160, 3), colour, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    source = probe(path)
    assert cuts_of(source, analyse(source).motion) == (20,)


def test_still_ends_are_found_in_a_real_file(tmp_path):
    source = make_scenes(tmp_path / "a.mp4", [(30, 20, 0), (30, 20, 4), (30, 20, 0)])
    found = without_still_ends(source, analyse(source).motion, source.whole_range)
    assert found.trim.start_frame in range(25, 31)
    assert found.trim.end_frame in range(60, 66)


def test_the_filmstrip_shows_upright_pictures_in_their_order(tmp_path):
    source = probe(make_video(tmp_path / "turned.mp4", frames=20, rotation=90, width=96, height=128))
    found = analyse(source)
    assert found.strip_frames == tuple(range(20))
    width = found.strip.shape[1] // 20
    assert is_upright(found.strip[:, :width], 60)


def test_it_is_made_once_and_kept(tmp_path):
    source = probe(make_video(tmp_path / "clip.mp4", frames=20))
    cache = AnalysisCache(tmp_path / "motion")
    first = cache.analysis(source)
    told = []
    again = cache.analysis(source, on_progress=lambda *counts: told.append(counts))
    assert again.motion == first.motion
    assert np.array_equal(again.strip, first.strip)
    assert told == []


def test_a_damaged_entry_is_made_again(tmp_path):
    source = probe(make_video(tmp_path / "clip.mp4", frames=20))
    cache = AnalysisCache(tmp_path / "motion")
    first = cache.analysis(source)
    next((tmp_path / "motion").iterdir()).write_bytes(b"\x93")
    assert cache.analysis(source).motion == first.motion


def test_it_tells_its_progress_and_can_be_cancelled(tmp_path):
    source = probe(make_video(tmp_path / "clip.mp4", frames=40))
    told = []
    analyse(source, on_progress=lambda *counts: told.append(counts))
    assert told == [(16, 40), (32, 40)]
    with pytest.raises(AnalysisCancelledError):
        AnalysisCache(tmp_path / "motion").analysis(source, is_cancelled=lambda: True)
    assert not (tmp_path / "motion").exists()


def test_a_file_that_vanished_is_a_sentence(tmp_path):
    source = probe(make_video(tmp_path / "clip.mp4", frames=5))
    (tmp_path / "clip.mp4").unlink()
    with pytest.raises(AppError, match=r"clip\.mp4"):
        analyse(source)
