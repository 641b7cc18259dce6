"""Draws are functions of their place, and no step waits for the device before all of it is on its way."""

import pytest
import torch
from torch.overrides import TorchFunctionMode

from tests.jobs import small_job
from trainer.data.tensor_cache import CacheMissError
from trainer.protocol.job import Expert
from trainer.protocol.run_folder import RunFolder
from trainer.recipes import train_lora as recipe
from trainer.recipes.draws import Place
from trainer.runtime.control import Control
from trainer.runtime.device import choose_device
from trainer.runtime.optim import take_step
from trainer.runtime.reporter import Reporter

PRESERVING = {"diff_output_preservation": True, "blank_prompt_preservation": True}


@pytest.fixture
def parts_of(tmp_path, miniature_folder):
    def make(gpu: int | None = None, **sections):
        job = small_job(tmp_path / "data", miniature_folder, **sections)
        run = RunFolder(tmp_path / "run")
        run.path.mkdir(exist_ok=True)
        reporter = Reporter(run)
        context = recipe.open_context(run, job, choose_device(gpu), reporter, Control(run, reporter))
        return recipe.prepare(context, recipe.turns_of(job))

    return make


class NoWaiting(TorchFunctionMode):
    """Refuses what makes the host wait for a device's number, on this thread."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in {
            "item",
            "tolist",
            "__float__",
            "__bool__",
            "__int__",
            "cpu",
            "numpy",
        }:
            raise AssertionError(f"the step waits in {func.__name__}")
        return func(*args, **(kwargs or {}))


def test_a_draw_is_the_same_whenever_it_is_made(parts_of):
    parts = parts_of(training={"gradient_accumulation": 2, "batch_size": 2})
    with parts.draws:
        in_turn = [parts.draws.take(Place(step, micro)) for step in range(3) for micro in range(2)]
        again = parts.draws.take(Place(1, 0))
    assert torch.equal(again.noisy_BCTHW, in_turn[2].noisy_BCTHW)
    assert torch.equal(again.target_BCTHW, in_turn[2].target_BCTHW)
    assert again.timesteps == in_turn[2].timesteps
    assert len({tuple(draw.timesteps) for draw in in_turn}) == 6


def test_nothing_in_a_step_waits_for_a_number(parts_of):
    parts = parts_of(
        training={"gradient_accumulation": 2, **PRESERVING},
        advanced={"differential_guidance": True},
        job={"trigger": "orbit"},
    )
    with parts.draws, NoWaiting():
        losses = recipe.accumulate_gradient(parts, Expert.HIGH, 0)
        with pytest.raises(AssertionError, match="waits in tolist"):
            recipe.read_numbers(losses, torch.zeros(()))


def test_a_missing_cached_file_is_told_when_its_batch_is_due(parts_of):
    parts = parts_of()
    for path in parts.context.cache.folder.glob("latents-*"):
        path.unlink()
    with parts.draws, pytest.raises(CacheMissError):
        recipe.accumulate_gradient(parts, Expert.HIGH, 0)


@pytest.mark.gpu
def test_a_gpus_step_synchronises_nowhere(parts_of):
    parts = parts_of(0, training={"optimizer": "adamw", "gradient_accumulation": 2, **PRESERVING})
    learner = parts.learners[Expert.HIGH]
    with parts.draws:
        # The first step may: it chooses kernels and makes the optimizer's state.
        recipe.accumulate_gradient(parts, Expert.HIGH, 0)
        take_step(learner.optimizer, learner.parameters, 1.0)
        torch.cuda.set_sync_debug_mode("error")
        try:
            losses = recipe.accumulate_gradient(parts, Expert.HIGH, 1)
            norm = take_step(learner.optimizer, learner.parameters, 1.0)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert len(recipe.read_numbers(losses, norm).plain) == 2
