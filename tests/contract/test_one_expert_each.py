"""Two processes train one expert each: the very numbers of one process, one events stream, ordinary checkpoints."""

import shutil
import time
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from tests.jobs import preview_row, small_job
from tests.processes import events_of, go, steps_of, trainer, wait_for
from tests.troubled_trainer import TROUBLE
from trainer.model.miniature import build_miniature
from trainer.output.checkpoint import load_checkpoint
from trainer.protocol.commands import Pause, PreviewNow, SaveNow, SetLearningRate, Stop, Unpause
from trainer.protocol.events import (
    CheckpointSaved,
    Event,
    Hello,
    Paused,
    PreviewSaved,
    RunFailed,
    RunFinished,
    StepDone,
    ValidationDone,
)
from trainer.protocol.job import Expert, JobSpec
from trainer.protocol.run_folder import RunFolder
from trainer.protocol.wire import write_json
from trainer.recipes.train_lora import shares_experts, train_lora
from trainer.runtime.control import Control
from trainer.runtime.distributed import ExpertsShareError, Team
from trainer.runtime.reporter import Reporter

pytestmark = pytest.mark.contract

STEPS = 12


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return build_miniature(tmp_path_factory.mktemp("miniature"))


def job_of(folder: Path, base: Path, **sections) -> JobSpec:
    """Turns that end in the middle of what lies between two checkpoints, and shares that are not equal."""
    fields = {
        "job": {"more_gpus": (1,), "gpu_share": "experts"},
        "training": {"steps": STEPS, "ema_decay": 0.9, "gradient_accumulation": 2},
        "save": {"every": 5, "keep": 10, "dtype": "fp32"},
        "multistage": {"switch_every": 2, "high_share": 0.4},
    }
    return small_job(folder, base, **(fields | sections))


def in_one_process(folder: Path, job: JobSpec, stop_at: int | None = None) -> RunFolder:
    """The same run here, alone."""
    run = RunFolder(folder)
    run.create(job)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with Reporter(run) as reporter:
            control = Control(run, reporter)
            say = reporter.say

            def say_and_stop(event: Event) -> None:
                say(event)
                if isinstance(event, StepDone) and event.step == stop_at:
                    control.stop = True

            reporter.say = say_and_stop
            train_lora(run, job, reporter, control)
    finally:
        torch.set_num_threads(threads)
    return run


def assert_same(run: RunFolder, expected: RunFolder, step: int) -> None:
    """Every tensor of LoRAs, optimizers and averages, to the bit."""
    names = ("high_noise.safetensors", "low_noise.safetensors", "state.safetensors")
    for name in names:
        ours, theirs = (load_file(one.checkpoint(step) / name) for one in (run, expected))
        assert ours.keys() == theirs.keys()
        for key, tensor in theirs.items():
            assert torch.equal(ours[key], tensor), f"{name}: {key}"


def numbers_of(step: StepDone) -> tuple:
    return step.expert, step.timesteps, step.item_losses, step.grad_norm, step.learning_rate


def losses_of(run: RunFolder) -> set:
    found = (event for event in events_of(run) if isinstance(event, ValidationDone))
    return {(event.step, event.expert, event.loss) for event in found}


def videos_of(run: RunFolder, step: int) -> dict[str, bytes]:
    found = {path.name: path.read_bytes() for path in run.previews(step).glob("*.mp4")}
    assert found
    return found


def with_previews_and_validation(job: JobSpec) -> JobSpec:
    held_out = msgspec.structs.replace(job.datasets[0], role="validation", clips=job.clips[1:])
    training = msgspec.structs.replace(job.datasets[0], clips=job.clips[:1])
    sample = msgspec.structs.replace(job.sample, every=6, at_start=True, steps=2, rows=(preview_row(),))
    advanced = msgspec.structs.replace(job.advanced, validation_every=4, validation_timesteps=1)
    return msgspec.structs.replace(job, datasets=(training, held_out), sample=sample, advanced=advanced)


TWO = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")


def test_two_processes_stop_and_go_on_and_end_with_the_bits_of_one(tmp_path, base, monkeypatch):
    job = job_of(tmp_path / "data", base)
    alone = in_one_process(tmp_path / "one", job)
    write_json(tmp_path / "two.json", job)
    run = RunFolder(tmp_path / "two")
    monkeypatch.setenv(TROUBLE, "high_noise/stop")
    go(*TWO, "tests.troubled_trainer", "run", tmp_path / "two.json", "--run-dir", run.path)
    (stopped,) = (event for event in events_of(run) if isinstance(event, RunFinished))
    assert stopped.reason == "stopped"
    assert run.checkpoint_steps()[-1] == stopped.step < STEPS
    assert [step.step for step in steps_of(run)] == list(range(1, stopped.step + 1))

    go("trainer", "resume", run.path)
    assert [event.first_step for event in events_of(run) if isinstance(event, Hello)] == [0, stopped.step]
    for step in alone.checkpoint_steps():
        assert_same(run, alone, step)
    ours, theirs = steps_of(run), steps_of(alone)
    assert [step.step for step in ours] == list(range(1, STEPS + 1)), "one stream, in order"
    assert [numbers_of(step) for step in ours] == [numbers_of(step) for step in theirs]
    assert not run.pair_folder.exists()


