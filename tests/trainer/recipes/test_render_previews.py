"""Previews: each row by its own settings, checkpoints mixed and scaled, nothing overwritten."""

import gc
import json
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest
import torch

from tests.jobs import preview_row, small_job
from trainer.__main__ import main
from trainer.model.experts import Experts
from trainer.model.layouts import open_base
from trainer.model.load import load_expert
from trainer.model.lora import LoraSettings, add_lora, load_lora_state, lora_file_state, lora_state
from trainer.output.lora_file import LoraFileSpec, write_lora_file
from trainer.protocol.events import PhaseProgress, PreviewSaved, Warned
from trainer.protocol.job import Expert, SampleSection
from trainer.protocol.run_folder import EventReader, RunFolder, lora_file_name
from trainer.recipes import preview_clip
from trainer.recipes import render_previews as recipe
from trainer.recipes.cache_dataset import cache_latents, cache_prompts
from trainer.recipes.export_lora import NoCheckpointError
from trainer.recipes.render_previews import PreviewError, PreviewRequest, PreviewSource, row_settings
from trainer.recipes.run_context import open_context
from trainer.runtime.control import Control
from trainer.runtime.reporter import Reporter

CPU = torch.device("cpu")
FEW = {"every": 2, "steps": 2, "guidance_high": 1.0, "guidance_low": 1.0}


@pytest.fixture(scope="module", autouse=True)
def quick_collections():
    """Previews give memory back, for which the libraries' many objects need not be looked at each time."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory):
    """Clips and cache, made once."""
    return tmp_path_factory.mktemp("previews") / "data"


@pytest.fixture
def make_run(tmp_path, shared_folder, miniature_folder):
    def make(**sections):
        sections = {"sample": {**FEW, "rows": (preview_row(),)}, **sections}
        run = RunFolder(tmp_path / "run")
        run.create(small_job(shared_folder, miniature_folder, **sections))
        return run

    return make


def expert_with(folder, expert, settings, seed, size=0.5):
    transformer = load_expert(open_base(str(folder)), expert, torch.float32, CPU)
    add_lora(transformer, settings, seed)
    generator = torch.Generator().manual_seed(seed)
    load_lora_state(
        transformer,
        {
            name: tensor + size * torch.randn(tensor.shape, generator=generator)
            for name, tensor in lora_state(transformer).items()
        },
    )
    return transformer


def write_checkpoint(run, folder, step, experts=tuple(Expert), **settings):
    """A checkpoint's LoRA files, different at each step; returns the experts that they are from."""
    made = {}
    run.checkpoint(step).mkdir(parents=True)
    for number, expert in enumerate(experts):
        shape = LoraSettings(**{"rank": 2, **settings})
        transformer = expert_with(folder, expert, shape, 10 * step + number)
        path = run.checkpoint(step) / lora_file_name(expert)
        state = lora_file_state(transformer, lora_state(transformer))
        write_lora_file(path, state, LoraFileSpec("fp32", shape.rank, shape.trained_alpha))
        made[expert] = transformer
    return made


