"""The window's test of the real model, from the events that a trainer on a GPU would say."""

import platform

import pytest

from tests.wan_studio.a14b_job import CARD, GIB, a14b_job, failed, hello, report, step_measured
from tests.wan_studio.domain.machines import CARD as CARD_NOW
from tests.wan_studio.domain.machines import machine
from trainer.protocol.events import Phase, PhaseStarted, RunFinished, WorkMeasured
from trainer.protocol.job import Expert
from trainer.protocol.run_folder import EventWriter, RunFolder
from trainer.protocol.wire import write_json
from wan_studio.bridge import rehearsal as bridge
from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.project import Project, ProjectClip
from wan_studio.services import run_calibration
from wan_studio.services.calibration_store import load_calibration
from wan_studio.services.preset_store import settings_for
from wan_studio.services.project_store import ProjectStore
from wan_studio.services.rehearsal import Begun
from wan_studio.services.run_process import ProcessRecord

PREVIEW = WorkMeasured(
    work="preview", width=512, height=512, frames=41, seconds=9.0, reserved_bytes=round(8.1 * GIB)
)
COMPLETED = (
    hello(),
    step_measured(Expert.HIGH, reserved=17.4),
    step_measured(Expert.LOW, reserved=17.0),
    PREVIEW,
    RunFinished(reason="completed", step=0),
)


@pytest.fixture
def bench(qtbot, home, tmp_path, monkeypatch):
    here = machine(CARD_NOW, ram_total_bytes=128 * GIB, ram_available_bytes=120 * GIB)
    for module in (run_calibration, bridge):
        monkeypatch.setattr(module, "look_at_gpus", lambda: here)
    made = Workbench()
    made.hardware._latest = here
    clip = ProjectClip(id="a", source="/clips/a.mp4", caption_file="/clips/a.txt")
    settings = settings_for("motion", str(tmp_path / "model"))
    store = ProjectStore(tmp_path / "orbit")
    made.session.open(store, Project(name="orbit", settings=settings, clips=(clip,)))
    yield made
    made.close()
    wait_for_background()


@pytest.fixture
def says(tmp_path, monkeypatch):
    """A rehearsal whose trainer has said these events and ended."""
    run = RunFolder(tmp_path / "orbit" / "cache" / "rehearsal" / "1")

    def make(*events):
        def begin(*_):
            run.create(a14b_job())
            record = ProcessRecord(pid=2**22 + 1, created=1.0, started=1.0, host=platform.node())
            write_json(run.path / "process.json", record)
            writer = EventWriter(run.events_file)
            for event in events:
                writer.write(event)
            writer.close()
            return Begun(run, run.read_job())

        monkeypatch.setattr(bridge, "begin_rehearsal", begin)
        return run

    return make


def test_what_it_measures_is_stored_told_and_gone_with_its_folder(qtbot, bench, says):
    run, rehearsal = says(*COMPLETED), bench.rehearsal
    told = []
    rehearsal.calibrated.connect(told.append)
    with qtbot.waitSignal(rehearsal.ended, timeout=10_000):
        rehearsal.start()
    (records,) = told
    assert [(one.kind, one.expert) for one in records] == [
        ("step", Expert.HIGH),
        ("step", Expert.LOW),
        ("preview", None),
    ]
    assert load_calibration().calibration.of_gpu(CARD, CARD_NOW.uuid) == records
    assert bench.calibration.calibration.records == records
    assert rehearsal.verdict.words == (
        "Both experts trained at 512 x 512, 41 frames: 18.4 of 23.5 GiB, 7.1 s a step; a preview 9.1 GiB."
    )
    assert not run.path.exists()


def test_a_lack_of_memory_is_learnt_from_and_answered_with_a_plan(qtbot, bench, says):
    says(hello(), failed(report("backward")))
    with qtbot.waitSignal(bench.rehearsal.ended, timeout=10_000):
        bench.rehearsal.start()
    verdict = bench.rehearsal.verdict
    assert "in the backward pass of the high-noise expert" in verdict.words
    assert "GiB and" in verdict.hint
    assert verdict.changes
    assert [one.ran_out for one in load_calibration().calibration.records] == [True]


def test_a_trainer_that_dies_is_told_as_such(qtbot, bench, says):
    says(hello(), PhaseStarted(phase=Phase.LOADING))
    with qtbot.waitSignal(bench.rehearsal.ended, timeout=10_000):
        bench.rehearsal.start()
    assert bench.rehearsal.verdict.words.startswith("The trainer ended without a word")
    assert "RAM" in bench.rehearsal.verdict.hint
