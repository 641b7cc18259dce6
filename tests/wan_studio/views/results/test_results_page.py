"""Pins, export options and later previews of a run that has ended."""

import pytest
from PySide6.QtTest import QTest

from trainer.protocol.events import CheckpointSaved, Hello, PreviewSaved, RunFinished
from trainer.protocol.job import (
    BucketSize,
    ClipSpec,
    CropBox,
    DatasetSection,
    JobSection,
    JobSpec,
    ModelSection,
    SampleRow,
    SampleSection,
    TrainedSize,
)
from trainer.protocol.run_folder import EventWriter, RunFolder
from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.workbench import Workbench
from wan_studio.views.results.page import ResultsPage


def job():
    size = TrainedSize(width=64, height=48, crop=CropBox(left=0, top=0, width=64, height=48))
    clip = ClipSpec(
        source="/a.mp4", source_bytes=1, source_modified_ns=1, windows=((0,),), sizes=(size,), caption="c"
    )
    row = SampleRow(prompt="it turns", size=BucketSize(width=64, height=48), num_frames=1)
    return JobSpec(
        job=JobSection(name="p"),
        model=ModelSection(),
        datasets=(DatasetSection(name="p", clips=(clip,), num_frames=1, resolutions=(64,)),),
        sample=SampleSection(rows=(row,)),
        cache_folder="/cache",
    )


@pytest.fixture
def run(tmp_path):
    made = RunFolder(tmp_path / "runs" / "orbit-001")
    made.create(job())
    events = EventWriter(made.events_file)
    events.write(Hello(protocol_version=1, trainer_version="1", pid=1, device="cpu", total_steps=20))
    for step in (10, 20):
        made.checkpoint(step).mkdir(parents=True)
        events.write(CheckpointSaved(step=step, path=f"checkpoints/step_{step:06d}"))
    events.write(PreviewSaved(step=20, row=0, video="previews/none.mp4", poster="p.jpg", prompt="it turns"))
    events.write(RunFinished(reason="completed", step=20))
    events.close()
    return made


@pytest.fixture
def page(qtbot, home, run, stand_in_trainer):
    bench = Workbench()
    made = ResultsPage(bench)
    qtbot.addWidget(made)
    bench.runs.show(run)
    qtbot.waitUntil(lambda: made._model.rowCount() == 2)
    yield made
    made.shut_down()
    bench.close()
    wait_for_background()


def test_a_pinned_checkpoint_says_so_and_is_let_go_again(qtbot, page, run):
    page._pin.click()
    qtbot.waitUntil(lambda: page._pin.text() == "Unpin")
    assert run.is_pinned(20)
    assert [row.is_pinned for row in page._model.rows] == [True, False]
    assert page._chosen().step == 20, "the choice stays"
    page._pin.click()
    qtbot.waitUntil(lambda: page._pin.text() == "Pin")
    assert not run.is_pinned(20)


def test_files_are_exported_as_was_chosen(qtbot, page, run):
    page._options.format.setCurrentIndex(1)
    page._options.dtype.setCurrentIndex(2)
    page._options.strength.setText("0.8")
    page.export()
    qtbot.waitUntil(lambda: len(page.exported) == 2, timeout=8000)
    words = page.exported[0].read_text().split()
    assert words == ["--step", "20", "--format=kohya", "--dtype=fp16", "--strength=0.8"]


def test_a_strength_that_is_none_is_explained_and_nothing_is_exported(page):
    page._options.strength.selectAll()
    QTest.keyClicks(page._options.strength, "0")
    assert "other than 0" in page._options._problem.text()
    page.export()
    assert not page.bench.runs.is_busy
    assert not page._options.isHidden()


def test_a_mixture_of_two_checkpoints_is_rendered_and_stands_in_the_list(qtbot, page):
    page._more.click()
    panel = page._panel
    assert (panel.high.currentData(), panel.low.currentData()) == (20, 20)
    panel.low.setCurrentIndex(panel.low.findData(10))
    panel.strength.selectAll()
    QTest.keyClicks(panel.strength, "0.8")
    panel.render_button.click()
    qtbot.waitUntil(lambda: "of 4" in panel.words, timeout=10000)
    assert not panel.render_button.isEnabled()
    qtbot.waitUntil(lambda: panel.words.startswith("Done"), timeout=10000)
    assert page._model.rowCount() == 3
    mixed = page._model.rows[1]
    assert page._model.index(1).data() == "High 20, low 10 at 0.8"
    assert mixed.previews[0].video == "previews/high_000020_low_000010_strength_0.80/00.mp4"
    page._list.setCurrentIndex(page._model.index(1))
    assert page.primary() is None, "a mixture is no checkpoint to export"
    assert not page._pin.isEnabled()


def test_a_rendering_that_fails_says_why(qtbot, page, monkeypatch):
    monkeypatch.setenv("STAND_IN", "fail")
    page._more.click()
    page._panel.render_button.click()
    qtbot.waitUntil(lambda: page._panel.words == "The checkpoint is damaged.", timeout=10000)
    assert page._panel.render_button.isEnabled()
    # The same failure again is told again.
    page._panel.render_button.click()
    assert page._panel.words == "Starting the trainer"
    qtbot.waitUntil(lambda: page._panel.words == "The checkpoint is damaged.", timeout=10000)
