"""How the job says that experts are stored and computed: what must not change the numbers does not."""

import dataclasses
import gc
import shutil
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
import torch

from tests.jobs import preview_row, small_job
from tests.trainer.small_experts import distance
from trainer.model.block.recomputed_block import RecomputedBlock
from trainer.model.expert_plan import ExpertPlan
from trainer.model.frozen.nf4 import Nf4Weight
from trainer.model.frozen.recovery import RecoveredWeight
from trainer.model.frozen.weights import DenseWeight, Float8ComputeWeight, Float8Weight
from trainer.protocol.commands import Stop
from trainer.protocol.events import PreviewSaved, StepDone, Warned
from trainer.protocol.job import Expert, JobSpec
from trainer.protocol.run_folder import EventReader, RunFolder
from trainer.recipes import input_statistics, load_experts
from trainer.recipes import train_lora as recipe
from trainer.recipes.cache_dataset import cache_prompts
from trainer.recipes.input_statistics import STATISTICS_FOLDER
from trainer.recipes.load_experts import QUANTIZED_FOLDER
from trainer.recipes.prompts import prompts_to_cache
from trainer.recipes.render_previews import PreviewRequest, render_checkpoint
from trainer.recipes.run_context import open_context
from trainer.runtime import host_memory
from trainer.runtime.control import Control, StopRequested
from trainer.runtime.device import choose_device
from trainer.runtime.out_of_memory import MemoryRanOutError
from trainer.runtime.reporter import Reporter


@pytest.fixture(scope="module", autouse=True)
def quick_collections():
    """Memory is given back after each part, for which the libraries' many objects need not be looked at."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def job_of(tmp_path_factory, miniature_folder):
    data = tmp_path_factory.mktemp("load-experts")

    def make(**sections) -> JobSpec:
        return small_job(data, miniature_folder, **sections)

    return make


def with_own_cache(job: JobSpec, folder: Path) -> JobSpec:
    """With the latents and prompts that are cached already, and nothing of an expert."""
    if Path(job.cache_folder).is_dir():
        of_experts = shutil.ignore_patterns(QUANTIZED_FOLDER, STATISTICS_FOLDER)
        shutil.copytree(job.cache_folder, folder / "own-cache", ignore=of_experts)
    return msgspec.structs.replace(job, cache_folder=str(folder / "own-cache"))


class Opened:
    """A run's parts, ready for a step, and what was said meanwhile."""

    def __init__(self, folder: Path, job: JobSpec):
        run = RunFolder(folder)
        folder.mkdir()
        with Reporter(run) as reporter:
            self.context = open_context(run, job, choose_device(None), reporter, Control(run, reporter))
            self.parts = recipe.prepare(self.context, recipe.turns_of(job))
        self.warnings = [one for one in EventReader(run.events_file).read_new() if isinstance(one, Warned)]

    def step(self, expert: Expert = Expert.LOW, number: int = 4):
        """The loss and the gradients of a step with a LoRA that is not at rest."""
        parameters = self.parts.learners[expert].parameters
        for seed, parameter in enumerate(parameters):
            parameter.grad = None
            generator = torch.Generator().manual_seed(seed)
            torch.nn.init.normal_(parameter, std=0.1, generator=generator)
        losses = recipe.accumulate_gradient(self.parts, expert, number)
        return recipe.read_numbers(losses, torch.zeros(())).plain, torch.cat(
            [one.grad.flatten() for one in parameters]
        )

    def weights(self) -> set[type]:
        blocks = self.parts.experts.transformer(Expert.LOW).blocks
        return {type(block.attn1.to_q.get_base_layer().frozen) for block in blocks}


@pytest.fixture
def opened(tmp_path):
    def make(job: JobSpec) -> Opened:
        return Opened(tmp_path / f"run{len(list(tmp_path.iterdir()))}", job)

    return make


@pytest.fixture(scope="module")
def plain(tmp_path_factory, job_of):
    """The loss and the gradients of the job as it is."""
    return Opened(tmp_path_factory.mktemp("plain") / "run", job_of()).step()


# ---- What changes no number -------------------------------------------------------------------

