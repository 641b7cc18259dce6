"""The window learns from the run that it watches."""

import platform

import pytest

from tests.wan_studio.a14b_job import CARD, a14b_job, failed, hello, report, step_measured
from tests.wan_studio.domain.machines import CARD as CARD_NOW
from tests.wan_studio.domain.machines import machine
from trainer.protocol.job import Expert
from trainer.protocol.run_folder import EventWriter, RunFolder
from trainer.protocol.wire import write_json
from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.job_settings import extents_of, settings_of
from wan_studio.domain.machine import Machine, PlannedGpu
from wan_studio.domain.project import Project
from wan_studio.domain.recommend import Planner
from wan_studio.services import fallback, run_calibration
from wan_studio.services.project_store import ProjectStore
from wan_studio.services.run_process import ProcessRecord

GIB = 2**30
HERE = Machine(PlannedGpu(CARD, 24 * GIB, round(23.5 * GIB), (8, 9)), 128 * GIB, 120 * GIB, 900 * GIB)


@pytest.fixture
def bench(qtbot, home, monkeypatch):
    for module in (run_calibration, fallback):
        here = machine(CARD_NOW, ram_total_bytes=128 * GIB, ram_available_bytes=120 * GIB)
        monkeypatch.setattr(module, "look_at_gpus", lambda here=here: here)
    made = Workbench()
    yield made
    made.close()
    wait_for_background()


@pytest.fixture
def run(tmp_path):
    made = RunFolder(tmp_path / "runs" / "orbit-001")
    made.create(a14b_job())
    record = ProcessRecord(pid=2**22 + 1, created=1.0, started=1.0, host=platform.node())
    write_json(made.path / "process.json", record)
    return made


def say(run, *events):
    writer = EventWriter(run.events_file)
    for event in events:
        writer.write(event)
    writer.close()


def judged(bench, job):
    measured = bench.calibration.calibration.of_gpu(CARD, CARD_NOW.uuid)
    return Planner(HERE, clips=extents_of(job), measured=measured).judge(settings_of(job))


def test_what_the_watched_run_measures_is_in_the_next_forecast(qtbot, bench, run):
    say(run, hello(), step_measured(Expert.HIGH), step_measured(Expert.LOW))
    assert judged(bench, a14b_job()).time.basis == "computed"
    with qtbot.waitSignal(bench.calibration.calibrated, timeout=10_000) as told:
        bench.runs.show(run)
    assert [record.expert for record in told.args[0]] == [Expert.HIGH, Expert.LOW]
    assert judged(bench, a14b_job()).time.told == "Measured on this machine."


def test_after_memory_ran_out_the_same_settings_are_no_longer_said_to_fit(qtbot, bench, run):
    assert judged(bench, a14b_job()).fits
    say(run, hello(), failed(report()))
    with qtbot.waitSignal(bench.calibration.calibrated, timeout=10_000):
        bench.runs.show(run)
    assert not judged(bench, a14b_job()).fits
    qtbot.waitUntil(lambda: bench.fallback.offer is not None, timeout=10_000)
    assert "GiB and" in bench.fallback.offer.plan.forecast


def test_the_plan_on_the_hardware_page_counts_with_it_at_once(qtbot, bench, run, tmp_path):
    settings = settings_of(run.read_job())
    # The job's rows name its own clips, and a project's first clip is its only one.
    bench.session.open(ProjectStore(tmp_path / "orbit"), Project(name="orbit", settings=settings))
    bench.hardware._latest = machine(CARD_NOW, ram_total_bytes=128 * GIB, ram_available_bytes=120 * GIB)
    bench.hardware.snapshot_taken.emit(bench.hardware.latest)
    assert not bench.plans.judgement.memory.is_measured
    say(run, hello(), step_measured(Expert.HIGH), step_measured(Expert.LOW))
    bench.runs.show(run)
    qtbot.waitUntil(lambda: bench.plans.judgement.memory.is_measured, timeout=10_000)
    assert bench.plans.judgement.time.told == "Measured on this machine."


def test_nothing_new_is_not_told_again(qtbot, bench, run):
    say(run, hello(), step_measured(Expert.HIGH))
    with qtbot.waitSignal(bench.calibration.calibrated, timeout=10_000):
        bench.runs.show(run)
    told = []
    bench.calibration.calibrated.connect(told.append)
    for _ in range(3):
        bench.runs._watcher.look()
        qtbot.wait(40)
    assert told == []


def test_another_window_finds_it_when_it_loads(qtbot, bench, run):
    say(run, hello(), step_measured(Expert.HIGH))
    with qtbot.waitSignal(bench.calibration.calibrated, timeout=10_000):
        bench.runs.show(run)
    other = Workbench()
    with qtbot.waitSignal(other.calibration.calibrated, timeout=10_000):
        other.calibration.load()
    assert other.calibration.calibration == bench.calibration.calibration
    other.close()