def frames_of(video: Path) -> np.ndarray:
    with av.open(str(video)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(int)


def events_of(run, kind):
    return [event for event in EventReader(run.events_file).read_new() if isinstance(event, kind)]


def told(folder):
    return json.loads((folder / "previews.json").read_text())["previews"]


def test_a_row_has_its_own_settings_and_the_sections_for_the_rest():
    sample = SampleSection(steps=20, guidance_high=3.5, guidance_low=2.5, negative_prompt="blurry", every=100)
    own = row_settings(
        sample, preview_row(seed=7, steps=4, guidance_high=0.0, guidance_low=5.0, negative_prompt=""), 300
    )
    assert own == recipe.RowSettings(7, 4, 0.0, 5.0, "")
    assert row_settings(sample, preview_row(seed=7), 300) == recipe.RowSettings(7, 20, 3.5, 2.5, "blurry")


@pytest.mark.parametrize(("step", "seed"), [(0, 7), (99, 7), (100, 8), (250, 9), (1000, 17)])
def test_a_walking_seed_goes_up_with_each_round(step, seed):
    walking = SampleSection(every=100, walk_seed=True)
    assert row_settings(walking, preview_row(seed=7), step).seed == seed
    assert row_settings(SampleSection(every=100), preview_row(seed=7), step).seed == 7
    assert row_settings(SampleSection(every=0, walk_seed=True), preview_row(seed=7), step).seed == 7


def test_each_setting_of_a_row_or_the_section_changes_the_video_that_it_should(
    tmp_path, shared_folder, miniature_folder
):
    rows = (
        preview_row(),
        preview_row(steps=3),
        preview_row(guidance_high=4.0),
        preview_row(guidance_low=4.0),
        preview_row(guidance_low=4.0, negative_prompt="still"),
        preview_row(seed=43),
        preview_row(),
    )
    job = small_job(shared_folder, miniature_folder, sample={**FEW, "rows": rows})
    run = RunFolder(tmp_path / "run")
    run.create(job)
    experts = Experts(
        {
            expert: expert_with(miniature_folder, expert, LoraSettings(rank=2, dropout=0.5), 1)
            for expert in Expert
        },
        0.9,
    )
    with Reporter(run) as reporter:
        context = open_context(run, job, CPU, reporter, Control(run, reporter))
        cache_prompts(context)
        cache_latents(context)
        videos = recipe.render_previews(context, experts, 0)
        assert [video.relative_to(run.path).as_posix() for video in videos] == [
            f"previews/step_000000/{row:02d}.mp4" for row in range(7)
        ]
        frames = [frames_of(video) for video in videos]
        assert all(one.shape == (5, 32, 32, 3) for one in frames)
        # All differ except the last, which is the first again: no dropout, no memory of the rows between.
        for number, one in enumerate(frames[:-1]):
            for other in frames[number + 1 : -1]:
                assert not np.array_equal(one, other)
        assert np.array_equal(frames[0], frames[-1])

        for change in ({"sampler": "euler"}, {"shift": 2.0}, {"walk_seed": True}):
            section = msgspec.structs.replace(job.sample, rows=rows[:1], **change)
            changed = open_context(
                run, msgspec.structs.replace(job, sample=section), CPU, reporter, Control(run, reporter)
            )
            (video,) = recipe.render_previews(changed, experts, 4)
            assert not np.array_equal(frames_of(video), frames[0]), change
    assert run.preview_steps() == [0, 4]
    entries = told(run.previews(0))
    assert [entry["steps"] for entry in entries] == [2, 3, 2, 2, 2, 2, 2]
    assert entries[4]["negative_prompt"] == "still"
    assert (entries[0]["sampler"], entries[0]["strength"], entries[5]["seed"]) == ("unipc", 1.0, 43)
    assert told(run.previews(4))[0]["seed"] == 44
    progress = [event for event in events_of(run, PhaseProgress) if event.phase == "previewing"]
    assert max(event.done for event in progress) == 15
    assert [(event.step, event.row) for event in events_of(run, PreviewSaved)][:7] == [
        (0, row) for row in range(7)
    ]


@pytest.mark.parametrize("kind", ["lora", "dora", "lokr"])
def test_a_checkpoint_of_any_type_previews_as_the_experts_that_it_is_from(make_run, miniature_folder, kind):
    run = make_run(target={"type": kind, "rank": 2, "alpha": 3.0, "only_if_contains": ("self_attn",)})
    experts = write_checkpoint(
        run, miniature_folder, 2, type=kind, alpha=3.0, only_if_contains=("self_attn",)
    )
    (video,) = recipe.render_checkpoint(run, PreviewRequest())
    assert video == run.previews(2) / "00.mp4"
    with Reporter(run) as reporter:
        context = open_context(run, run.read_job(), CPU, reporter, Control(run, reporter))
        found = frames_of(video)
        (again,) = recipe.render_previews(context, Experts(experts, 0.9), 3)
        bare = Experts({one: load_expert(context.base, one, torch.float32, CPU) for one in Expert}, 0.9)
        (of_base,) = recipe.render_previews(context, bare, 4)
    assert np.abs(found - frames_of(again)).mean() < 0.5
    assert np.abs(found - frames_of(of_base)).mean() > 2


def test_checkpoints_are_mixed_and_scaled_beside_the_plain_previews(make_run, miniature_folder, capsys):
    run = make_run()
    for step in (2, 4):
        write_checkpoint(run, miniature_folder, step)
    preview = ["preview", str(run.path)]
    outputs = {}
    for name, options in {
        "step_000004": [],
        "high_000002_low_000004": ["--high", "2"],
        "high_000002_low_000002_strength_0.80": ["--checkpoint", "2", "--strength", "0.8"],
        "high_000004_low_000002_strength_0.125": ["--high", "4", "--low", "2", "--strength", "0.125"],
        "high_000004_low_000004_strength_0.00": ["--strength", "0"],
    }.items():
        assert main([*preview, *options]) == 0
        (line,) = capsys.readouterr().out.splitlines()
        assert Path(line) == run.previews_folder / name / "00.mp4"
        outputs[name] = frames_of(Path(line))
        (entry,) = told(run.previews_folder / name)
        assert entry["step"] == max(entry["high_step"], entry["low_step"])
    assert entry["strength"] == 0.0
    names = list(outputs)
    for number, name in enumerate(names):
        for other in names[number + 1 :]:
            assert not np.array_equal(outputs[name], outputs[other]), (name, other)
    assert run.preview_steps() == [4]
    assert [event.step for event in events_of(run, PreviewSaved)] == [4]


def test_the_high_experts_checkpoint_matters_at_high_noise_only(make_run, miniature_folder, monkeypatch):
    run = make_run()
    for step in (2, 4):
        write_checkpoint(run, miniature_folder, step)
    seen = {}
    monkeypatch.setattr(
        recipe,
        "render_previews",
        lambda context, experts, step, source: seen.update(experts=experts) or [Path()],
    )
    recipe.render_checkpoint(run, PreviewRequest(high=2, low=4))
    for expert, step in ((Expert.HIGH, 2), (Expert.LOW, 4)):
        original = expert_with(
            miniature_folder, expert, LoraSettings(rank=2), 10 * step + list(Expert).index(expert)
        )
        for name, tensor in lora_state(seen["experts"].transformer(expert)).items():
            assert torch.equal(tensor, lora_state(original)[name])


def test_an_expert_that_did_not_train_is_the_base_and_cannot_be_asked_for(make_run, miniature_folder):
    run = make_run(multistage={"stages": "high"})
    write_checkpoint(run, miniature_folder, 2, experts=(Expert.HIGH,))
    assert len(recipe.render_checkpoint(run, PreviewRequest(high=2))) == 1
    with pytest.raises(PreviewError, match="no LoRA of the low-noise expert"):
        recipe.render_checkpoint(run, PreviewRequest(low=2))
    with pytest.raises(NoCheckpointError, match="no checkpoint of step 3"):
        recipe.render_checkpoint(run, PreviewRequest(high=3))


def test_a_run_that_renders_none_while_training_can_be_previewed_later(make_run, miniature_folder, tmp_path):
    rows = (preview_row(prompt="never seen while training", negative_prompt="nor this", guidance_low=2.0),)
    run = make_run(sample={**FEW, "every": 0, "rows": rows})
    write_checkpoint(run, miniature_folder, 2)
    assert len(recipe.render_checkpoint(run, PreviewRequest(step=2))) == 1


def test_a_row_that_fails_is_a_warning_and_when_all_fail_an_error(
    make_run, miniature_folder, monkeypatch, capsys
):
    run = make_run(sample={**FEW, "rows": (preview_row(), preview_row(seed=1))})
    write_checkpoint(run, miniature_folder, 2)
    decode = preview_clip.decode_latents
    calls = []

    def fail_first(vae, latents):
        calls.append(1)
        # Whole, and then in tiles.
        if len(calls) <= 2:
            raise torch.OutOfMemoryError("not enough memory")
        return decode(vae, latents)

    monkeypatch.setattr(preview_clip, "decode_latents", fail_first)
    assert [video.name for video in recipe.render_checkpoint(run, PreviewRequest())] == ["01.mp4"]
    assert "row 1 could not be made: The memory of CPU does not suffice while rendering" in (
        events_of(run, Warned)[0].message
    )

    def fail(vae, latents):
        raise RuntimeError("no kernel")

    monkeypatch.setattr(preview_clip, "decode_latents", fail)
    assert main(["preview", str(run.path)]) == 1
    assert "None of the previews could be made" in capsys.readouterr().err


def test_no_rows_and_a_run_in_training_are_told(make_run, miniature_folder, capsys):
    run = make_run(sample={**FEW, "rows": ()})
    assert main(["preview", str(run.path)]) == 1
    assert "no preview rows" in capsys.readouterr().err


def test_a_run_in_training_is_left_alone(make_run, miniature_folder, capsys, monkeypatch):
    run = make_run()
    write_checkpoint(run, miniature_folder, 2)
    with run.hold_lock():
        assert main(["preview", str(run.path)]) == 3
    assert "Another trainer" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["preview", str(run.path), "--strength", "inf"])
    assert "inf is no number" in capsys.readouterr().err


def test_while_denoising_no_vae_is_in_memory(make_run, miniature_folder, monkeypatch):
    run = make_run()
    write_checkpoint(run, miniature_folder, 2)
    order = []
    for name in ("denoise", "load_vae", "decode_latents"):
        work = getattr(preview_clip, name)
        monkeypatch.setattr(
            preview_clip, name, lambda *args, name=name, work=work: order.append(name) or work(*args)
        )
    recipe.render_checkpoint(run, PreviewRequest())
    assert order == ["denoise", "load_vae", "decode_latents"]


def test_names_of_mixtures_tell_strengths_apart(tmp_path):
    run = RunFolder(tmp_path)
    names = {PreviewSource(1, 2, strength).folder(run).name for strength in (0.8, 0.801, 1.0, -0.8, 2.0)}
    assert names == {
        "high_000001_low_000002_strength_0.80",
        "high_000001_low_000002_strength_0.801",
        "high_000001_low_000002",
        "high_000001_low_000002_strength_-0.80",
        "high_000001_low_000002_strength_2.00",
    }
    assert PreviewSource(3, 3).folder(run) == run.previews(3)
