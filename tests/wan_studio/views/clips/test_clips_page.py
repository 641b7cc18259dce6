"""The Clips page as a user meets it: search, findings with remedies, ratings, data sets, news of the folders."""

import msgspec
import pytest
from PySide6.QtCore import QEvent, QMimeData, QPoint, Qt, QUrl
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLineEdit

from tests.media import make_video
from wan_studio.domain.checks import Step
from wan_studio.domain.clip import TrimRange
from wan_studio.domain.clip_ranges import split_clip
from wan_studio.domain.project import ProjectDataset
from wan_studio.models.clip_view_model import COLUMNS, Column

pytestmark = pytest.mark.media


@pytest.fixture
def page(qtbot, open_window):
    open_window.go_to(Step.CLIPS)
    made = open_window.page(Step.CLIPS)
    qtbot.waitUntil(lambda: names(made) == ["a.mp4", "b.mp4", "c.mp4"])
    qtbot.waitUntil(lambda: "uncaptioned" in findings(made, 1))
    return made


def names(page):
    return [page.model.index(row, 0).data() for row in range(page.model.rowCount())]


def findings(page, number):
    record = page.bench.index.record(page.session.project.clips[number].id)
    return set() if record is None else record.findings


def undo_text(page):
    return page.session.undo_stack.undoText()


def test_a_search_filters_and_a_wrong_one_is_a_sentence_and_keeps_what_was_found(page):
    page.toolbar.search.setText("caption:none")
    assert names(page) == ["b.mp4", "c.mp4"]
    page.toolbar.search.setText("caption:none (")
    assert names(page) == ["b.mp4", "c.mp4"]
    assert page.toolbar._problem.text() == "A bracket is not closed."
    page.toolbar.search.setText("")
    assert len(names(page)) == 3
    assert page.toolbar._problem.isHidden()


def test_a_finding_shows_its_clips_and_offers_its_remedy(qtbot, page):
    qtbot.waitUntil(lambda: page.health.chip("uncaptioned").text() == "2 without caption")
    page.health.chip("uncaptioned").click()
    assert names(page) == ["b.mp4", "c.mp4"]
    assert "not told what moves" in page.notices.finding.text
    wanted = []
    page.step_wanted.connect(wanted.append)
    page.notices.finding._button.click()
    assert wanted == [Step.CAPTIONS]
    assert page.session.clip.source.endswith("b.mp4")
    page.notices.finding.dismiss()
    assert len(names(page)) == 3
    assert not page.health.chip("uncaptioned").isChecked()


def test_too_many_frames_are_lowered_to_what_all_clips_hold(qtbot, page):
    settings = page.session.project.settings.with_values({"datasets": {"num_frames": 81}})
    page.session.set_project(msgspec.structs.replace(page.session.project, settings=settings))
    qtbot.waitUntil(lambda: not page.health.chip("short").isHidden())
    page.health.chip("short").click()
    page.notices.finding._button.click()
    assert page.session.project.settings.datasets.num_frames == 29
    assert undo_text(page) == "Train 29 frames"


def test_keys_rate_reject_and_remove_the_chosen_clips_each_as_one_step(open_window, page):
    page.browser.select_all()
    grid = page.browser.grid
    QTest.keyClick(grid, Qt.Key.Key_4)
    assert [clip.rating for clip in page.session.project.clips] == [4, 4, 4]
    assert undo_text(page) == "Rate 3 clips: 4 stars"
    QTest.keyClick(grid, Qt.Key.Key_X)
    assert all(clip.rejected for clip in page.session.project.clips)
    QTest.keyClick(grid, Qt.Key.Key_X)
    assert undo_text(page) == "Restore 3 clips"
    QTest.keyClick(grid, Qt.Key.Key_Delete)
    assert page.session.project.clips == ()
    page.session.undo_stack.undo()
    assert names(page) == ["a.mp4", "b.mp4", "c.mp4"]