WHERE_AND_WHEN = {
    "half of the blocks streamed": ({"model": {"layer_offloading": 0.5}}, {"resident": 1}),
    "all of the blocks streamed": ({"model": {"layer_offloading": 1.0}}, {"resident": 0}),
    "one block resident": ({"model": {"resident_blocks": 1}}, {"resident": 1}),
    "more resident blocks than there are": ({"model": {"resident_blocks": 9}}, {"resident": None}),
    "slots of its own for each expert": (
        {"model": {"low_vram": False, "resident_blocks": 0}},
        {"resident": 0, "shared": False},
    ),
    "checkpoints in RAM": (
        {"model": {"checkpoint_offloading": True}, "training": {"gradient_checkpointing": True}},
        {"keep": ["attention"] * 2, "stored": True},
    ),
    "nothing kept": (
        {"training": {"gradient_checkpointing": True, "kept_activations": "nothing"}},
        {"keep": ["nothing"] * 2},
    ),
    "sums kept": (
        {"training": {"gradient_checkpointing": True, "kept_activations": "sums"}},
        {"keep": ["sums"] * 2},
    ),
    "the last block keeps everything": (
        {"training": {"gradient_checkpointing": True, "kept_blocks": 1}},
        {"keep": ["attention", "everything"]},
    ),
    "compiled, where there is a GPU": ({"model": {"compile": True}}, {}),
}


@pytest.mark.parametrize("name", WHERE_AND_WHEN)
def test_loss_and_gradients_are_the_same_bit_for_bit(job_of, opened, plain, name):
    sections, expected = WHERE_AND_WHEN[name]
    run = opened(job_of(**sections))
    losses, gradients = run.step()
    assert losses == plain[0]
    assert torch.equal(gradients, plain[1])

    served = run.parts.served
    streamed = list(served.streamed.values())
    resident = expected.get("resident")
    assert [len(one.slots.resident) for one in streamed] == ([] if resident is None else [resident] * 2)
    if streamed:
        assert (streamed[0].slots is streamed[1].slots) == expected.get("shared", True)
    kept = [one.keep for one in served.plans[Expert.LOW]]
    assert kept == expected.get("keep", ["everything"] * 2)
    assert (served.store.traffic.bytes_out > 0) == expected.get("stored", False)


def test_a_feed_forward_in_parts_changes_nothing_but_the_order_of_sums(job_of, opened, plain):
    losses, gradients = opened(job_of(model={"feed_forward_chunks": 3})).step()
    assert losses == pytest.approx(plain[0], rel=1e-6)
    assert distance(gradients, plain[1]) < 1e-6


def test_a_step_that_was_stopped_in_its_middle_leaves_the_run_as_it_was(job_of, opened, plain, monkeypatch):
    run = opened(job_of(model={"resident_blocks": 0, "checkpoint_offloading": True}))
    own = recipe.item_losses

    def full(*arguments):
        monkeypatch.setattr(recipe, "item_losses", own)
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(recipe, "item_losses", full)
    with pytest.raises(MemoryRanOutError):
        run.step()
    run.parts.served.release()
    losses, gradients = run.step()
    assert losses == plain[0]
    assert torch.equal(gradients, plain[1])


@pytest.mark.parametrize("target", [{"type": "dora"}, {"type": "lokr", "rank": 4}, {"dropout": 0.3}])
def test_other_types_of_lora_stream_and_wait_without_a_change_too(job_of, opened, target):
    at_rest = opened(job_of(target=target)).step()
    run = opened(job_of(target=target, model={"resident_blocks": 0, "checkpoint_offloading": True}))
    assert all(
        isinstance(one.forward, RecomputedBlock) for one in run.parts.experts.transformer(Expert.LOW).blocks
    )
    losses, gradients = run.step()
    assert losses == at_rest[0]
    assert torch.equal(gradients, at_rest[1])


# ---- What rounds ------------------------------------------------------------------------------

MODES = {
    "none": (DenseWeight, 0.0, 0.0),
    "float8": (Float8Weight, 0.01, 0.05),
    "float8_compute": (Float8ComputeWeight, 0.01, 0.06),
    "nf4": (Nf4Weight, 0.05, 0.2),
    "nf4_recovered": (RecoveredWeight, 0.02, 0.1),
}
"""By mode how its weights are stored, and between what the gradients lie from those of plain weights."""


