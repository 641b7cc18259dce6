"""``python -m trainer rehearse``: what a run needs memory and time for, done once; nothing of it is kept."""

from pathlib import Path

import msgspec
import pytest
import torch

from tests.jobs import preview_row, small_job
from tests.trainer.small_experts import small_configs
from trainer.__main__ import main
from trainer.model import random_base
from trainer.model.experts import Experts
from trainer.protocol.events import (
    CheckpointSaved,
    Hello,
    PhaseStarted,
    RunFailed,
    StepDone,
    Warned,
    WorkMeasured,
)
from trainer.protocol.job import BucketSize, Expert, JobSpec
from trainer.protocol.run_folder import EventReader, RunFolder
from trainer.recipes import load_experts, preview_clip, rehearse, train_lora
from trainer.recipes.rehearse import turns_of_rehearsal

FULL = "CUDA out of memory. Tried to allocate 2.50 GiB."


@pytest.fixture
def job_of(tmp_path, miniature_folder):
    def make(**sections) -> JobSpec:
        return small_job(tmp_path / "data", miniature_folder, **sections)

    return make


@pytest.fixture
def go(tmp_path):
    """Carry a verb out in a folder; returns the exit code and the events."""

    def run(job: JobSpec, *words: str, name: str = "rehearsal", verb: str = "rehearse") -> tuple[int, list]:
        folder = RunFolder(tmp_path / name)
        folder.create(job)
        if verb == "run":
            words = (str(folder.job_file), "--run-dir", str(folder.path), *words)
        else:
            words = (str(folder.path), *words)
        code = main([verb, *words])
        return code, EventReader(folder.events_file).read_new()

    return run


def of_type(events: list, kind: type) -> list:
    return [event for event in events if isinstance(event, kind)]


def measured(events: list, work: str) -> list[WorkMeasured]:
    return [event for event in of_type(events, WorkMeasured) if event.work == work]


def with_wide_clip(job: JobSpec, width: int = 64, role: str = "training") -> JobSpec:
    """The second clip is wider, in a data set of its own."""
    (dataset,) = job.datasets
    first, second = dataset.clips
    wide = msgspec.structs.replace(second, sizes=(msgspec.structs.replace(second.sizes[0], width=width),))
    parts = [
        msgspec.structs.replace(dataset, clips=(first,)),
        msgspec.structs.replace(dataset, clips=(wide,), role=role),
    ]
    return msgspec.structs.replace(job, datasets=tuple(parts))


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_everything_is_done_once_in_the_order_of_a_run_and_nothing_is_kept(job_of, go, tmp_path):
    job = job_of(sample={"every": 4, "rows": (preview_row(steps=9),)}, training={"steps": 2000})
    before = files_of(tmp_path / "data")
    code, events = go(job)
    assert code == 0
    assert isinstance(events[0], Hello)
    assert events[-1].reason == "completed"
    assert [one.phase.value for one in of_type(events, PhaseStarted)] == [
        "caching_text",
        "caching_latents",
        "loading",
        "rehearsing",
        "previewing",
    ]
    told = [one.work for one in of_type(events, WorkMeasured)]
    assert told == ["text", "latents", "loading", "loading", "step", "step", "preview"]
    assert not of_type(events, StepDone)
    assert not of_type(events, CheckpointSaved)
    assert files_of(tmp_path / "rehearsal") == {"job.json", "events.jsonl", "lock"}
    assert files_of(tmp_path / "data") == before


