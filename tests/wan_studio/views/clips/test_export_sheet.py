"""The export's sheet as a user meets it: forecast, start, cancel, report, and what it remembers."""

import sys
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from wan_studio.domain.checks import Step
from wan_studio.services import dataset_export
from wan_studio.services.render_process import RenderProcess
from wan_studio.views.clips.export_sheet import ExportSheet

pytestmark = pytest.mark.media


@pytest.fixture
def page(open_window):
    open_window.go_to(Step.CLIPS)
    return open_window.page(Step.CLIPS)


@pytest.fixture
def sheet(qtbot, open_window, page):
    open_window.actions_table.action("clip.export").trigger()
    assert page.shows_export
    qtbot.waitUntil(open_window._primary.isEnabled)
    return page.exports


@pytest.fixture
def mute_worker(monkeypatch):
    """Exports begin, and never end by themselves."""
    command = (sys.executable, "-c", "import time; time.sleep(60)")
    monkeypatch.setattr(dataset_export, "RenderProcess", lambda: RenderProcess(command))


def names_in(folder):
    return sorted(path.name for path in Path(folder).rglob("*") if path.is_file())


def told(sheet):
    labels = (sheet._list.itemAt(at).widget() for at in range(sheet._list.count()))
    return [one.text() for one in labels if one is not None]


def choose(box, text):
    box.setCurrentIndex(next(at for at in range(box.count()) if text in box.itemText(at)))


def test_it_says_what_will_be_written_writes_it_and_says_what_came_of_it(qtbot, open_window, sheet):
    assert sheet.words == "3 clips in 1 data set"
    assert "MB of" in sheet._line.text()
    choose(sheet.layout_box, "musubi-tuner")
    choose(sheet.frames_box, "As the model")
    qtbot.waitUntil(open_window._primary.isEnabled)
    QTest.keyClick(sheet, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: sheet.words.startswith("3 files written"), timeout=20_000)
    folder = open_window.bench.session.store.folder / "exports" / "musubi-tuner"
    assert str(folder) in sheet._line.text()
    assert {"a.mp4", "a.txt", "musubi-tuner.toml", "musubi-tuner.sh"} <= set(names_in(folder))
    assert sheet._open_folder.isVisible()
    sheet._again.click()
    qtbot.waitUntil(lambda: sheet.words == "0 clips to write, 3 there already")


def test_its_choices_are_remembered(qtbot, open_window, sheet, tmp_path):
    choose(sheet.layout_box, "ai-toolkit")
    choose(sheet.codec_box, "FFV1")
    QTest.keyClicks(sheet.folder_field, str(tmp_path / "mine"))
    qtbot.waitUntil(open_window._primary.isEnabled)
    sheet.start()
    qtbot.waitUntil(lambda: "written" in sheet.words, timeout=20_000)
    assert "a.mkv" in names_in(tmp_path / "mine")
    again = ExportSheet(open_window.bench)
    qtbot.addWidget(again)
    assert again.options == sheet.options
    assert again.folder == tmp_path / "mine"


def test_a_cancelled_export_says_so_and_the_next_one_goes_on(qtbot, open_window, page, sheet, mute_worker):
    sheet.start()
    qtbot.waitUntil(lambda: sheet.words == "Exporting 1 of 3 files")
    assert sheet._cancel.isVisible()
    # The clips may be looked at meanwhile; the sheet shows the same when it comes back.
    QTest.keyClick(sheet, Qt.Key.Key_Escape)
    assert not page.shows_export
    assert page._subtitle.text() == "Exporting 1 of 3 files."
    assert open_window._primary.text() == "Continue to trim"
    assert open_window.bench.exporter.is_busy
    page.open_export()
    assert sheet._cancel.isVisible()
    sheet._cancel.click()
    qtbot.waitUntil(lambda: sheet.words == "The export was cancelled.")
    assert not open_window.bench.exporter.is_busy
    sheet._again.click()
    qtbot.waitUntil(open_window._primary.isEnabled)
    assert sheet.words == "3 clips in 1 data set"


def test_closing_the_window_ends_the_export(qtbot, open_window, sheet, mute_worker):
    sheet.start()
    qtbot.waitUntil(lambda: sheet.words == "Exporting 1 of 3 files")
    thread = open_window.bench.exporter._thread
    open_window.close()
    assert not thread.is_alive()


def test_clips_that_are_left_out_are_named(qtbot, open_window, clips_folder, page, sheet):
    sheet.closed.emit()
    (clips_folder / "bad.mp4").write_text("no video")
    open_window.bench.import_clips([clips_folder / "bad.mp4"])
    qtbot.waitUntil(
        lambda: len(open_window.bench.session.project.clips) == 4 and open_window.bench.library.waiting == 0
    )
    page.open_export()
    qtbot.waitUntil(open_window._primary.isEnabled)
    assert "1 left out" in sheet._line.text()
    assert any("bad.mp4 is not a video" in sentence for sentence in told(sheet))


def test_a_folder_that_cannot_take_it_is_said_before_the_start(qtbot, open_window, sheet, tmp_path):
    (tmp_path / "file").write_text("x")
    sheet.folder_field.setText(str(tmp_path / "file"))
    sheet._on_chosen()
    qtbot.waitUntil(lambda: sheet.words == "This folder cannot take the export")
    assert "is a file" in sheet._line.text()
    assert not open_window._primary.isEnabled()