@pytest.mark.parametrize("mode", MODES)
def test_rounding_moves_the_gradients_by_about_what_it_should(job_of, opened, plain, mode):
    kind, least, most = MODES[mode]
    run = opened(job_of(quantization={"transformer": mode, "recovery_rank": 8}))
    assert run.weights() == {kind}
    losses, gradients = run.step()
    assert losses == pytest.approx(plain[0], rel=0.01)
    assert least <= distance(gradients, plain[1]) <= most
    assert not run.warnings


def test_recovery_comes_nearer_than_plain_4_bits_and_more_so_with_a_larger_branch(job_of, opened, plain):
    def error(mode, rank=8):
        job = job_of(quantization={"transformer": mode, "recovery_rank": rank})
        return distance(opened(job).step()[1], plain[1])

    assert error("nf4_recovered", 32) < error("nf4_recovered", 8) < error("nf4")


def test_a_device_that_cannot_multiply_in_8_bits_stores_in_8_bits_and_says_so(job_of, opened, monkeypatch):
    monkeypatch.setattr(load_experts, "why_no_float8_products", lambda device: "no such instruction")
    run = opened(job_of(quantization={"transformer": "float8_compute"}))
    assert run.weights() == {Float8Weight}
    (warning,) = run.warnings
    assert "cannot multiply in 8 bits (no such instruction)" in warning.message
    assert "float8" in warning.hint
    monkeypatch.undo()
    expected = opened(job_of(quantization={"transformer": "float8"})).step()
    losses, gradients = run.step()
    assert losses == expected[0]
    assert torch.equal(gradients, expected[1])


# ---- Runs with it -----------------------------------------------------------------------------


def go(run: RunFolder, job: JobSpec, stop_after: int = 0) -> list:
    run.path.mkdir(parents=True, exist_ok=True)
    with Reporter(run) as reporter:
        say = reporter.say

        def say_and_stop(event) -> None:
            say(event)
            if isinstance(event, StepDone) and event.step == stop_after:
                run.send(Stop())

        reporter.say = say_and_stop
        recipe.train_lora(run, job, reporter, Control(run, reporter))
    return EventReader(run.events_file).read_new()


def files_of(run: RunFolder, step: int) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.checkpoint(step).iterdir()}


LONG = pytest.mark.slow


@pytest.mark.parametrize(
    "mode",
    ["nf4_recovered", *(pytest.param(one, marks=LONG) for one in ("float8", "float8_compute", "nf4"))],
)
def test_a_run_with_rounded_streamed_weights_trains_and_resumes_to_the_bit(job_of, tmp_path, mode):
    job = with_own_cache(
        job_of(
            quantization={"transformer": mode, "recovery_rank": 8},
            model={"resident_blocks": 1, "checkpoint_offloading": True},
            training={"steps": 6, "gradient_checkpointing": True},
            multistage={"switch_every": 2},
        ),
        tmp_path,
    )
    whole, halves = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "halves")
    losses = [event.loss for event in go(whole, job) if isinstance(event, StepDone)]
    assert len(set(losses)) == 6
    go(halves, job, stop_after=3)
    assert halves.checkpoint_steps()[-1] == 3
    go(halves, job)
    assert files_of(halves, 6) == files_of(whole, 6)


def test_previews_are_made_later_from_a_checkpoint_with_the_same_rounded_weights(job_of, tmp_path):
    sample = {"every": 2, "steps": 2, "guidance_high": 1.0, "guidance_low": 1.0, "rows": (preview_row(),)}
    job = job_of(
        quantization={"transformer": "nf4"},
        model={"layer_offloading": 0.5},
        training={"steps": 2},
        multistage={"switch_every": 1},
        sample=sample,
    )
    run = RunFolder(tmp_path / "run")
    run.create(job)
    (saved,) = [event for event in go(run, job) if isinstance(event, PreviewSaved)]
    while_training = (run.path / saved.poster).read_bytes()
    (run.path / saved.poster).unlink()
    render_checkpoint(run, PreviewRequest(step=2))
    assert (run.path / saved.poster).read_bytes() == while_training


# ---- Kept on disk -----------------------------------------------------------------------------