def test_letters_and_figures_typed_into_the_search_do_nothing_to_clips(open_window, page):
    QTest.keyClick(open_window, Qt.Key.Key_F, Qt.KeyboardModifier.ControlModifier)
    QTest.keyClicks(page.toolbar.search, "x 5")
    assert page.toolbar.search.text() == "x 5"
    QTest.keyClick(page.toolbar.search, Qt.Key.Key_Escape)
    assert not page.toolbar.search.hasFocus()
    assert not any(clip.rejected or clip.rating for clip in page.session.project.clips)


def test_the_table_shows_the_same_clips_and_sorts_and_both_are_remembered(qtbot, page):
    page.show_view("table")
    page.browser.table.sortByColumn(COLUMNS.index(Column.NAME), Qt.SortOrder.DescendingOrder)
    assert names(page) == ["c.mp4", "b.mp4", "a.mp4"]
    assert page.model.index(0, COLUMNS.index(Column.LENGTH)).data() == "2.0 s"
    assert page.bench.settings.values["clips.view"] == "table"
    assert page.bench.settings.values["clips.order"] == "Name/down"


def test_what_is_chosen_stays_chosen_when_the_search_changes(page):
    ids = page.model.ids
    page.browser._choose([ids[1]])
    page.toolbar.search.setText("b.mp4")
    assert page.browser.chosen_ids() == [ids[1]]
    page.toolbar.search.setText("")
    assert page.browser.chosen_ids() == [ids[1]]


def test_clips_move_between_data_sets_which_have_their_own_weights(qtbot, page):
    panel = page._datasets
    panel._new_name.setText("people")
    panel.add()
    assert page.session.project.extra_datasets == (ProjectDataset(name="people", role="regularization"),)
    page.browser._choose(page.model.ids[:2])
    page.edits.assign(page.browser.chosen_ids(), "people")
    assert undo_text(page) == "Move 2 clips to people"
    weight = panel.findChild(QLineEdit, "people.weight")
    weight.clear()
    QTest.keyClicks(weight, "0.5")
    assert page.session.project.dataset_settings("people").weight == 0.5
    assert page.session.project.settings.datasets.weight == 1.0
    page.toolbar.dataset_changed.emit("people")
    assert names(page) == ["a.mp4", "b.mp4"]
    panel.remove("people")
    assert {clip.dataset for clip in page.session.project.clips} == {""}
    page.session.undo_stack.undo()
    assert len(page.session.project.clips_of("people")) == 2


def test_copies_are_found_and_the_best_is_kept_in_one_step(qtbot, page):
    # All three were made alike; the one with a caption is the best.
    qtbot.waitUntil(lambda: len(page.bench.index.marks) == 3, timeout=20_000)
    page.show_query("is:duplicate or is:near")
    assert len(names(page)) == 3
    page.edits.keep_best(page.model.ids)
    assert [clip.rejected for clip in page.session.project.clips] == [False, True, True]
    assert undo_text(page) == "Reject 2 duplicates"


def test_files_that_moved_are_found_again_with_their_captions(qtbot, page, clips_folder):
    elsewhere = clips_folder.parent / "elsewhere" / "deep"
    elsewhere.mkdir(parents=True)
    (clips_folder / "a.mp4").rename(elsewhere / "renamed.mp4")
    (clips_folder / "a.txt").rename(elsewhere / "renamed.txt")
    make_video(elsewhere / "a.mp4", frames=10)
    page.bench.watch.look_now()
    qtbot.waitUntil(lambda: "missing" in findings(page, 0))
    qtbot.waitUntil(lambda: "vanished" in page.notices.news.text)
    page.remedies.relink_from(elsewhere.parent)
    qtbot.waitUntil(lambda: page.session.project.clips[0].source == str(elsewhere / "renamed.mp4"))
    assert page.session.project.clips[0].caption_file == str(elsewhere / "renamed.txt")
    assert undo_text(page) == "Find 1 clip again"
    qtbot.waitUntil(lambda: "missing" not in findings(page, 0))


