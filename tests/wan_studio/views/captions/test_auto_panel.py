"""Automatic captions on the Captions page: proposed, reviewed, and accepted in one step; never written before."""

from dataclasses import replace

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from tests.wan_studio.conftest import STAND_IN_CAPTIONER, use_trainer
from wan_studio.bridge.auto_captions import AutoCaptions
from wan_studio.domain.auto_caption import Proposal
from wan_studio.domain.checks import Step

pytestmark = pytest.mark.media


@pytest.fixture
def page(qtbot, open_window, tmp_path, monkeypatch):
    use_trainer(monkeypatch, tmp_path, STAND_IN_CAPTIONER)
    open_window.go_to(Step.CAPTIONS)
    made = open_window.page(Step.CAPTIONS)
    qtbot.waitUntil(lambda: made.editor.text == "orbit around the [trigger]")
    made.open_automatic()
    return made


@pytest.fixture
def panel(page):
    return page._automatic.panel


@pytest.fixture
def desk(page):
    return page.bench.auto_captions


def files(folder):
    return {path.name: path.read_text() for path in folder.glob("*.txt")}


def describe(qtbot, panel, desk, scope):
    panel.setup.scope.setCurrentIndex(panel.setup.scope.findData(scope))
    with qtbot.waitSignal(desk.ended, timeout=15_000):
        panel.setup.start()


def names(panel):
    return [one.name for one in panel.review.model.rows]


def test_captions_for_clips_without_one_are_accepted_in_one_step_and_taken_back(
    qtbot, page, panel, desk, clips_folder
):
    assert not panel.shows_review
    assert panel.setup._start.text() == "Describe 2 clips"
    describe(qtbot, panel, desk, "empty")
    assert panel.shows_review
    assert names(panel) == ["b.mp4", "c.mp4"]
    assert files(clips_folder) == {"a.txt": "orbit around the [trigger]"}
    panel.review._accept_empty.click()
    qtbot.waitUntil(lambda: page._desk.is_saved)
    assert files(clips_folder)["b.txt"] == "[trigger], a slow orbit around b, seen in 12 frames."
    assert not panel.review.model.rows
    stack = page.session.undo_stack
    assert stack.undoText() == "Automatic captions for 2 clips"
    stack.undo()
    qtbot.waitUntil(lambda: page._desk.is_saved)
    assert files(clips_folder) == {"a.txt": "orbit around the [trigger]"}
    panel.review._empty_back.click()
    assert names(panel) == ["b.mp4", "c.mp4"]


def test_what_has_a_caption_is_ticked_by_the_user_alone_and_shows_the_difference(
    qtbot, page, panel, desk, clips_folder
):
    describe(qtbot, panel, desk, "all")
    review = panel.review
    assert names(panel) == ["a.mp4", "b.mp4", "c.mp4"]
    assert [one.name for one in review.model.ticked] == ["b.mp4", "c.mp4"]
    review.list.setCurrentIndex(review.model.index(0))
    assert review.diff.isVisible()
    assert "orbit around" in review.diff.toPlainText()
    review.list.setFocus()
    QTest.keyClick(review.list, Qt.Key.Key_Space)
    assert review._accept_ticked.text() == "Accept 3 ticked"
    QTest.keyClick(review.list, Qt.Key.Key_Space)
    review._accept_ticked.click()
    qtbot.waitUntil(lambda: page._desk.is_saved)
    assert files(clips_folder)["a.txt"] == "orbit around the [trigger]"
    assert files(clips_folder)["c.txt"].startswith("[trigger], a slow")
    assert names(panel) == ["a.mp4"]


def test_a_proposal_is_edited_accepted_by_key_and_another_one_skipped(qtbot, page, panel, desk, clips_folder):
    describe(qtbot, panel, desk, "empty")
    review = panel.review
    assert page.session.clip_id == review.model.rows[0].clip_id
    review.editor.selectAll()
    QTest.keyClicks(review.editor, "mine")
    review.list.setFocus()
    QTest.keyClick(review.list, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: page._desk.is_saved)
    assert files(clips_folder)["b.txt"] == "mine"
    assert page.session.clip.source.endswith("c.mp4")
    QTest.keyClick(review.list, Qt.Key.Key_Delete)
    assert not review.model.rows
    assert "c.txt" not in files(clips_folder)
    assert len(desk.settled) == 2


