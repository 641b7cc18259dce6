import pytest

from tests.media import make_video
from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.clip_studies import ClipStudies
from wan_studio.services.media_probe import probe

pytestmark = pytest.mark.media


@pytest.fixture
def studies(qtbot, tmp_path):
    made = ClipStudies(tmp_path / "cache")
    yield made
    made.cancel()
    wait_for_background()


@pytest.fixture
def source(tmp_path):
    return probe(make_video(tmp_path / "clip.mp4", frames=40))


def test_a_video_is_looked_through_once(qtbot, studies, source):
    assert studies.analysis_of(source) is None
    with qtbot.waitSignals([studies.analysed, studies.ended]):
        studies.analyse(source)
    found = studies.analysis_of(source)
    assert len(found.motion.curve) == 40
    with qtbot.waitSignal(studies.analysed):
        studies.analyse(source)
    assert studies.analysis_of(source) is found


def test_a_proxy_is_told_of_when_it_is_made_and_found_the_next_time(qtbot, studies, source, tmp_path):
    with qtbot.waitSignal(studies.proxy_made) as blocker:
        studies.make_proxy(source)
    assert blocker.args == [source, studies.proxy_of(source)]
    later = ClipStudies(tmp_path / "cache")
    with qtbot.waitSignal(later.proxy_made):
        later.make_proxy(source, only_existing=True)


def test_looking_for_a_proxy_makes_none(qtbot, studies, source, tmp_path):
    with qtbot.waitSignal(studies.ended):
        studies.make_proxy(source, only_existing=True)
    assert studies.proxy_of(source) is None
    assert not (tmp_path / "cache").exists()


def test_cancelled_work_tells_its_end_at_once_and_nothing_later(qtbot, studies, source):
    told = []
    studies.analysed.connect(lambda *_: told.append("analysed"))
    studies.progressed.connect(lambda *_: told.append("progress"))
    studies.analyse(source)
    with qtbot.waitSignal(studies.ended):
        studies.cancel("motion")
    wait_for_background()
    qtbot.wait(20)
    assert told == []
    with qtbot.waitSignal(studies.analysed):
        studies.analyse(source)


def test_work_on_the_video_that_is_looked_at_goes_on(qtbot, studies, source, tmp_path):
    other = probe(make_video(tmp_path / "other.mp4", frames=40))
    studies.analyse(source)
    studies.analyse(other)
    with qtbot.waitSignal(studies.analysed) as blocker:
        studies.cancel(but=source)
    assert blocker.args == [source]


def test_a_file_that_cannot_be_read_ends_quietly(qtbot, studies, source, tmp_path):
    (tmp_path / "clip.mp4").unlink()
    with qtbot.waitSignal(studies.ended):
        studies.analyse(source)
    assert studies.analysis_of(source) is None
