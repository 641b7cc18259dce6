"""Files that cannot be trimmed: the page says what is wrong, and offers nothing that would do nothing."""

import os
import signal

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from tests.media import make_video
from wan_studio.domain.checks import Step
from wan_studio.services.clip_import import import_clips
from wan_studio.services.decoder_process import decoder_process
from wan_studio.undo.edits import edit_project

pytestmark = pytest.mark.media


def _silent_sound(path):
    import av
    import numpy as np

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44_100)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 44_100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _bad_file(kind, path):
    match kind:
        case "text":
            path.write_text("not a video", encoding="utf-8")
        case "zero bytes":
            path.write_bytes(b"")
        case "truncated":
            make_video(path)
            path.write_bytes(path.read_bytes()[:-400])
        case "sparse":
            with path.open("wb") as file:
                file.truncate(100 * 1024**3)
        case "sound":
            _silent_sound(path)


@pytest.fixture(params=["text", "zero bytes", "truncated", "sparse", "sound"])
def unreadable_page(request, qtbot, open_window, clips_folder):
    path = clips_folder / "bad.mp4"
    try:
        _bad_file(request.param, path)
    except OSError:
        pytest.skip("the disk holds no sparse files")
    session, library = open_window.bench.session, open_window.bench.library
    edit_project(session, "Add clips", import_clips(session.project, [path]))
    clip = next(clip for clip in session.project.clips if clip.source == str(path))
    qtbot.waitUntil(lambda: bool(library.facts_of(clip.id).unreadable), timeout=15_000)
    session.select_clip(clip.id)
    open_window.go_to(Step.TRIM)
    return open_window.page(Step.TRIM)


def test_what_is_wrong_is_said_and_nothing_can_be_pressed_in_vain(open_window, unreadable_page):
    page = unreadable_page
    assert "bad.mp4" in page._player.surface._message
    for made in (*page._panel._range_buttons, *page._stage.tools._clip_buttons):
        assert not made.isEnabled()
        assert "bad.mp4" in made.toolTip()
    QTest.keyClick(open_window, Qt.Key.Key_I)
    assert "bad.mp4" in page._stage.state
    assert page.source is None
    assert open_window.bench.session.project.clips[-1].trim is None


def test_a_readable_clip_brings_the_buttons_back(qtbot, open_window, page):
    page._set_usable("It cannot be read.")
    page._load_clip(open_window.bench.session.clip_id)
    for made in (*page._panel._range_buttons, *page._stage.tools._clip_buttons):
        assert made.isEnabled()
        assert "cannot" not in made.toolTip()


def test_a_decoder_that_is_killed_while_scrubbing_takes_nothing_with_it(qtbot, open_window, page):
    player = page._player
    player.release()
    page._seek(3)
    qtbot.waitUntil(lambda: player._exact_frame == 3)
    for frame in (8, 30, 14):
        os.kill(decoder_process().pid, signal.SIGTERM)
        page._seek(frame)
        qtbot.waitUntil(lambda frame=frame: player._exact_frame == frame, timeout=8000)
    assert page.isVisible()