def test_closed_and_opened_again_it_shows_what_waits_and_escape_goes_back_to_the_editor(
    qtbot, page, panel, desk
):
    describe(qtbot, panel, desk, "selected")
    assert names(panel) == ["a.mp4"]
    assert not page._top.shows_clip
    QTest.keyClick(panel.review.list, Qt.Key.Key_Escape)
    assert page._top.shows_clip
    assert page.editor.isVisible()
    QTest.keyClick(
        page.editor, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
    )
    assert panel.isVisible()
    assert panel.shows_review
    page.open_replace()
    assert not panel.isVisible()
    assert page.editor.isVisible()


def test_it_is_cancelled_in_the_middle_and_a_wrong_model_is_a_sentence(qtbot, panel, desk, monkeypatch):
    monkeypatch.setenv("STAND_IN_CAPTION_SECONDS", "5")
    panel.setup.start()
    qtbot.waitUntil(lambda: desk.is_describing, timeout=15_000)
    assert panel._words.whole_text == "0 of 2 clips: b.mp4"
    with qtbot.waitSignal(desk.ended, timeout=3000):
        panel._cancel.click()
    assert not panel._progress.isVisible()
    assert panel._banner.text == ""
    monkeypatch.setenv("STAND_IN_CAPTION_SECONDS", "0")
    panel.setup.model.setEditText("foreign")
    describe(qtbot, panel, desk, "empty")
    assert panel._banner.text == "foreign cannot describe clips. Choose another."
    panel.setup.model.setEditText("")
    assert not panel.setup._start.isEnabled()


def test_while_a_run_trains_it_asks_whether_to_wait(qtbot, panel, desk, monkeypatch):
    monkeypatch.setattr(AutoCaptions, "is_training", property(lambda _: True))
    panel.setup.device.addItem("A card (GPU 0)", 0)
    panel.setup.device.setCurrentIndex(panel.setup.device.findData(0))
    panel.setup.start()
    assert panel.setup._asks.isVisible()
    assert not desk.is_running
    panel.setup._begin(is_after=True)
    assert desk.is_waiting
    assert panel._words.whole_text == "Waiting for the training to end"
    panel._cancel.click()
    assert not desk.is_waiting


def test_what_was_chosen_is_remembered_and_own_instructions_belong_to_their_goal(qtbot, page, panel, desk):
    setup = panel.setup
    assert "what moves and how" in setup.instructions.toPlainText()
    setup.instructions.setPlainText("Only the weather.")
    setup.frames.setValue(7)
    describe(qtbot, panel, desk, "empty")
    assert setup.options.instructions == {"motion": "Only the weather."}
    other = type(setup)(page.bench, page._automatic.ids_in)
    other.renew()
    assert other.options == setup.options
    setup._on_suggest()
    assert setup.options.instructions == {}


def test_a_clip_that_cannot_be_described_waits_to_be_looked_at_and_takes_nobody_away(
    qtbot, page, panel, desk
):
    first, second, _ = (clip.id for clip in page.session.project.clips)
    desk._take({second: Proposal(key="", problem="It is damaged.")})
    assert page.session.clip_id == first
    assert not panel.review._skip.isEnabled()
    panel.review.list.setCurrentIndex(panel.review.model.index(0))
    assert page.session.clip_id == second
    assert panel.review.editor.placeholderText() == "It is damaged."
    assert not panel.review._accept.isEnabled()
    panel.review._skip.click()
    assert not panel.review.model.rows


def test_a_video_that_cannot_be_read_is_not_to_be_described(qtbot, page, panel):
    clip = page.session.project.clips[1]
    facts = page.bench.library.facts
    facts[clip.id] = replace(facts[clip.id], unreadable="it is cut off")
    assert page._automatic.ids_in("empty") == [page.session.project.clips[2].id]
