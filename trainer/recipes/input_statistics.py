"""What 4-bit weights need to know of the user's clips: how large each input channel of each linear is."""

# B batch, D text width

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainer.data.batches import BatchSource, TrainingItem, load_batch
from trainer.model.assemble import Assembly, assemble_expert, serve
from trainer.model.expert_plan import ExpertPlan
from trainer.model.experts import TIMESTEPS, Experts
from trainer.model.frozen.statistics import InputStatistics
from trainer.model.text import pad_rows
from trainer.model.weight_source import WeightSource
from trainer.objective.flow_matching import add_noise
from trainer.objective.timesteps import expert_interval
from trainer.protocol.events import Phase
from trainer.protocol.job import Expert
from trainer.recipes.run_context import RunContext
from trainer.runtime.device import compute_dtype, release_memory
from trainer.runtime.seeding import generator_for

Chosen = Sequence[list[TrainingItem]]

BATCHES = 8
"""Batches that the expert sees, each at another noise level of its side."""
STATISTICS_FOLDER = "statistics"
"""In the cache folder."""


@dataclass(frozen=True, slots=True)
class InputChannels:
    """The sizes of the input channels.

    Attributes:
        rms: Root of the mean square of each channel, by "blocks.0.self_qkv" and so on.
        fingerprint: Of all that they depend on.
    """

    rms: Mapping[str, Tensor]
    fingerprint: str


def input_channels(
    context: RunContext, source: WeightSource, expert: Expert, batches: BatchSource
) -> InputChannels | None:
    """Find them, or read what an earlier run with the same clips found.

    The expert computes with 8-bit weights meanwhile, streamed, so that this needs less memory than training.

    Args:
        context: The run; its latents and prompts are cached.
        source: The expert's weights.
        expert: Which it is.
        batches: Of the run's clips.

    Returns:
        None where they would have to be found in latents that are made up.

    Raises:
        BaseModelError: the files do not make this model.
        StopRequested: meanwhile.
    """
    chosen = [batches.batch_at(expert.value, index) for index in range(BATCHES)]
    keys = [item.latents_key for items in chosen for item in items]
    boundary = context.job.multistage.boundary or context.base.boundary_ratio
    told = "\n".join([context.base.fingerprint, expert.value, f"{boundary:g}", *keys])
    fingerprint = hashlib.sha256(told.encode()).hexdigest()[:32]
    path = Path(context.job.cache_folder) / STATISTICS_FOLDER / f"{expert.value}-{fingerprint}.safetensors"
    found = InputStatistics.load(path, fingerprint)
    if found is None and context.made_up:
        return None
    if found is None:
        found = InputStatistics(fingerprint)
        _gather(context, source, expert, chosen, found)
        path.parent.mkdir(parents=True, exist_ok=True)
        found.save(path)
    rms = {name: one for name in found.names if (one := found.rms(name)) is not None}
    return InputChannels({name: one.to(context.device) for name, one in rms.items()}, fingerprint)


@torch.no_grad()
def _gather(
    context: RunContext, source: WeightSource, expert: Expert, chosen: Chosen, found: InputStatistics
) -> None:
    """Let the expert predict for the batches, and take in what its linears get."""
    device, job = context.device, context.job
    plan = ExpertPlan(mode="float8", resident_blocks=0)

    def look(done: int, total: int) -> None:
        del done, total
        context.control.raise_if_stopped()

    with context.reporter.phase(Phase.LOADING, len(chosen), "batches") as report:
        assembly = Assembly(plan, device, compute_dtype(device), in_ram=True)
        loaded = assemble_expert(source, assembly, look)
        served = serve({expert: loaded}, plan, device, context.reporter.warn)
        served.gather(expert, found.add)
        boundary = job.multistage.boundary or context.base.boundary_ratio
        experts = Experts({expert: loaded.transformer}, boundary)
        interval = expert_interval(expert, boundary, job.multistage.boundary_overlap)
        for number, items in enumerate(chosen):
            context.control.raise_if_stopped()
            report.progress(number, "measuring the clips for 4-bit weights")
            batch = load_batch(items, context.cache)
            generator = generator_for(job.training.seed, "statistics", number)
            level = interval.lower + (interval.upper - interval.lower) * (number + 0.5) / len(chosen)
            timesteps_B = torch.full((len(items),), level * TIMESTEPS)
            noise_BCTHW = torch.randn(batch.clean_BCTHW.shape, generator=generator)
            noisy_BCTHW = add_noise(batch.clean_BCTHW, noise_BCTHW, timesteps_B)
            text_BSD = torch.stack(
                [pad_rows(context.text_rows(job.clips[item.clip_index].caption)) for item in items]
            )
            experts.predict(expert, noisy_BCTHW, batch.condition_BCTHW, timesteps_B, text_BSD)
        report.progress(len(chosen))
    del loaded, served, experts
    release_memory()
