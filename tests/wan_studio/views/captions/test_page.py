"""The Captions page in the real window, by keys."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest

from wan_studio.domain.checks import Step

pytestmark = pytest.mark.media

CONTROL = Qt.KeyboardModifier.ControlModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier


@pytest.fixture
def page(qtbot, open_window):
    open_window.go_to(Step.CAPTIONS)
    made = open_window.page(Step.CAPTIONS)
    qtbot.waitUntil(lambda: made.editor.text == "orbit around the [trigger]")
    qtbot.waitUntil(lambda: len(made._model.ids) == 3)
    return made


def press(widget, key, modifier=Qt.KeyboardModifier.NoModifier):
    QTest.keyClick(widget, key, modifier)


def saved(qtbot, page):
    qtbot.waitUntil(lambda: not page._sheet._is_dirty and page._desk.is_saved)


def test_hard_spaces_and_line_ends_survive_an_edit(qtbot, page, clips_folder):
    path = clips_folder / "b.txt"
    path.write_bytes("a\u00a0cat\r\nsits".encode("utf-8-sig"))
    page._desk.look_again()
    qtbot.waitUntil(lambda: page._desk.text_of(page.session.project.clips[1].id) != "")
    press(page.editor, Qt.Key.Key_Down, CONTROL)
    qtbot.waitUntil(lambda: page.editor.text == "a\u00a0cat\nsits")
    QTest.keyClicks(page.editor, "!")
    saved(qtbot, page)
    assert path.read_bytes() == "a\u00a0cat\r\nsits!".encode("utf-8-sig")


def test_undo_in_the_editor_is_the_windows_and_takes_typing_back_at_once(qtbot, page, clips_folder):
    QTest.keyClicks(page.editor, " slowly")
    press(page.editor, Qt.Key.Key_Z, CONTROL)
    assert page.editor.text == "orbit around the [trigger]"
    saved(qtbot, page)
    assert (clips_folder / "a.txt").read_text() == "orbit around the [trigger]"
    press(page.editor, Qt.Key.Key_Z, CONTROL | SHIFT)
    assert page.editor.text.endswith(" slowly")


def test_control_down_goes_on_from_within_the_editor_and_control_t_inserts(qtbot, page):
    first = page.session.clip_id
    press(page.editor, Qt.Key.Key_Down, CONTROL)
    assert page.session.clip_id != first
    press(page.editor, Qt.Key.Key_T, CONTROL)
    assert page.editor.text == "[trigger]"
    press(page.editor, Qt.Key.Key_Up, CONTROL)
    assert page.session.clip_id == first


def test_tab_takes_the_word_in_use_and_escape_refuses_it(qtbot, page):
    page._index._renew_words()
    qtbot.waitUntil(lambda: page.editor.words.complete("arou") != [])
    QTest.keyClicks(page.editor, ", arou")
    assert page.editor.suggestion == "around"
    press(page.editor, Qt.Key.Key_Tab)
    assert page.editor.text.endswith(", around")
    QTest.keyClicks(page.editor, " orb")
    press(page.editor, Qt.Key.Key_Escape)
    assert page.editor.suggestion == ""
    assert page.editor.text.endswith(" orb")


def test_a_search_narrows_the_list_and_a_wrong_one_says_why(qtbot, page):
    press(page.editor, Qt.Key.Key_F, CONTROL)
    QTest.keyClicks(page._list.search, "caption:none")
    qtbot.waitUntil(lambda: page._list.note == "2 clips found")
    page._list.search.setText("tokens:x")
    qtbot.waitUntil(lambda: "takes a number" in page._list.note)
    press(page._list.search, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: page._list.note == "3 clips")


def test_a_replacement_is_previewed_made_in_one_step_and_taken_back(qtbot, page, clips_folder):
    press(page.editor, Qt.Key.Key_H, CONTROL)
    panel = page._top.replace
    assert panel.isVisible()
    panel.sought.setText("orbit")
    panel.replacement.setText("dolly")
    qtbot.waitUntil(lambda: panel.model.rowCount() == 1)
    assert (clips_folder / "a.txt").read_text() == "orbit around the [trigger]"
    press(panel.replacement, Qt.Key.Key_Return)
    saved(qtbot, page)
    assert page.editor.text == "dolly around the [trigger]"
    assert (clips_folder / "a.txt").read_text() == "dolly around the [trigger]"
    assert page.session.undo_stack.undoText() == "Replace in 1 caption"
    page.session.undo_stack.undo()
    saved(qtbot, page)
    assert (clips_folder / "a.txt").read_text() == "orbit around the [trigger]"
    press(panel.sought, Qt.Key.Key_Escape)
    assert page._top.shows_clip


def test_a_change_that_is_unticked_is_not_made_and_a_bad_expression_is_a_sentence(qtbot, page):
    page.open_replace()
    panel = page._top.replace
    panel.sought.setText("orbit")
    qtbot.waitUntil(lambda: panel.model.rowCount() == 1)
    panel.model.setData(panel.model.index(0), Qt.CheckState.Unchecked, Qt.ItemDataRole.CheckStateRole)
    assert not panel._apply.isEnabled()
    panel.regex.setChecked(True)
    panel.sought.setText("(orbit")
    qtbot.waitUntil(lambda: "cannot be read" in panel._note.text())


def test_the_trigger_and_a_copied_caption_go_to_all_selected_clips(qtbot, page, clips_folder):
    press(page.editor, Qt.Key.Key_C, CONTROL | SHIFT)
    assert QGuiApplication.clipboard().text() == "orbit around the [trigger]"
    QGuiApplication.clipboard().setText("a slow pan")
    page._list.list.selectAll()
    press(page.editor, Qt.Key.Key_V, CONTROL | SHIFT)
    saved(qtbot, page)
    assert [(clips_folder / f"{i}.txt").read_text() for i in "abc"] == ["a slow pan"] * 3
    press(page.editor, Qt.Key.Key_T, CONTROL | SHIFT)
    saved(qtbot, page)
    assert (clips_folder / "c.txt").read_text() == "[trigger], a slow pan"
    assert page.session.undo_stack.undoText() == "Add [trigger] to 3 captions"


def test_a_change_from_outside_is_noticed_and_reloaded_or_kept(qtbot, page, clips_folder):
    path = clips_folder / "a.txt"
    path.write_text("theirs, longer than before")
    qtbot.waitUntil(lambda: page._top.outside.isVisible(), timeout=5000)
    assert page.editor.text == "orbit around the [trigger]"
    page._sheet._on_diff()
    assert page._top.shows_history
    page._top.outside.reload_wanted.emit()
    assert page.editor.text == "theirs, longer than before"
    saved(qtbot, page)
    path.write_text("theirs again")
    qtbot.waitUntil(lambda: page._top.outside.isVisible(), timeout=5000)
    page._top.outside.keep_wanted.emit()
    saved(qtbot, page)
    assert path.read_text() == "theirs, longer than before"


def test_the_original_comes_back_from_the_history(qtbot, page, clips_folder):
    QTest.keyClicks(page.editor, "?")
    saved(qtbot, page)
    press(page.editor, Qt.Key.Key_H, CONTROL | SHIFT)
    panel = page._top.history
    qtbot.waitUntil(lambda: panel.isVisible() and panel.list.count() == 2)
    panel._on_restore()
    saved(qtbot, page)
    assert (clips_folder / "a.txt").read_text() == "orbit around the [trigger]"
    assert page.session.undo_stack.undoText() == "Restore caption"


def test_another_encoding_is_shown_as_guessed_read_only_and_converted(qtbot, page, clips_folder):
    path = clips_folder / "c.txt"
    path.write_bytes("La caméra tourne".encode("latin-1"))
    page._desk.look_again()
    clip = page.session.project.clips[2]
    qtbot.waitUntil(lambda: page.bench.library.facts_of(clip.id).caption_problem != "")
    page.session.select_clip(clip.id)
    qtbot.waitUntil(lambda: page.editor.text == "La caméra tourne")
    assert page.editor.isReadOnly()
    qtbot.waitUntil(lambda: "Converting keeps" in page._top.banner.text)
    page._top.banner._on_button_clicked()
    qtbot.waitUntil(lambda: not page.editor.isReadOnly() and page._desk.is_saved)
    assert path.read_bytes() == "La caméra tourne".encode()
    stack = page.session.undo_stack
    assert stack.undoText() == "Convert caption of c.mp4 to UTF-8"
    stack.undo()
    qtbot.waitUntil(lambda: page.editor.isReadOnly())
    assert path.read_bytes() == "La caméra tourne".encode("latin-1")
    stack.redo()
    qtbot.waitUntil(lambda: not page.editor.isReadOnly() and page._desk.is_saved)
    assert path.read_bytes() == "La caméra tourne".encode()


def test_the_lint_and_the_tokens_follow_the_words(qtbot, page):
    assert "Names the motion" in page._top.reading.findings
    page.editor.selectAll()
    QTest.keyClicks(page.editor, "a castle")
    assert page._top.reading.findings == ["No motion named", "Trigger not named"]
    assert page._top.reading.trains_as.text() == "frung, a castle"
    assert page._top.reading.tokens.text().endswith("of 512 tokens")


def test_what_was_just_typed_is_written_when_the_window_closes(qtbot, open_window, page, clips_folder):
    QTest.keyClicks(page.editor, " now")
    open_window.close()
    assert (clips_folder / "a.txt").read_text() == "orbit around the [trigger] now"