def test_quantized_weights_are_on_disk_once_and_used_by_the_next_run(job_of, opened, tmp_path, monkeypatch):
    job = with_own_cache(job_of(quantization={"transformer": "nf4"}), tmp_path)
    expected = opened(job).step()
    files = sorted((Path(job.cache_folder) / QUANTIZED_FOLDER).rglob("*.safetensors"))
    assert len(files) == 2 * 2, "two experts of two blocks"
    times = [one.stat().st_mtime_ns for one in files]
    monkeypatch.setattr("trainer.model.assemble.quantized", lambda *_, **__: pytest.fail("quantized again"))
    losses, gradients = opened(job).step()
    assert losses == expected[0]
    assert torch.equal(gradients, expected[1])
    assert [one.stat().st_mtime_ns for one in files] == times


def test_plain_weights_are_not_written_a_second_time(job_of, opened, tmp_path):
    job = with_own_cache(job_of(), tmp_path)
    opened(job)
    assert not (Path(job.cache_folder) / QUANTIZED_FOLDER).exists()


def test_each_base_expert_mode_and_branch_has_quantized_weights_of_its_own(job_of, opened):
    context = opened(job_of()).context
    other_base = dataclasses.replace(context, base=dataclasses.replace(context.base, fingerprint="other"))

    def folder(context=context, expert=Expert.HIGH, statistics="", **fields):
        plan = ExpertPlan(**({"mode": "nf4_recovered", "recovery_rank": 4} | fields))
        source = context.base.expert_source(expert)
        return load_experts.quantized_cache(context, source, expert, plan, statistics).folder

    found = [
        folder(),
        folder(other_base),
        folder(expert=Expert.LOW),
        folder(statistics="of other clips"),
        folder(mode="nf4"),
        folder(mode="float8"),
        folder(recovery_rank=5),
    ]
    assert len(set(found)) == len(found)
    # What is no part of the stored weights shares them.
    assert folder(resident_blocks=0, keep="sums", feed_forward_chunks=4) == folder()
    assert folder(mode="nf4", recovery_rank=5, statistics="of other clips") == folder(mode="nf4")


@pytest.fixture
def gathered(monkeypatch):
    """The experts whose inputs were gathered."""
    found, own = [], input_statistics._gather

    def gather(context, source, expert, *others):
        found.append(expert)
        own(context, source, expert, *others)

    monkeypatch.setattr(input_statistics, "_gather", gather)
    return found


def test_the_clips_are_measured_once_for_4_bit_weights_and_again_when_they_change(
    job_of, opened, tmp_path, gathered
):
    job = with_own_cache(job_of(quantization={"transformer": "nf4_recovered", "recovery_rank": 8}), tmp_path)
    opened(job)
    assert gathered == list(Expert)
    files = list((Path(job.cache_folder) / STATISTICS_FOLDER).iterdir())
    assert {one.name.split("-")[0] for one in files} == {expert.value for expert in Expert}

    gathered.clear()
    opened(job)
    assert not gathered

    # A file that is damaged counts as none.
    files[0].write_bytes(files[0].read_bytes()[:200])
    opened(job)
    assert len(gathered) == 1

    gathered.clear()
    (main,) = job.datasets
    fewer = msgspec.structs.replace(job, datasets=(msgspec.structs.replace(main, clips=main.clips[:1]),))
    opened(fewer)
    assert gathered == list(Expert)
    folders = list((Path(job.cache_folder) / QUANTIZED_FOLDER).iterdir())
    assert len(folders) == 4, "other statistics, other weights"


def test_other_modes_measure_nothing(job_of, opened, gathered):
    opened(job_of(quantization={"transformer": "nf4"}))
    assert not gathered


def test_measured_channels_are_those_of_the_expert_on_the_clips(job_of, opened, tmp_path):
    job = with_own_cache(job_of(quantization={"transformer": "nf4_recovered", "recovery_rank": 8}), tmp_path)
    run = opened(job)
    source = run.context.base.expert_source(Expert.HIGH)
    found = input_statistics.input_channels(run.context, source, Expert.HIGH, run.parts.batches)
    assert len(found.rms) == 2 * 7
    normed = found.rms["blocks.0.self_qkv"]
    assert normed.shape == (64,)
    # A normed input times (1 + scale) plus shift: about one.
    assert 0.5 < float(normed.square().mean().sqrt()) < 2.0
    assert float(found.rms["blocks.0.narrow"].min()) > 0
    other = input_statistics.input_channels(
        run.context, run.context.base.expert_source(Expert.LOW), Expert.LOW, run.parts.batches
    )
    assert other.fingerprint != found.fingerprint


