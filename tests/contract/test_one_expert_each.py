"""Two processes train one expert each: the very numbers of one process, one events stream, ordinary checkpoints."""

import shutil
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from tests.jobs import preview_row, small_job
from tests.processes import events_of, go, steps_of, trainer, wait_for
from trainer.model.miniature import build_miniature
from trainer.protocol.commands import Stop
from trainer.protocol.events import (
    CheckpointSaved,
    Hello,
    PreviewSaved,
    RunFailed,
    RunFinished,
    ValidationDone,
)
from trainer.protocol.job import Expert, JobSpec
from trainer.protocol.run_folder import RunFolder
from trainer.protocol.wire import read_json, write_json
from trainer.recipes.train_lora import train_lora
from trainer.runtime.control import Control
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


def in_one_process(folder: Path, job: JobSpec) -> RunFolder:
    """The same run here, alone."""
    run = RunFolder(folder)
    run.create(msgspec.structs.replace(job, job=msgspec.structs.replace(job.job, more_gpus=())))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with Reporter(run) as reporter:
            train_lora(run, run.read_job(), reporter, Control(run, reporter))
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


def with_previews_and_validation(job: JobSpec) -> JobSpec:
    held_out = msgspec.structs.replace(job.datasets[0], role="validation", clips=job.clips[1:])
    training = msgspec.structs.replace(job.datasets[0], clips=job.clips[:1])
    sample = msgspec.structs.replace(job.sample, every=6, at_start=True, steps=2, rows=(preview_row(),))
    advanced = msgspec.structs.replace(job.advanced, validation_every=4, validation_timesteps=1)
    return msgspec.structs.replace(job, datasets=(training, held_out), sample=sample, advanced=advanced)


def test_two_processes_end_with_the_bits_of_one_and_one_or_two_go_on_with_their_run(tmp_path, base):
    job = with_previews_and_validation(job_of(tmp_path / "data", base))
    alone = in_one_process(tmp_path / "one", job)
    write_json(tmp_path / "two.json", job)
    run = RunFolder(tmp_path / "two")
    go("trainer", "run", tmp_path / "two.json", "--run-dir", run.path)

    assert run.checkpoint_steps() == alone.checkpoint_steps() == [5, 10, 12]
    for step in run.checkpoint_steps():
        assert_same(run, alone, step)
    ours, theirs = steps_of(run), steps_of(alone)
    assert [step.step for step in ours] == list(range(1, STEPS + 1)), "one stream, in order"
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.expert, mine.item_losses, mine.grad_norm) == (
            other.expert,
            other.item_losses,
            other.grad_norm,
        )

    def losses_of(run: RunFolder) -> set:
        found = (event for event in events_of(run) if isinstance(event, ValidationDone))
        return {(event.step, event.expert, event.loss) for event in found}

    assert losses_of(run) == losses_of(alone)
    assert len(losses_of(run)) == 2 * 4
    for step in (0, 6, 12):
        mine, other = (one.previews(step) for one in (run, alone))
        assert {path.name: path.read_bytes() for path in mine.glob("*.mp4")} == {
            path.name: path.read_bytes() for path in other.glob("*.mp4")
        }
    assert not run.pair_folder.exists()

    # From the middle: by one process, and by torchrun with two.
    for name, words in (("by_one", 1), ("by_two", 2)):
        again = RunFolder(tmp_path / name)
        shutil.copytree(run.path, again.path)
        for step in (10, 12):
            shutil.rmtree(again.checkpoint(step))
        launcher = ("torch.distributed.run", "--standalone", f"--nproc-per-node={words}", "-m")
        go(*launcher, "trainer", "resume", again.path)
        assert [event.first_step for event in events_of(again) if isinstance(event, Hello)] == [0, 5]
        assert_same(again, alone, STEPS)


def test_a_stop_leaves_one_whole_checkpoint_of_one_step_and_a_resume_is_exact(tmp_path, base):
    sections = {"save": {"every": 100_000, "dtype": "fp32"}, "multistage": {"switch_every": 3}}
    job = job_of(tmp_path / "data", base, training={"steps": 100_000}, **sections)
    write_json(tmp_path / "long.json", job)
    run = RunFolder(tmp_path / "long")
    arguments = ("run", tmp_path / "long.json", "--run-dir", run.path)
    process = trainer(
        "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "trainer", *arguments
    )
    wait_for(process, lambda: len(steps_of(run)) > 8)
    run.send(Stop())
    words, _ = process.communicate(timeout=240)
    assert process.returncode == 0, words
    (finished,) = (event for event in events_of(run) if isinstance(event, RunFinished))
    assert finished.reason == "stopped"
    assert run.checkpoint_steps() == [finished.step]
    assert [step.step for step in steps_of(run)] == list(range(1, finished.step + 1))

    # The turns are as of the whole run, so the one process stops at the same step of it.
    def one_process_stops(event_step: int) -> RunFolder:
        folder = RunFolder(tmp_path / "one")
        folder.create(run.read_job())
        with Reporter(folder) as reporter:
            control = Control(folder, reporter)
            say = reporter.say

            def say_and_stop(event):
                say(event)
                control.stop = control.stop or getattr(event, "step", 0) >= event_step

            reporter.say = say_and_stop
            torch.set_num_threads(1)
            train_lora(folder, folder.read_job(), reporter, control)
        return folder

    assert_same(run, one_process_stops(finished.step), finished.step)