@pytest.mark.slow
def test_previews_and_validation_are_those_of_one_process_and_one_or_two_go_on_with_the_run(tmp_path, base):
    job = with_previews_and_validation(job_of(tmp_path / "data", base))
    alone = in_one_process(tmp_path / "one", job)
    write_json(tmp_path / "two.json", job)
    run = RunFolder(tmp_path / "two")
    # torchrun's own way.
    go(*TWO, "trainer", "run", tmp_path / "two.json", "--run-dir", run.path)
    assert_same(run, alone, STEPS)
    assert losses_of(run) == losses_of(alone)
    assert len(losses_of(run)) == 2 * 4
    for step in (0, 6, 12):
        assert videos_of(run, step) == videos_of(alone, step)

    for number in (1, 2):
        again = RunFolder(tmp_path / f"by_{number}")
        shutil.copytree(run.path, again.path)
        for step in (10, 12):
            shutil.rmtree(again.checkpoint(step))
        shutil.rmtree(again.previews_folder)
        go(*TWO[:2], f"--nproc-per-node={number}", "-m", "trainer", "resume", again.path)
        assert [event.first_step for event in events_of(again) if isinstance(event, Hello)] == [0, 5]
        assert_same(again, alone, STEPS)
        assert videos_of(again, 6) == videos_of(alone, 6)


@pytest.mark.slow
def test_a_stop_from_outside_leaves_one_whole_checkpoint_of_one_step(tmp_path, base):
    sections = {"save": {"every": 100_000, "dtype": "fp32"}, "multistage": {"switch_every": 3}}
    job = job_of(tmp_path / "data", base, training={"steps": 100_000}, **sections)
    write_json(tmp_path / "long.json", job)
    run = RunFolder(tmp_path / "long")
    arguments = ("run", tmp_path / "long.json", "--run-dir", run.path)
    process = trainer(*TWO, "trainer", *arguments)
    wait_for(process, lambda: len(steps_of(run)) > 8)
    run.send(Stop())
    words, _ = process.communicate(timeout=240)
    assert process.returncode == 0, words
    (finished,) = (event for event in events_of(run) if isinstance(event, RunFinished))
    assert finished.reason == "stopped"
    assert run.checkpoint_steps() == [finished.step]
    assert [step.step for step in steps_of(run)] == list(range(1, finished.step + 1))

    assert_same(run, in_one_process(tmp_path / "one", job, stop_at=finished.step), finished.step)


@pytest.mark.slow
def test_every_command_is_obeyed_by_both(tmp_path, base):
    sample = {"rows": (preview_row(),), "every": 0, "steps": 2}
    sections = {"save": {"every": 100_000, "keep": 100}, "sample": sample}
    job = job_of(tmp_path / "data", base, training={"steps": 100_000}, **sections)
    write_json(tmp_path / "job.json", job)
    run = RunFolder(tmp_path / "run")
    process = trainer("trainer", "run", tmp_path / "job.json", "--run-dir", run.path)

    def count(kind: type) -> int:
        return sum(isinstance(event, kind) for event in events_of(run))

    def has_both_at(rate: float) -> bool:
        return {step.expert for step in steps_of(run) if step.learning_rate == rate} == set(Expert)

    wait_for(process, lambda: count(StepDone) > 4)
    run.send(SetLearningRate(learning_rate=2e-5))
    wait_for(process, lambda: has_both_at(2e-5))
    run.send(SaveNow())
    wait_for(process, lambda: count(CheckpointSaved) == 1)
    run.send(PreviewNow())
    wait_for(process, lambda: count(PreviewSaved) == 1)
    run.send(Pause())
    wait_for(process, lambda: count(Paused) == 1)
    paused_at = count(StepDone)
    time.sleep(1)
    assert count(StepDone) == paused_at
    run.send(Unpause())
    wait_for(process, lambda: count(StepDone) > paused_at)
    run.send(Stop())
    words, _ = process.communicate(timeout=240)
    assert process.returncode == 0, words
    steps = [step.step for step in steps_of(run)]
    assert steps == list(range(1, len(steps) + 1))
    assert run.checkpoint_steps()[-1] == steps[-1]
    assert load_checkpoint(run.checkpoint(steps[-1])).learning_rate == 2e-5


@pytest.mark.slow
@pytest.mark.parametrize("expert", list(Expert))
@pytest.mark.parametrize(
    ("way", "kind", "words"),
    [
        ("memory", "out_of_memory", "2.50 GiB more needed"),
        ("bug", "bug", "ValueError: a fault"),
        ("silence", "lost_process", "the low-noise expert has ended without a word"),
    ],
)
def test_when_one_fails_both_end_and_the_run_says_why(tmp_path, base, monkeypatch, expert, way, kind, words):
    job = job_of(tmp_path / "data", base, training={"steps": 100_000}, save={"every": 2})
    write_json(tmp_path / "job.json", job)
    run = RunFolder(tmp_path / "run")
    monkeypatch.setenv(TROUBLE, f"{expert.value}/{way}")
    began = time.monotonic()
    go(*TWO, "tests.troubled_trainer", "run", tmp_path / "job.json", "--run-dir", run.path, code=1)
    assert time.monotonic() - began < 60
    failures = [event for event in events_of(run) if isinstance(event, RunFailed)]
    if (expert, way) == (Expert.HIGH, "silence"):
        # Who speaks for both cannot say that it is gone.
        assert not failures
        return
    (failed,) = failures
    assert failed.kind == kind
    assert words in failed.message


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"job": {"more_gpus": (1, 2), "gpu_share": "experts"}}, "3 GPUs for two experts"),
        ({"multistage": {"stages": "low"}}, "one expert only"),
    ],
)
def test_what_cannot_be_shared_out_is_said(tmp_path, base, sections, words):
    job = job_of(tmp_path / "data", base, **sections)
    with pytest.raises(ExpertsShareError, match=words) as caught:
        shares_experts(Team(0, 1 + len(job.job.more_gpus)), job)
    assert "job.gpu_share to data" in caught.value.hint
