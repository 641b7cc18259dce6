"""The clip beside its caption: the source, or what the model will see of it."""

import msgspec
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from wan_studio.domain.checks import Step
from wan_studio.domain.clip import TrimRange

pytestmark = pytest.mark.media


@pytest.fixture
def page(qtbot, open_window):
    open_window.go_to(Step.CAPTIONS)
    made = open_window.page(Step.CAPTIONS)
    qtbot.waitUntil(lambda: made._top.player.strip is not None)
    return made


def test_one_key_shows_exactly_the_frames_that_train_and_back_again(qtbot, page):
    clip, player = page.session.clip, page._top.player
    page.session.set_project(
        page.session.project.with_clip(msgspec.structs.replace(clip, trim=TrimRange(4, 30)))
    )
    QTest.keyClick(page.editor, Qt.Key.Key_F4)
    strip = player.strip
    assert strip.trained_size is not None
    assert (strip.frames[0], len(strip.frames) % 4) == (4, 1)
    assert strip.end_seconds == len(strip.frames) / 16
    qtbot.waitUntil(
        lambda: not player.surface.image.isNull() and player.surface.image.width() == strip.trained_size.width
    )
    assert "16 fps" in page._top.clip.note
    QTest.keyClick(page.editor, Qt.Key.Key_Escape)
    assert player.hasFocus()
    QTest.keyClick(player, Qt.Key.Key_T)
    assert player.strip.trained_size is None
    assert page._top.clip.note.startswith("Loops from")


def test_another_trim_shows_at_once_and_does_not_start_a_clip_that_was_paused(qtbot, page):
    page._sheet.show_training_view(on=True)
    before = page._top.player.strip.frames
    clip = page.session.clip
    page.session.set_project(
        page.session.project.with_clip(msgspec.structs.replace(clip, trim=TrimRange(8, 30)))
    )
    assert page._top.player.strip.frames != before
    page._top.player.playback.stop()
    page.session.set_project(msgspec.structs.replace(page.session.project, name="other"))
    assert page._top.player.playback.speed == 0


def test_a_clip_is_renamed_by_f2_and_found_by_both_names(qtbot, page):
    QTest.keyClick(page.editor, Qt.Key.Key_F2)
    QTest.keyClicks(page._top.name.field, "Castle")
    QTest.keyClick(page._top.name.field, Qt.Key.Key_Return)
    assert page.session.clip.name == "Castle"
    assert page.session.clip.source.endswith("a.mp4")
    qtbot.waitUntil(lambda: page._top.name.whole_text == "Castle")
    assert page.session.undo_stack.undoText() == "Rename clip"
    page.session.undo_stack.undo()
    assert page.session.clip.name == "a.mp4"
