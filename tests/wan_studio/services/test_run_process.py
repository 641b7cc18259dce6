"""Real detached processes, with a stand-in for the trainer: it speaks the contract and trains nothing."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest

from trainer.protocol.commands import Stop
from trainer.protocol.events import Hello
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
from wan_studio.domain.run_state import Outcome
from wan_studio.services.run_process import (
    ExportError,
    MemoryChangeError,
    PreviewRequest,
    RunBusyError,
    RunStartError,
    export_run,
    kill_run,
    preview_problem,
    preview_run,
    preview_runs,
    process_record,
    process_runs,
    resume_run,
    start_run,
)
from wan_studio.services.run_store import RunFollower, RunStore, current_state

pytestmark = pytest.mark.usefixtures("stand_in_trainer")


def job() -> JobSpec:
    size = TrainedSize(width=64, height=48, crop=CropBox(left=0, top=0, width=64, height=48))
    clip = ClipSpec(
        source="/clips/a.mp4",
        source_bytes=1,
        source_modified_ns=1,
        windows=((0,),),
        sizes=(size,),
        caption="it turns",
    )
    return JobSpec(
        job=JobSection(name="p"),
        model=ModelSection(),
        datasets=(DatasetSection(name="p", clips=(clip,), num_frames=1, resolutions=(64,)),),
        sample=SampleSection(
            rows=(SampleRow(prompt="it turns", size=BucketSize(width=64, height=48), num_frames=1),)
        ),
        cache_folder="/cache",
    )


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return RunStore(tmp_path / "a project" / "runs").new_run("My LoRA")


def wait_for(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def ended(run: RunFolder):
    state = current_state(run)
    return state if state.has_ended else None


def test_a_started_run_is_never_taken_for_a_crash_and_completes(run):
    start_run(run, job())
    follower = RunFollower(run)
    outcomes = []

    def done():
        outcomes.append(follower.update().outcome)
        return outcomes[-1] is Outcome.COMPLETED

    wait_for(done)
    assert set(outcomes) <= {Outcome.WAITING, Outcome.RUNNING, Outcome.COMPLETED}
    assert run.read_job() == job()
    assert "stand-in: run" in run.log_tail()
    wait_for(lambda: not process_runs(run))
    assert current_state(run).outcome is Outcome.COMPLETED


def test_the_trainer_has_a_session_of_its_own_and_no_settings_of_qt(run, monkeypatch):
    monkeypatch.setenv("STAND_IN", "slow")
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    start_run(run, job())
    wait_for(lambda: current_state(run).outcome is Outcome.RUNNING)
    process = psutil.Process(process_record(run).pid)
    if os.name != "nt":
        assert os.getsid(process.pid) == process.pid
        assert os.getsid(process.pid) != os.getsid(0)
    assert not any(name.startswith("QT_") for name in process.environ())
    run.send(Stop())
    assert wait_for(lambda: ended(run)).outcome is Outcome.STOPPED


def test_the_trainer_outlives_who_started_it(run, monkeypatch):
    monkeypatch.setenv("STAND_IN", "slow")
    run.create(job())
    script = (
        "import sys; from pathlib import Path; from trainer.protocol.run_folder import RunFolder;"
        "from wan_studio.services.run_process import resume_run; resume_run(RunFolder(Path(sys.argv[1])))"
    )
    subprocess.run([sys.executable, "-c", script, str(run.path)], check=True)
    assert wait_for(lambda: current_state(run).step > 12)
    assert process_runs(run)
    with pytest.raises(RunBusyError):
        resume_run(run, patience_seconds=0.2)
    run.send(Stop())
    assert wait_for(lambda: ended(run)).outcome is Outcome.STOPPED
    wait_for(lambda: not process_runs(run))


def test_a_killed_trainer_is_a_crash_and_resumes(run, monkeypatch):
    monkeypatch.setenv("STAND_IN", "slow")
    start_run(run, job())
    wait_for(lambda: current_state(run).step > 2)
    assert kill_run(run)
    state = wait_for(lambda: ended(run))
    assert state.outcome is Outcome.CRASHED
    assert not kill_run(run)
    monkeypatch.setenv("STAND_IN", "")
    resume_run(run)
    # At once: the crash before is over, whether the new process has spoken or not.
    state = current_state(run)
    assert state.outcome in {Outcome.WAITING, Outcome.RUNNING}
    assert state.phases == () or state.step >= 10
    assert wait_for(lambda: ended(run)).outcome is Outcome.COMPLETED


def test_a_trainer_that_dies_before_its_first_word_is_a_crash_with_its_log(run, monkeypatch):
    monkeypatch.setenv("STAND_IN", "mute")
    start_run(run, job())
    state = wait_for(lambda: ended(run))
    assert state.outcome is Outcome.CRASHED
    assert "no such module" in state.summary


def test_a_resumed_trainer_that_dies_at_once_is_a_crash_although_the_run_had_stopped(run, monkeypatch):
    monkeypatch.setenv("STAND_IN", "slow")
    start_run(run, job())
    wait_for(lambda: current_state(run).step > 1)
    run.send(Stop())
    assert wait_for(lambda: ended(run)).outcome is Outcome.STOPPED
    # At once, while the one before may still be ending.
    monkeypatch.setenv("STAND_IN", "mute")
    resume_run(run)
    assert wait_for(lambda: ended(run)).outcome is Outcome.CRASHED


def test_a_run_goes_on_with_other_settings_of_memory_and_with_no_others(run, monkeypatch):
    monkeypatch.setenv("STAND_IN", "fail")
    start_run(run, job())
    wait_for(lambda: ended(run))
    with pytest.raises(MemoryChangeError, match="start a new run"):
        resume_run(run, memory=["training.steps=3"])
    with pytest.raises(MemoryChangeError, match="cannot be '7'"):
        resume_run(run, memory=["model.layer_offloading=7"])
    resume_run(run, memory=["model.layer_offloading=1"])
    wait_for(lambda: ended(run))
    assert "resume" in run.log_file.read_text()
    assert "--set model.layer_offloading=1" in run.log_file.read_text()


def test_a_failure_keeps_its_own_words(run, monkeypatch):
    monkeypatch.setenv("STAND_IN", "fail")
    start_run(run, job())
    state = wait_for(lambda: ended(run))
    assert (state.outcome, state.summary, state.hint) == (
        Outcome.FAILED,
        "clip.mp4 is gone.",
        "Put it back.",
    )


def test_a_process_number_that_now_belongs_to_another_program_is_not_ours(run):
    run.create(job())
    (run.path / "process.json").write_text(json.dumps({"pid": os.getpid(), "created": 5.0, "started": 5.0}))
    assert not process_runs(run)
    assert not kill_run(run)


def test_a_run_started_by_hand_is_known_by_its_lock(run):
    run.create(job())
    assert current_state(run).outcome is Outcome.WAITING
    writer = EventWriter(run.events_file)
    with run.hold_lock():
        writer.write(Hello(protocol_version=1, trainer_version="1", pid=1, device="cpu"))
        assert current_state(run).outcome is Outcome.RUNNING
    writer.close()
    assert current_state(run).outcome is Outcome.CRASHED


def test_a_run_that_cannot_start_is_a_sentence(run, tmp_path):
    run.create(job())
    with pytest.raises(RunStartError, match="has a job already"):
        start_run(run, job())
    with pytest.raises(RunStartError, match=r"no job\.json"):
        resume_run(RunFolder(tmp_path / "nothing"))
    with pytest.raises(RunStartError, match="does not start"):
        resume_run(run, [str(tmp_path / "no such program")])
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunStartError, match="cannot be written"):
        start_run(RunFolder(tmp_path / "file" / "run"), job())


def test_export_gives_the_files_or_the_trainers_sentence(run, tmp_path):
    run.create(job())
    with pytest.raises(ExportError, match="There is no checkpoint"):
        export_run(run)
    resume_run(run)
    wait_for(lambda: ended(run))
    files = export_run(run, out=tmp_path / "out", name="mine")
    assert [path.name for path in files] == ["mine_high_noise.safetensors", "mine_low_noise.safetensors"]
    assert all(path.parent == tmp_path / "out" for path in files)


def test_runs_are_numbered_and_listed_newest_first(tmp_path):
    store = RunStore(tmp_path / "runs")
    assert store.runs() == []
    for name in ("Orbit", "Orbit", "春 / shot:2", "..."):
        store.new_run(name).create(job())
    names = [run.path.name for run in store.runs()]
    assert names == ["run-004", "春-shot-2-003", "orbit-002", "orbit-001"]
    (tmp_path / "runs" / "no run").mkdir()
    assert len(store.runs()) == 4


def ended_run(run):
    """A run that has said its last word at step 20, with a checkpoint."""
    start_run(run, job())
    wait_for(lambda: ended(run))
    wait_for(lambda: not process_runs(run))
    return run


def test_previews_of_an_ended_run_are_rendered_apart_and_leave_it_ended(run):
    ended_run(run)
    preview_run(run, PreviewRequest(checkpoint=20, low=10, strength=0.8))
    follower = RunFollower(run)
    seen = []

    def done():
        state = follower.update()
        seen.append((preview_runs(run), state.outcome, bool(state.phases)))
        return not preview_runs(run)

    wait_for(done)
    assert {outcome for _, outcome, _ in seen} == {Outcome.COMPLETED}
    assert any(has_phase for is_previewing, _, has_phase in seen if is_previewing)
    assert follower.update().phases == ()
    assert preview_problem(run) == ""
    assert (run.previews_folder / "high_000020_low_000010_strength_0.80" / "previews.json").is_file()


def test_a_failed_rendering_says_why_in_the_trainers_words(run, monkeypatch):
    ended_run(run)
    monkeypatch.setenv("STAND_IN", "fail")
    preview_run(run, PreviewRequest(checkpoint=20))
    wait_for(lambda: not preview_runs(run))
    assert preview_problem(run) == "The checkpoint is damaged."


def test_previews_wait_for_the_trainer_to_end_and_the_trainer_for_them(run, monkeypatch):
    monkeypatch.setenv("STAND_IN", "slow")
    start_run(run, job())
    wait_for(run.is_alive)
    with pytest.raises(RunBusyError):
        preview_run(run, PreviewRequest(checkpoint=20))
    run.send(Stop())
    wait_for(lambda: ended(run))
    wait_for(lambda: not process_runs(run))
    preview_run(run, PreviewRequest(checkpoint=20))
    wait_for(run.is_alive)
    with pytest.raises(RunBusyError):
        resume_run(run, patience_seconds=0.1)
    wait_for(lambda: not preview_runs(run))
