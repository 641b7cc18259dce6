"""The whole way by keyboard: project, clips, trim, caption, start, monitor, results, export."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLineEdit, QWidget

from wan_studio.bridge.background import wait_for_background
from wan_studio.domain.checks import Progress, Step
from wan_studio.domain.clip import TrimRange
from wan_studio.domain.run_state import Outcome
from wan_studio.services.project_store import ProjectStore

pytestmark = pytest.mark.media


def press(widget, key, modifier=Qt.KeyboardModifier.NoModifier):
    QTest.keyClick(widget, key, modifier)


def test_a_project_is_made_by_keyboard_and_takes_clips(qtbot, window, clips_folder, home):
    field = window.page(Step.PROJECTS).findChild(QLineEdit)
    field.setFocus()
    QTest.keyClicks(field, "orbit_v1")
    press(field, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: window.bench.session.is_open)
    assert window.step is Step.GOAL
    assert (home / "projects" / "orbit_v1" / "project.json").is_file()
    press(window, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert window.step is Step.CLIPS
    window.bench.import_clips([clips_folder])
    qtbot.waitUntil(lambda: len(window.bench.session.project.clips) == 3)
    qtbot.waitUntil(lambda: window.bench.library.waiting == 0)
    assert window.bench.session.undo_stack.undoText() == "Add 3 clips"
    window.bench.session.undo_stack.undo()
    assert window.bench.session.project.clips == ()


def test_i_and_o_set_the_range_to_the_frame_and_it_is_saved_within_a_second(
    qtbot, open_window, project_store
):
    open_window.go_to(Step.TRIM)
    page = open_window.page(Step.TRIM)
    qtbot.waitUntil(lambda: page._source is not None)
    for _ in range(5):
        press(open_window, Qt.Key.Key_Right)
    press(open_window, Qt.Key.Key_I)
    press(open_window, Qt.Key.Key_Right, Qt.KeyboardModifier.ShiftModifier)
    press(open_window, Qt.Key.Key_O)
    assert page.trim == TrimRange(5, 16)
    clip_id = open_window.bench.session.clip_id
    qtbot.waitUntil(lambda: project_store.load().clip(clip_id).trim == TrimRange(5, 16), timeout=15_000)
    press(open_window, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    press(open_window, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert page.trim == TrimRange(0, 40)


def test_the_player_shows_exactly_the_frame_under_the_playhead(qtbot, open_window):
    from tests.media import number_in

    open_window.go_to(Step.TRIM)
    player = open_window.page(Step.TRIM)._player
    qtbot.waitUntil(lambda: player.strip is not None)
    for frame in (0, 7, 39, 12):
        with qtbot.waitSignal(player.frame_shown, check_params_cb=lambda shown, frame=frame: shown == frame):
            open_window.page(Step.TRIM)._seek(frame)
            player.request_frame()
        image = player.surface.image.convertToFormat(player.surface.image.Format.Format_RGB888)
        assert number_in(_pixels(image)) == frame


def test_the_training_view_plays_the_sampled_frames_at_the_bucket_size(qtbot, open_window):
    open_window.go_to(Step.TRIM)
    page = open_window.page(Step.TRIM)
    qtbot.waitUntil(lambda: page._source is not None)
    press(open_window, Qt.Key.Key_T)
    strip = page._player.strip
    # 2 s at 16 fps are 32 frames; 17 wanted; 20 fps source frames on screen at each sixteenth of a second.
    assert strip.frames == tuple(int(i / 16 * 20 + 1e-9) for i in range(17))
    assert strip.end_seconds == pytest.approx(17 / 16)
    assert (strip.trained_size.width, strip.trained_size.height) == (64, 48)


def test_a_caption_is_written_beside_its_clip_shortly_after_typing(qtbot, open_window, clips_folder):
    open_window.go_to(Step.CAPTIONS)
    page = open_window.page(Step.CAPTIONS)
    qtbot.waitUntil(lambda: page.editor.toPlainText() == "orbit around the [trigger]")
    assert page._top.reading.trains_as.text() == "orbit around the frung"
    press(open_window, Qt.Key.Key_J, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: page.editor.toPlainText() == "" and not page.editor.isReadOnly())
    QTest.keyClicks(page.editor, "a slow dolly in")
    path = clips_folder / "b.txt"
    qtbot.waitUntil(lambda: path.is_file() and path.read_text(encoding="utf-8") == "a slow dolly in")
    assert (clips_folder / "a.txt").read_text(encoding="utf-8") == "orbit around the [trigger]"


def test_a_page_that_is_entered_shows_the_clip_that_was_chosen_before(qtbot, open_window, clips_folder):
    (clips_folder / "c.txt").write_bytes("La caméra".encode("latin-1"))
    chosen = open_window.bench.session.project.clips[2]
    open_window.bench.session.select_clip(chosen.id)
    for step in (Step.CAPTIONS, Step.TRIM, Step.CLIPS, Step.CAPTIONS):
        open_window.go_to(step)
        qtbot.wait(30)
        assert open_window.bench.session.clip_id == chosen.id, step
    page = open_window.page(Step.CAPTIONS)
    assert page._top.name.whole_text == "c.mp4"
    assert page._top.file.whole_text == str(clips_folder / "c.txt")


def test_letters_typed_into_a_caption_do_not_trim(qtbot, open_window):
    open_window.go_to(Step.TRIM)
    open_window.go_to(Step.CAPTIONS)
    page = open_window.page(Step.CAPTIONS)
    qtbot.waitUntil(lambda: page.editor.toPlainText() != "")
    QTest.keyClicks(page.editor, "io")
    assert "io" in page.editor.toPlainText()
    assert open_window.bench.session.project.clips[0].trim is None


def test_a_wrong_setting_keeps_the_old_value_and_blocks_the_way_on(qtbot, open_window):
    open_window.go_to(Step.TRAINING)
    row = open_window.page(Step.TRAINING).row("training.steps")
    line = row.findChild(QLineEdit)
    line.setFocus()
    line.selectAll()
    QTest.keyClicks(line, "0")
    assert "whole number" in row.problem
    assert not open_window.page(Step.TRAINING).primary().is_enabled
    line.selectAll()
    QTest.keyClicks(line, "300")
    assert row.problem == ""
    assert open_window.bench.session.project.settings.training.steps == 300


def test_a_run_starts_is_followed_and_exported(qtbot, open_window, stand_in_trainer):
    open_window.go_to(Step.REVIEW)
    review = open_window.page(Step.REVIEW)
    qtbot.waitUntil(lambda: review.preflight is not None, timeout=8000)
    assert review.preflight.can_start, review.preflight.checks
    press(open_window, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: open_window.step is Step.MONITOR, timeout=8000)
    runs = open_window.bench.runs
    qtbot.waitUntil(
        lambda: runs.watched is not None and runs.watched.state.outcome is Outcome.COMPLETED, timeout=10000
    )
    monitor = open_window.page(Step.MONITOR)
    assert monitor._headline.text() == "Completed"
    assert monitor._facts["Step"].text() == "20 of 20"
    open_window.go_to(Step.RESULTS)
    results = open_window.page(Step.RESULTS)
    assert results.primary().text == "Export LoRA pair"
    results.run_primary()
    qtbot.waitUntil(lambda: len(results.exported) == 2, timeout=8000)
    assert {path.name.split("_", 1)[1] for path in results.exported} == {
        "high_noise.safetensors",
        "low_noise.safetensors",
    }
    assert all(path.is_file() for path in results.exported)


def test_a_crash_is_shown_with_the_last_words_and_a_way_to_go_on(
    qtbot, open_window, stand_in_trainer, monkeypatch
):
    monkeypatch.setenv("STAND_IN", "crash")
    open_window.go_to(Step.REVIEW)
    review = open_window.page(Step.REVIEW)
    qtbot.waitUntil(lambda: review.primary().is_enabled, timeout=8000)
    review.run_primary()
    runs = open_window.bench.runs
    qtbot.waitUntil(
        lambda: runs.watched is not None and runs.watched.state.outcome is Outcome.CRASHED, timeout=10000
    )
    monitor = open_window.page(Step.MONITOR)
    assert not monitor._trouble.isHidden()
    assert "Killed by the stand-in" in monitor._trouble.text.text()
    assert monitor._trouble.resume.isEnabled()
    monkeypatch.delenv("STAND_IN")
    monitor._trouble.resume.click()
    qtbot.waitUntil(lambda: runs.watched.state.outcome is Outcome.COMPLETED, timeout=10000)


def test_closing_the_window_leaves_the_trainer_and_the_next_window_shows_it(
    qtbot, open_window, project_store, stand_in_trainer, monkeypatch
):
    from PySide6.QtWidgets import QApplication

    from wan_studio.app import build_window

    monkeypatch.setenv("STAND_IN", "slow")
    open_window.go_to(Step.REVIEW)
    review = open_window.page(Step.REVIEW)
    qtbot.waitUntil(lambda: review.primary().is_enabled, timeout=8000)
    review.run_primary()
    first = open_window.bench.runs
    qtbot.waitUntil(lambda: first.watched is not None and first.watched.state.step > 0, timeout=10000)
    run, step = first.watched.run, first.watched.state.step
    open_window.close()
    second = build_window(QApplication.instance())
    try:
        second.show()
        second.bench.open_project(project_store.folder)
        qtbot.waitUntil(lambda: second.step is Step.MONITOR, timeout=8000)
        runs = second.bench.runs
        qtbot.waitUntil(lambda: runs.watched is not None and runs.watched.state.step > step, timeout=10000)
        assert runs.watched.run.path == run.path
        assert run.is_alive()
        second.go_to(Step.MONITOR)
        second.page(Step.MONITOR).stop()
        qtbot.waitUntil(lambda: runs.watched.state.outcome is Outcome.STOPPED, timeout=10000)
    finally:
        second.close()
        wait_for_background()
        second.deleteLater()


def test_every_control_on_every_page_has_a_name_for_screen_readers(qtbot, open_window):
    from PySide6.QtWidgets import QAbstractButton, QAbstractItemView, QComboBox, QPlainTextEdit, QSlider

    kinds = (QAbstractButton, QLineEdit, QComboBox, QPlainTextEdit, QSlider, QAbstractItemView)
    nameless = []
    for step in Step:
        open_window.go_to(step)
        for widget in open_window.findChildren(QWidget):
            inner = widget.objectName().startswith("qt_") or isinstance(widget.parent(), QComboBox)
            has_text = isinstance(widget, QAbstractButton) and widget.text()
            is_control = isinstance(widget, kinds) and widget.isVisible() and not inner
            if is_control and not widget.accessibleName() and not has_text:
                nameless.append((step, widget))
    assert nameless == []


def test_every_page_has_an_empty_state_and_a_way_on(qtbot, window):
    for step in Step:
        window.go_to(step)
        qtbot.wait(10)
        assert window.step is step


def test_nothing_is_cut_off_at_the_smallest_window(qtbot, open_window):
    open_window.resize(1024, 640)
    for step in Step:
        open_window.go_to(step)
        qtbot.wait(30)
        assert (open_window.width(), open_window.height()) == (1024, 640), step


def test_the_rail_says_what_needs_attention(qtbot, open_window):
    rail = open_window._rail
    qtbot.waitUntil(lambda: rail.button(Step.CAPTIONS).state.progress is Progress.ATTENTION)
    assert rail.button(Step.CAPTIONS).state.note == "1/3"
    assert "needs attention" in rail.button(Step.CAPTIONS).accessibleName()


def test_both_schemes_apply_live_and_keep_contrast(qtbot, open_window):
    from wan_studio.views.theme import DARK, LIGHT, tones

    open_window.theme.set_appearance("dark")
    assert tones() == DARK
    open_window.theme.set_appearance("light")
    assert tones() == LIGHT
    for colours in (DARK, LIGHT):
        for ground in (colours.window, colours.surface):
            for text in ("text", "muted", "accent", "good", "warn", "bad", "high", "low"):
                assert _contrast(getattr(colours, text), ground) >= 4.5, (text, ground)
        assert _contrast(colours.on_accent, colours.accent) >= 4.5
        assert _contrast(colours.muted, colours.sunken) >= 4.5


def test_a_broken_project_is_a_sentence_and_not_a_crash(qtbot, window, tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "project.json").write_text("{not json")
    window.bench.open_project(folder)
    qtbot.waitUntil(lambda: "project.json" in window.banner.text)
    assert "damaged" in window.banner.text
    assert not window.bench.session.is_open
    assert ProjectStore(folder).project_file.read_text() == "{not json"


def _contrast(first, second):
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _pixels(image):
    import numpy as np

    flat = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return flat[:, : 3 * image.width()].reshape(image.height(), image.width(), 3)
