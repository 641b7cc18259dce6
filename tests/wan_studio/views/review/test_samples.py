"""Previews: rows that always have a first frame, edited in place, and the settings that they share."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLineEdit

from wan_studio.domain.checks import Step

pytestmark = pytest.mark.media


@pytest.fixture
def page(qtbot, open_window):
    open_window.go_to(Step.REVIEW)
    return open_window.page(Step.REVIEW)


def rows_of(page):
    return page.session.project.settings.sample.rows


def type_into(widget, text):
    widget.selectAll()
    QTest.keyClicks(widget, text)


def test_rows_are_added_changed_and_removed_and_never_without_a_first_frame(qtbot, page, tmp_path):
    samples = page._samples
    samples.add_button.click()
    samples.add_button.click()
    first, second = rows_of(page)
    assert (first.clip, first.prompt, first.num_frames) == (0, "orbit around the [trigger]", 17)
    assert (first.size.width, first.size.height) == (64, 48)
    assert second.clip == 1, "the next clip"

    row = samples.rows[1]
    type_into(row.prompt, "a slow dolly in")
    type_into(row.editors["width"].field, "96")
    type_into(row.editors["seed"].field, "7")
    type_into(row.editors["guidance_low"].field, "1.5")
    row._has_negative.click()
    type_into(row._negative, "blur")
    changed = rows_of(page)[1]
    assert (changed.prompt, changed.size.width, changed.size.height) == ("a slow dolly in", 96, 48)
    assert (changed.seed, changed.guidance_low, changed.negative_prompt) == (7, 1.5, "blur")
    assert (changed.steps, changed.guidance_high) == (None, None), "as the section"
    type_into(row.editors["guidance_low"].field, "\b")
    row._has_negative.click()
    assert (rows_of(page)[1].guidance_low, rows_of(page)[1].negative_prompt) == (None, None)

    row.take_picture(tmp_path / "first.png")
    assert rows_of(page)[1].image == str(tmp_path / "first.png")
    assert row.source.currentText() == "Picture first.png"
    at = next(i for i in range(row.source.count()) if "c.mp4" in row.source.itemText(i))
    row.source.setCurrentIndex(at)
    row.source.activated.emit(at)
    assert (rows_of(page)[1].image, rows_of(page)[1].clip) == ("", 2)

    samples.rows[0].remove_wanted.emit()
    assert [sample.prompt for sample in rows_of(page)] == ["a slow dolly in"]
    assert len(samples.rows) == 1
    assert samples.rows[0].prompt.text() == "a slow dolly in"
    page.session.undo_stack.undo()
    assert len(rows_of(page)) == 2


def test_wrong_numbers_of_a_row_are_explained_and_block_the_start(qtbot, page, stand_in_trainer):
    page._samples.add_button.click()
    row = page._samples.rows[0]
    type_into(row.editors["num_frames"].field, "40")
    assert "4n + 1" in row.problem
    assert rows_of(page)[0].num_frames == 17, "the old value stays"
    type_into(row.editors["width"].field, "100")
    qtbot.waitUntil(lambda: page.preflight is not None, timeout=8000)
    assert not page.primary().is_enabled
    assert "previews" in page.primary().hint
    type_into(row.editors["num_frames"].field, "9")
    type_into(row.editors["width"].field, "80")
    assert row.problem == ""
    assert (rows_of(page)[0].num_frames, rows_of(page)[0].size.width) == (9, 80)


def test_the_settings_that_previews_share_are_set_and_fold_away_when_there_are_none(qtbot, page):
    made = {row.spec.name: row for row in page._rows}
    made["sample.sampler"].editor.entered.emit("euler")
    made["sample.walk_seed"].editor.entered.emit(True)
    made["sample.at_start"].editor.entered.emit(False)
    type_into(made["sample.negative_prompt"].findChild(QLineEdit), "blurry")
    sample = page.session.project.settings.sample
    assert (sample.sampler, sample.walk_seed, sample.at_start, sample.negative_prompt) == (
        "euler",
        True,
        False,
        "blurry",
    )
    assert page._more.isVisible()
    made["sample.every"].editor.entered.emit(0)
    assert not page._more.isVisible()
    assert not page._samples.isVisible()


def test_a_row_keeps_its_clip_when_another_clip_is_removed(qtbot, page, open_window):
    page._samples.add_button.click()
    page._samples.add_button.click()
    open_window.go_to(Step.CLIPS)
    clips = open_window.page(Step.CLIPS)
    second = page.session.project.clips[1].id
    page.session.select_clip(page.session.project.clips[0].id)
    clips.remove_selected()
    project = page.session.project
    assert len(project.clips) == 2
    assert [project.clips[sample.clip].id for sample in rows_of(page)] == [second, second]
    QTest.keyClick(open_window, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert [sample.clip for sample in rows_of(page)] == [0, 1]
