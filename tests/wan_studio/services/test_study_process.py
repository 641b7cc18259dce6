import sys

import pytest

from tests.media import make_video
from wan_studio.services import study_process
from wan_studio.services.clip_analysis import AnalysisCache
from wan_studio.services.media_probe import probe
from wan_studio.services.proxy_maker import ProxyMaker
from wan_studio.services.study_process import StudyCancelledError, StudyError, run_study

pytestmark = pytest.mark.media


@pytest.fixture
def source(tmp_path):
    return probe(make_video(tmp_path / "clip.mp4", frames=40))


def test_analysis_and_proxy_lie_in_their_folders_afterwards(tmp_path, source):
    told = []
    run_study("motion", source, tmp_path / "motion", lambda *counts: told.append(counts))
    assert len(AnalysisCache(tmp_path / "motion").existing(source).motion.curve) == 40
    assert told[-1] == (32, 40)
    run_study("proxy", source, tmp_path / "proxies")
    assert ProxyMaker(tmp_path / "proxies").existing(source).frame_count == 40


def test_a_file_that_vanished_is_a_sentence(tmp_path, source):
    (tmp_path / "clip.mp4").unlink()
    with pytest.raises(StudyError, match="clip"):
        run_study("motion", source, tmp_path / "motion")


def test_it_ends_when_it_is_cancelled(tmp_path, source):
    with pytest.raises(StudyCancelledError):
        run_study("motion", source, tmp_path / "motion", is_cancelled=lambda: True)


def test_a_decoder_that_crashes_is_a_sentence(tmp_path, source, monkeypatch):
    crash = "import os, sys; sys.stdin.buffer.read(); os.abort()"
    monkeypatch.setattr(study_process, "COMMAND", (sys.executable, "-c", crash))
    with pytest.raises(StudyError, match=r"clip\.mp4 brought the decoder down"):
        run_study("motion", source, tmp_path / "motion")
