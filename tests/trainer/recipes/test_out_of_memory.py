"""Memory runs out: the run ends with what was done, where, and what to change; nothing of it is lost."""

import msgspec
import pytest
import torch

from tests.jobs import preview_row, small_job
from trainer.__main__ import main
from trainer.protocol.events import (
    CheckpointSaved,
    MemoryReport,
    PreviewSaved,
    RunFailed,
    RunFinished,
    StepDone,
    Warned,
)
from trainer.protocol.job import Expert, JobSpec
from trainer.protocol.run_folder import EventReader, RunFolder
from trainer.protocol.wire import write_json
from trainer.recipes import (
    cache_dataset,
    load_experts,
    preview_clip,
    train_lora,
    validate,
)

FULL = "CUDA out of memory. Tried to allocate 2.50 GiB."


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run")


@pytest.fixture
def job_of(tmp_path, miniature_folder):
    def make(**sections) -> JobSpec:
        sections["training"] = {"steps": 6, "gradient_accumulation": 2} | sections.get("training", {})
        sections.setdefault("save", {"every": 100, "dtype": "fp32"})
        sections.setdefault("multistage", {"switch_every": 2})
        return small_job(tmp_path / "data", miniature_folder, **sections)

    return make


def go(run: RunFolder, job: JobSpec, *, resume: bool = False, settings=()) -> tuple[int, list]:
    if resume:
        code = main(["resume", str(run.path), *(word for one in settings for word in ("--set", one))])
    else:
        write_json(run.path.parent / "job.json", job)
        code = main(["run", str(run.path.parent / "job.json"), "--run-dir", str(run.path)])
    return code, EventReader(run.events_file).read_new()


def of_type(events: list, kind: type) -> list:
    return [event for event in events if isinstance(event, kind)]


def failing(function, at_call: int = 1):
    """The function, but its call of this number finds no memory."""
    calls = []

    def call(*arguments, **options):
        calls.append(1)
        if len(calls) == at_call:
            raise torch.OutOfMemoryError(FULL)
        return function(*arguments, **options)

    return call


def final_files(run: RunFolder) -> dict[str, bytes]:
    folder = run.checkpoint(max(run.checkpoint_steps()))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("module", "function", "words"),
    [
        (cache_dataset, "encode_prompts", "while caching captions"),
        (cache_dataset, "encode_clip", "while caching clips, at 32 x 32 x 5 frames (8 tokens)"),
        (load_experts, "assemble_expert", "while loading the model"),
    ],
)
def test_before_the_first_step_the_work_is_named(run, job_of, monkeypatch, module, function, words):
    monkeypatch.setattr(module, function, failing(getattr(module, function)))
    code, events = go(run, job_of())
    (failed,) = of_type(events, RunFailed)
    assert code == 4
    assert (failed.kind, failed.step) == ("out_of_memory", 0)
    assert words in failed.message
    assert "2.50 GiB more needed" in failed.message
    assert failed.hint


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_failing_step_is_named_the_one_before_is_saved_and_a_resume_ends_with_the_same_bytes(
    run, job_of, monkeypatch, tmp_path, where
):
    whole = RunFolder(tmp_path / "whole" / "run")
    whole.path.parent.mkdir()
    assert go(whole, job_of())[0] == 0

    with monkeypatch.context() as patch:
        # Two micro-batches a step: the tenth pass is the second of step 5, when half a gradient is made.
        if where == "forward":
            patch.setattr(train_lora, "item_losses", failing(train_lora.item_losses, 10))
        else:
            patch.setattr(torch.Tensor, "backward", failing(torch.Tensor.backward, 10))
        code, events = go(run, job_of())
    (failed,) = of_type(events, RunFailed)
    assert code == 4
    assert (failed.kind, failed.step) == ("out_of_memory", 4)
    assert f"in the {where} pass of the high-noise expert of step 5, at 32 x 32 x 5 frames" in failed.message
    assert failed.memory == MemoryReport(
        doing=where, expert=Expert.HIGH, width=32, height=32, frames=5, batch=1, needed_bytes=5 * 2**29
    )
    assert "The state after step 4 is saved." in failed.message
    assert failed.hint.startswith(f"Resume with --set {failed.remedy}: ")
    assert [event.step for event in of_type(events, CheckpointSaved)] == [4]

    code, events = go(run, job_of(), resume=True, settings=[failed.remedy])
    assert code == 0
    assert run.read_job() != msgspec.json.decode(run.job_file.read_bytes(), type=JobSpec)
    if where == "forward":
        assert final_files(run).keys() == final_files(whole).keys()


def test_the_failed_step_leaves_no_gradient_and_a_plain_resume_is_exact(run, job_of, monkeypatch, tmp_path):
    whole = RunFolder(tmp_path / "whole" / "run")
    whole.path.parent.mkdir()
    go(whole, job_of())
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", failing(torch.Tensor.backward, 10))
        kept = []
        save = train_lora.save

        def look_and_save(parts, step):
            kept.extend(p.grad for learner in parts.learners.values() for p in learner.parameters)
            save(parts, step)

        patch.setattr(train_lora, "save", look_and_save)
        go(run, job_of())
    assert kept
    assert all(gradient is None for gradient in kept)
    assert go(run, job_of(), resume=True)[0] == 0
    assert final_files(run) == final_files(whole)


def test_a_state_that_is_saved_already_is_not_saved_again(run, job_of, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "backward", failing(torch.Tensor.backward, 5))
    _, events = go(run, job_of(save={"every": 2, "dtype": "fp32"}))
    assert [event.step for event in of_type(events, CheckpointSaved)] == [2]
    assert of_type(events, RunFailed)[0].step == 2


def test_a_broken_off_update_is_no_state_to_keep(run, job_of, monkeypatch):
    monkeypatch.setattr(train_lora, "take_step", failing(train_lora.take_step, 4))
    code, events = go(run, job_of(save={"every": 2, "dtype": "fp32"}))
    (failed,) = of_type(events, RunFailed)
    assert code == 4
    assert "while the optimizer took its step" in failed.message
    assert [event.step for event in of_type(events, CheckpointSaved)] == [2]
    assert failed.step == 2


def test_validation_that_finds_no_memory_ends_the_run_with_the_step_saved(run, job_of, monkeypatch):
    job = job_of(advanced={"validation_every": 3})
    held_out = msgspec.structs.replace(job.datasets[0], role="validation", clips=job.clips[1:])
    training = msgspec.structs.replace(job.datasets[0], clips=job.clips[:1])
    # The first two are those before the first step.
    monkeypatch.setattr(validate, "clip_losses", failing(validate.clip_losses, 3))
    _, events = go(run, msgspec.structs.replace(job, datasets=(training, held_out)))
    (failed,) = of_type(events, RunFailed)
    assert "in the validation of the high-noise expert" in failed.message
    assert failed.step == 3


def test_a_preview_that_finds_no_memory_is_a_warning_and_training_goes_on(run, job_of, monkeypatch):
    sample = {"every": 3, "steps": 2, "rows": (preview_row(),)}
    monkeypatch.setattr(preview_clip, "denoise", failing(preview_clip.denoise))
    code, events = go(run, job_of(sample=sample))
    assert code == 0
    (warned,) = of_type(events, Warned)
    assert "while rendering a preview, at 32 x 32 x 5 frames" in warned.message
    assert warned.memory == MemoryReport(
        doing="previewing", width=32, height=32, frames=5, needed_bytes=5 * 2**29
    )
    assert [event.step for event in of_type(events, PreviewSaved)] == [6]
    assert len(of_type(events, StepDone)) == 6
    assert of_type(events, RunFinished)[-1].reason == "completed"