@pytest.mark.parametrize("role", ["training", "regularization"])
def test_the_largest_size_is_what_is_measured_by_each_expert(job_of, go, monkeypatch, role):
    seen, own = [], Experts.predict

    def predict(self, expert, noisy, condition, timesteps, text):
        seen.append((expert, tuple(noisy.shape), tuple(condition.shape), tuple(text.shape)))
        return own(self, expert, noisy, condition, timesteps, text)

    monkeypatch.setattr(Experts, "predict", predict)
    job = with_wide_clip(job_of(training={"batch_size": 2, "gradient_accumulation": 5}), role=role)
    _, events = go(job, "--steps", "3")
    latents, text = (2, 16, 2, 4, 8), (2, 512, 64)
    assert seen == [(expert, latents, latents, text) for expert in Expert for _ in range(1 + 3)]
    assert [
        (one.expert, one.width, one.count, one.batch, one.passes) for one in measured(events, "step")
    ] == [(expert, 64, 3, 2, 1) for expert in Expert]
    assert [(one.width, one.height, one.frames) for one in measured(events, "latents")] == [(64, 32, 5)]


def test_one_expert_trains_alone_and_what_it_preserves_is_paid_for(job_of, go, monkeypatch):
    asked, own = [], Experts.predict
    monkeypatch.setattr(
        Experts, "predict", lambda self, expert, *rest: asked.append(expert) or own(self, expert, *rest)
    )
    job = job_of(multistage={"stages": "low"}, training={"blank_prompt_preservation": True})
    _, events = go(job, "--steps", "1")
    # Each step: once for the loss, and for the empty prompt once without the LoRA and once with it.
    assert asked == [Expert.LOW] * (1 + 1) * 3
    assert [(one.expert, one.preserved) for one in measured(events, "step")] == [(Expert.LOW, 1)]
    assert [one.expert for one in measured(events, "loading")] == [Expert.LOW]


def test_the_largest_preview_takes_one_guided_step_and_is_decoded(job_of, go):
    rows = (
        preview_row(),
        preview_row(size=BucketSize(width=48, height=32), num_frames=9, steps=30, guidance_high=2.0),
        preview_row(num_frames=9),
    )
    _, events = go(job_of(sample={"every": 4, "rows": rows}))
    (preview,) = measured(events, "preview")
    assert (preview.width, preview.height, preview.frames, preview.passes) == (48, 32, 9, 2)
    assert 0 < preview.decode_seconds < preview.seconds


@pytest.mark.parametrize(
    "model", [{"resident_blocks": 0, "checkpoint_offloading": True}, {"low_vram": False}]
)
def test_experts_are_loaded_with_the_plan_of_the_run_itself(job_of, go, monkeypatch, model):
    plans, own = [], load_experts.serve

    def serve(experts, plan, *rest):
        plans.append((list(experts), [len(one.packed) for one in experts.values()], plan))
        return own(experts, plan, *rest)

    monkeypatch.setattr(load_experts, "serve", serve)
    job = job_of(model=model, quantization={"transformer": "float8"}, training={"steps": 1})
    go(job, "--steps", "1")
    go(job, name="run", verb="run")
    rehearsed, run = plans
    assert rehearsed == run


def test_the_quantized_base_is_kept_for_the_run(job_of, go):
    job = job_of(quantization={"transformer": "float8"}, training={"steps": 1})
    _, events = go(job, "--steps", "1")
    assert all(one.first_seconds > 0 for one in measured(events, "loading"))
    _, events = go(job, name="run", verb="run")
    assert [one.first_seconds for one in measured(events, "loading")] == [0.0, 0.0]


def test_of_4_bit_weights_made_without_the_clips_nothing_is_kept(job_of, go, tmp_path):
    job = job_of(quantization={"transformer": "nf4_recovered", "recovery_rank": 4}, training={"steps": 1})
    code, _ = go(job, "--steps", "1")
    assert code == 0
    assert not (tmp_path / "data" / "cache" / "quantized").exists()
    assert not (tmp_path / "data" / "cache" / "statistics").exists()