def test_a_run_can_be_stopped_while_its_experts_are_loaded(job_of, tmp_path, monkeypatch):
    job = with_own_cache(job_of(quantization={"transformer": "nf4_recovered", "recovery_rank": 8}), tmp_path)
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    with Reporter(run) as reporter:
        control = Control(run, reporter)
        context = open_context(run, job, choose_device(None), reporter, control)
        monkeypatch.setattr(
            "trainer.recipes.input_statistics.serve", lambda *_: pytest.fail("loaded in spite of the stop")
        )
        run.send(Stop())
        with pytest.raises(StopRequested):
            recipe.prepare(context, recipe.turns_of(job))


# ---- Text encoder -----------------------------------------------------------------------------


def rows_and_keys(job: JobSpec, folder: Path) -> dict[str, tuple[str, torch.Tensor]]:
    run = RunFolder(folder)
    folder.mkdir()
    with Reporter(run) as reporter:
        context = open_context(run, job, choose_device(None), reporter, Control(run, reporter))
        cache_prompts(context)
        return {
            prompt: (context.text_key(prompt), context.text_rows(prompt)) for prompt in prompts_to_cache(job)
        }


def test_a_text_encoder_in_8_bits_has_rows_near_the_plain_ones_under_keys_of_their_own(job_of, tmp_path):
    job = msgspec.structs.replace(job_of(), cache_folder=str(tmp_path / "cache"))
    found = rows_and_keys(job, tmp_path / "none")
    rounded_job = msgspec.structs.replace(
        job, quantization=msgspec.structs.replace(job.quantization, text_encoder="float8")
    )
    rounded = rows_and_keys(rounded_job, tmp_path / "float8")
    assert found
    for prompt, (key, rows) in found.items():
        other_key, other_rows = rounded[prompt]
        assert other_key != key
        assert other_rows.dtype == rows.dtype
        assert 0.001 < distance(other_rows, rows) < 0.1


def test_a_text_encoder_in_ram_gives_the_plain_rows_under_the_same_keys(job_of, tmp_path):
    job = job_of()
    in_ram = msgspec.structs.replace(
        job, quantization=msgspec.structs.replace(job.quantization, text_encoder="cpu")
    )
    found, other = (
        rows_and_keys(
            msgspec.structs.replace(one, cache_folder=str(tmp_path / name)), tmp_path / f"run {name}"
        )
        for name, one in (("none", job), ("cpu", in_ram))
    )
    for prompt, (key, rows) in found.items():
        assert other[prompt][0] == key
        assert torch.equal(other[prompt][1], rows)


def test_only_the_linears_of_the_text_encoder_are_in_8_bits(miniature_folder):
    from trainer.model.frozen.linear import FrozenLinear
    from trainer.model.layouts import open_base
    from trainer.model.load import load_text_encoder

    base, cpu = open_base(str(miniature_folder)), torch.device("cpu")
    plain = load_text_encoder(base, torch.float32, cpu).model
    rounded = load_text_encoder(base, torch.float32, cpu, float8=True).model
    linears = {path for path, one in plain.named_modules() if type(one) is torch.nn.Linear}
    assert linears
    assert {path for path, one in rounded.named_modules() if isinstance(one, FrozenLinear)} == linears
    own = dict(plain.named_parameters())
    for name, parameter in rounded.named_parameters():
        assert torch.equal(parameter, own[name])
    for path in linears:
        frozen = rounded.get_submodule(path)
        assert isinstance(frozen.frozen, Float8Weight)
        assert distance(frozen.weight, plain.get_submodule(path).weight) < 0.04


def test_experts_that_do_not_fit_into_ram_are_refused_before_they_are_read(job_of, tmp_path, monkeypatch):
    little = SimpleNamespace(total=1024, available=1024)
    monkeypatch.setattr(host_memory.psutil, "virtual_memory", lambda: little)
    # In place they need no RAM of their own.
    go(RunFolder(tmp_path / "in place"), job_of(training={"steps": 1}))
    with pytest.raises(host_memory.RamTooSmallError, match="of RAM"):
        go(RunFolder(tmp_path / "streamed"), job_of(training={"steps": 1}, model={"layer_offloading": 1.0}))
