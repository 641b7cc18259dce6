import pytest

from trainer.protocol.events import CheckpointSaved, Hello, RunFinished, StepDone
from trainer.protocol.job import Expert
from trainer.protocol.run_folder import EventWriter, RunFolder
from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.run_watcher import RunWatcher
from wan_studio.domain.run_state import Outcome


def step_done(step):
    return StepDone(
        step=step,
        expert=Expert.HIGH,
        loss=1 / step,
        timesteps=(950.0,),
        learning_rate=1e-4,
        grad_norm=1.0,
        seconds=0.1,
    )


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run-001"
    folder.mkdir()
    (folder / "job.json").write_text("{}")
    return RunFolder(folder)


@pytest.fixture
def watcher(qtbot):
    made = RunWatcher()
    yield made
    made.stop()
    wait_for_background()


def test_new_events_are_shown_as_they_come(qtbot, watcher, run):
    events = EventWriter(run.events_file)
    with run.hold_lock():
        events.write(
            Hello(protocol_version=1, trainer_version="t", pid=1, device="cpu", first_step=0, total_steps=9)
        )
        watcher.watch(run)
        qtbot.waitUntil(lambda: watcher.watched.state.outcome is Outcome.RUNNING)
        for step in (1, 2, 3):
            events.write(step_done(step))
        events.write(CheckpointSaved(step=3, path="checkpoints/step_000003"))
        qtbot.waitUntil(lambda: bool(watcher.watched.state.checkpoints), timeout=1000)
        assert watcher.watched.is_running
        assert [point.loss for point in watcher.watched.state.losses] == [1, 1 / 2, 1 / 3]
        events.write(RunFinished(reason="completed", step=3))
        qtbot.waitUntil(lambda: watcher.watched.state.outcome is Outcome.COMPLETED, timeout=1000)
    assert not watcher.watched.is_running


def test_a_trainer_that_dies_is_a_crash_with_its_last_line(qtbot, watcher, run):
    events = EventWriter(run.events_file)
    run.log_file.write_text("CUDA error: device lost\n")
    with run.hold_lock():
        events.write(
            Hello(protocol_version=1, trainer_version="t", pid=1, device="cpu", first_step=0, total_steps=9)
        )
        events.write(step_done(1))
        watcher.watch(run)
        qtbot.waitUntil(lambda: watcher.watched.state.step == 1)
    qtbot.waitUntil(lambda: watcher.watched.state.outcome is Outcome.CRASHED, timeout=2000)
    assert "device lost" in watcher.watched.state.summary


def test_nothing_new_is_told_only_once(qtbot, watcher, run):
    EventWriter(run.events_file).write(
        Hello(protocol_version=1, trainer_version="t", pid=1, device="cpu", first_step=0, total_steps=9)
    )
    watcher.watch(run)
    qtbot.waitUntil(lambda: watcher.watched.is_read)
    told = []
    watcher.state_changed.connect(told.append)
    for _ in range(3):
        watcher.look()
        qtbot.wait(40)
    assert told == []


def test_another_run_replaces_the_first(qtbot, watcher, run, tmp_path):
    watcher.watch(run)
    other = RunFolder(tmp_path / "run-002")
    watcher.watch(other)
    qtbot.waitUntil(lambda: watcher.watched.is_read)
    assert watcher.watched.run.path == other.path
    watcher.watch(None)
    assert watcher.watched is None