def test_where_memory_runs_out_is_told_with_what_came_before_it(job_of, go, monkeypatch):
    calls, own = [], train_lora.item_losses

    def losses(*arguments):
        calls.append(1)
        if len(calls) == 5:
            raise torch.OutOfMemoryError(FULL)
        return own(*arguments)

    monkeypatch.setattr(train_lora, "item_losses", losses)
    code, events = go(with_wide_clip(job_of()))
    assert code == 4
    failed = events[-1]
    assert isinstance(failed, RunFailed)
    memory = failed.memory
    assert (memory.doing, memory.expert, memory.width, memory.frames) == ("forward", Expert.LOW, 64, 5)
    assert memory.needed_bytes == 5 * 2**29
    assert failed.hint == f"Set {failed.remedy}: {failed.hint.partition(': ')[2]}"
    assert [one.expert for one in measured(events, "step")] == [Expert.HIGH]


def test_a_preview_without_memory_is_a_warning_as_in_a_run(job_of, go, monkeypatch):
    def denoise(*_):
        raise torch.OutOfMemoryError(FULL)

    monkeypatch.setattr(preview_clip, "denoise", denoise)
    code, events = go(job_of(sample={"every": 4, "rows": (preview_row(),)}))
    assert code == 0
    (warned,) = of_type(events, Warned)
    assert warned.memory.doing == "previewing"
    assert events[-1].reason == "completed"


def test_random_weights_take_the_place_of_a_base_that_is_not_there(job_of, go, monkeypatch, tmp_path):
    configs = small_configs()
    monkeypatch.setattr(random_base, "A14B_I2V_CONFIG", configs.expert)
    monkeypatch.setattr(random_base, "A14B_VAE_CONFIG", configs.vae)
    monkeypatch.setattr(random_base, "A14B_TEXT_CONFIG", configs.text)
    job = job_of(
        model={"base": str(tmp_path / "nowhere")},
        quantization={"transformer": "float8", "text_encoder": "float8"},
        sample={"every": 4, "rows": (preview_row(),)},
    )
    code, events = go(job, "--random")
    assert code == 0
    told = [one.work for one in of_type(events, WorkMeasured)]
    assert told == ["text", "latents", "loading", "loading", "step", "step", "preview"]
    assert not (tmp_path / "data" / "cache").exists(), "nobody will ask for these weights again"


def test_a_base_that_is_not_there_is_named_as_a_run_names_it(job_of, go, tmp_path):
    job = job_of(model={"base": str(tmp_path / "nowhere")})
    code, events = go(job)
    assert code == 1
    assert "nowhere" in events[-1].message


def test_a_run_that_has_begun_is_left_alone_and_a_folder_without_a_job_is_named(job_of, go, tmp_path, capsys):
    go(job_of(training={"steps": 1}), name="run", verb="run")
    before = files_of(tmp_path / "run")
    size = (tmp_path / "run" / "events.jsonl").stat().st_size
    assert main(["rehearse", str(tmp_path / "run")]) == 2
    assert "has begun" in capsys.readouterr().err
    assert files_of(tmp_path / "run") == before
    assert (tmp_path / "run" / "events.jsonl").stat().st_size == size
    assert main(["rehearse", str(tmp_path / "empty")]) == 2
    assert "no job" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stages", "expected"),
    [("both", [Expert.HIGH] * 3 + [Expert.LOW] * 3), ("high", [Expert.HIGH] * 3), ("low", [Expert.LOW] * 3)],
)
def test_each_expert_that_trains_has_one_turn(job_of, stages, expected):
    job = job_of(multistage={"stages": stages, "high_steps": 1, "high_share": 0.9})
    turns = turns_of_rehearsal(job, 2)
    assert [turns.expert_at(step) for step in range(turns.total_steps)] == expected


def test_where_two_gpus_share_the_experts_one_has_room_for_one(job_of):
    job = job_of(job={"more_gpus": (1,), "gpu_share": "experts"}, model={"low_vram": False})
    assert rehearse.shortened(job).model.low_vram
    assert not rehearse.shortened(job_of(model={"low_vram": False})).model.low_vram
