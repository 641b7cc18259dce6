import pytest

from tests.media import make_video, number_in
from tests.wan_studio.bridge.pixels import pixels_of
from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.still_shelf import StillShelf
from wan_studio.services.media_probe import probe

pytestmark = pytest.mark.media


@pytest.fixture
def source(tmp_path):
    return probe(make_video(tmp_path / "clip.mp4", frames=20, width=96, height=64, gop=20))


@pytest.fixture
def shelf(qtbot, tmp_path):
    made = StillShelf(tmp_path / "stills")
    yield made
    made.stop()


def told_by(shelf):
    told = []
    shelf.still_ready.connect(lambda _, frame, image: told.append((frame, number_in(pixels_of(image)))))
    return told


def test_pictures_prepared_beforehand_are_told_at_once_and_survive_a_restart(qtbot, shelf, source, tmp_path):
    told = told_by(shelf)
    shelf.prepare([(source, 7), (source, 13)])
    qtbot.waitUntil(lambda: len(list((tmp_path / "stills").glob("[!.]*.jpg"))) == 2)
    shelf.want(source, 13)
    assert told == [(13, 13)]
    later = StillShelf(tmp_path / "stills")
    told_later = told_by(later)
    later.want(source, 7)
    qtbot.waitUntil(lambda: told_later == [(7, 7)])


def test_what_is_not_known_is_not_told(qtbot, shelf, source):
    told = told_by(shelf)
    shelf.want(source, 3)
    wait_for_background()
    qtbot.wait(20)
    assert told == []


def test_a_file_that_cannot_be_read_does_not_hold_up_the_next(qtbot, shelf, source, tmp_path):
    gone = probe(make_video(tmp_path / "gone.mp4", frames=4))
    (tmp_path / "gone.mp4").unlink()
    shelf.prepare([(gone, 1), (source, 5)])
    told = told_by(shelf)

    def is_told():
        shelf.want(source, 5)
        return told[-1:] == [(5, 5)]

    qtbot.waitUntil(is_told)
