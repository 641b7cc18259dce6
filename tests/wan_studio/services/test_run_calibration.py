"""What runs of this machine measure is stored, each once, and never in the way of the run."""

import platform
import time

import pytest

from tests.wan_studio.a14b_job import CARD, a14b_job, failed, hello, report, step_measured
from tests.wan_studio.domain.machines import CARD as CARD_NOW
from tests.wan_studio.domain.machines import machine
from trainer.protocol.job import Expert
from trainer.protocol.run_folder import RunFolder
from trainer.protocol.wire import write_json
from wan_studio.domain.run_state import RunState, apply_all
from wan_studio.services import run_calibration
from wan_studio.services.calibration_store import load_calibration
from wan_studio.services.run_calibration import RunCalibrator
from wan_studio.services.run_process import ProcessRecord

EVENTS = (hello(), step_measured(Expert.HIGH), step_measured(Expert.LOW))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "calibration.json"


@pytest.fixture
def calibrator(path):
    return RunCalibrator(lambda: machine(CARD_NOW), path)


def made_run(folder, job=None, host=None) -> RunFolder:
    run = RunFolder(folder / "run-001")
    run.create(job or a14b_job())
    host = platform.node() if host is None else host
    write_json(run.path / "process.json", ProcessRecord(pid=1, created=1.0, started=1.0, host=host))
    return run


def state_of(*events) -> RunState:
    return apply_all(RunState(), events)


def test_a_runs_works_are_stored_with_the_gpu_that_they_ran_on(tmp_path, calibrator, path):
    run = made_run(tmp_path)
    records = calibrator.take_in(run, state_of(*EVENTS))
    stored = load_calibration(path).calibration
    assert stored.of_gpu(CARD, "GPU-0") == records
    assert [(one.expert, one.seconds, one.trainer_version) for one in records] == [
        (Expert.HIGH, 7.1, "0.1.0"),
        (Expert.LOW, 7.1, "0.1.0"),
    ]


def test_each_news_is_taken_once_by_whoever_follows_the_run(tmp_path, calibrator, path):
    run = made_run(tmp_path)
    assert calibrator.take_in(run, state_of(*EVENTS))
    assert calibrator.take_in(run, state_of(*EVENTS)) == ()
    before = path.stat().st_mtime_ns
    RunCalibrator(lambda: machine(CARD_NOW), path).take_in(run, state_of(*EVENTS))
    assert path.stat().st_mtime_ns == before
    assert len(load_calibration(path).calibration.records) == 2


def test_a_lack_of_memory_is_stored_beside_what_was_measured(tmp_path, calibrator, path):
    calibrator.take_in(made_run(tmp_path), state_of(*EVENTS, failed(report())))
    assert [one.ran_out for one in load_calibration(path).calibration.records] == [False, False, True]


def test_the_settings_that_a_run_goes_on_with_are_those_that_were_measured(tmp_path, calibrator):
    run = made_run(tmp_path)
    run.change_memory({"model.layer_offloading": "0.6"})
    (record, _) = calibrator.take_in(run, state_of(*EVENTS))
    assert record.plan.resident == 16


@pytest.mark.parametrize("host", ["another-machine", ""])
def test_a_run_that_was_copied_from_elsewhere_teaches_nothing(tmp_path, calibrator, path, host):
    assert calibrator.take_in(made_run(tmp_path, host=host), state_of(*EVENTS)) == ()
    assert not path.exists()


def test_a_file_that_cannot_be_written_is_told_to_the_log_once_and_tried_again_later(
    tmp_path, calibrator, path, caplog, monkeypatch
):
    run = made_run(tmp_path)
    path.mkdir(parents=True)
    for _ in range(3):
        assert calibrator.take_in(run, state_of(*EVENTS)) == ()
    assert caplog.text.count("could not be stored") == 1
    path.rmdir()
    now = time.monotonic()
    monkeypatch.setattr(run_calibration.time, "monotonic", lambda: now + run_calibration.PATIENCE_SECONDS)
    assert len(calibrator.take_in(run, state_of(*EVENTS))) == 2