def test_a_file_that_changes_outside_is_looked_at_again_and_a_new_one_is_offered(qtbot, page, clips_folder):
    make_video(clips_folder / "b.mp4", frames=60, fps=20)
    page.bench.watch.look_now()
    clip_id = page.session.project.clips[1].id
    qtbot.waitUntil(lambda: page.bench.library.source_of(clip_id).frame_count == 60, timeout=10_000)
    make_video(clips_folder / "new.mp4", frames=20)
    qtbot.waitUntil(lambda: not page.bench.watch._is_at_work)
    page.bench.watch.look_now()
    qtbot.waitUntil(lambda: "new.mp4" in page.notices.news.text)
    page.notices.news._button.click()
    qtbot.waitUntil(lambda: names(page) == ["a.mp4", "b.mp4", "c.mp4", "new.mp4"])


def test_copied_files_are_pasted(qtbot, page, tmp_path):
    made = make_video(tmp_path / "pasted.mp4", frames=20)
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(made))])
    QGuiApplication.clipboard().setMimeData(mime)
    page.paste()
    qtbot.waitUntil(lambda: "pasted.mp4" in names(page))
    # What Python made must not be in the clipboard any more when Qt clears it after Python's end.
    QGuiApplication.clipboard().clear()


def test_looking_at_clips_can_be_stopped_and_goes_on(qtbot, page):
    library = page.bench.library
    library.look_again([clip.id for clip in page.session.project.clips])
    library.pause()
    assert library.is_paused
    library.go_on()
    qtbot.waitUntil(lambda: library.looks_waiting == 0, timeout=20_000)


def test_the_pointer_looks_through_a_clip_with_pictures_made_by_the_workers(qtbot, page):
    page.show_view("grid")
    grid, library, clip_id = page.browser.grid, page.bench.library, page.session.project.clips[0].id
    box = grid.visualRect(page.model.index(0, 0))
    QTest.mouseMove(grid.viewport(), box.center())
    qtbot.waitUntil(lambda: grid._delegate.scrub is not None)
    grid.viewport().grab()
    qtbot.waitUntil(lambda: library.strip_of(clip_id) is not None)
    first = grid.viewport().grab(box).toImage()
    QTest.mouseMove(grid.viewport(), box.center() + QPoint(box.width() // 3, 0))
    qtbot.waitUntil(lambda: grid._delegate.scrub.place > 0.7)
    assert grid.viewport().grab(box).toImage() != first
    grid.leaveEvent(QEvent(QEvent.Type.Leave))
    assert grid._delegate.scrub is None


def test_a_bucket_shows_and_chooses_its_clips(qtbot, page):
    bars = page.health.buckets
    qtbot.waitUntil(lambda: not bars.isHidden() and bars.bars[0].bucket.clips == 3)
    bars.bars[0].click()
    assert page.toolbar.search.text() == bars.bars[0].bucket.query
    assert len(page.browser.chosen_ids()) == 3
    bars.bars[0].click()
    assert page.toolbar.search.text() == ""


def test_f2_renames_the_clip_and_two_ranges_of_a_file_are_told_apart(qtbot, page):
    QTest.keyClick(page.browser.grid, Qt.Key.Key_F2)
    field = page._details.name.field
    QTest.keyClicks(field, "Castle")
    QTest.keyClick(field, Qt.Key.Key_Return)
    assert names(page)[0] == "Castle"
    clip = page.session.project.clips[0]
    split = split_clip(page.session.project, clip, (TrimRange(0, 20), TrimRange(20, 40)), ("second",))
    page.session.set_project(split.project)
    qtbot.waitUntil(lambda: names(page)[:2] == ["Castle · 0.0–1.0 s", "Castle · 1.0–2.0 s"])
