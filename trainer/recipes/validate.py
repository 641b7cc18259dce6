"""Validation: each expert's loss on held-out clips, always at the same noise and timesteps.

The training loss of single steps is mostly the luck of the timestep; this one can be compared
from step to step.
"""

import torch

from trainer.data.batches import TrainingItem, entries_of, load_batch
from trainer.model.experts import Experts
from trainer.model.text import pad_rows
from trainer.objective.flow_matching import add_noise, velocity_target
from trainer.objective.losses import item_losses
from trainer.objective.timesteps import TRAINING_TIMESTEPS, TimestepDistribution, expert_interval
from trainer.protocol.events import Phase, ValidationDone
from trainer.protocol.job import Expert
from trainer.recipes.memory_advice import measured_work, work_on
from trainer.recipes.run_context import RunContext
from trainer.runtime.out_of_memory import Doing, watching_memory
from trainer.runtime.seeding import generator_for


def validation_items(context: RunContext) -> list[TrainingItem]:
    """The first window of each held-out clip, at each size."""
    entries = entries_of(context.job, "validation", context.vae_fingerprint)
    return [entry.windows[0] for entry in entries]


def validation_timesteps(expert: Expert, boundary: float, count: int) -> torch.Tensor:
    """The middles of `count` equal parts of the expert's interval, 0..1000; float32 (count,)."""
    middles = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    sigma = TimestepDistribution("linear").quantile(middles, expert_interval(expert, boundary))
    return (sigma * TRAINING_TIMESTEPS).float()


@torch.no_grad()
def validate(context: RunContext, experts: Experts, trained: tuple[Expert, ...], step: int) -> None:
    """Measure every trained expert and say so; nothing happens without held-out clips."""
    items = validation_items(context)
    if not items:
        return
    count = context.job.advanced.validation_timesteps
    with context.reporter.phase(Phase.VALIDATING, len(items) * len(trained), "clips") as report:
        for place, expert in enumerate(trained):
            timesteps = validation_timesteps(expert, experts.boundary, count)
            losses = torch.zeros(count, dtype=torch.float64)
            for number, item in enumerate(items):
                watch = context.meter.begin()
                with watching_memory(work_on(Doing.VALIDATING, [item], expert)):
                    losses += clip_losses(context, experts, expert, item, timesteps)
                work = measured_work("validation", [item], expert, passes=count)
                context.meter.add(work, watch.stop())
                report.progress(place * len(items) + number + 1)
            context.meter.tell_news()
            losses /= len(items)
            context.reporter.say(
                ValidationDone(
                    step=step,
                    expert=expert,
                    loss=float(losses.mean()),
                    timesteps=tuple(timesteps.tolist()),
                    timestep_losses=tuple(losses.tolist()),
                )
            )


def clip_losses(
    context: RunContext, experts: Experts, expert: Expert, item: TrainingItem, timesteps: torch.Tensor
) -> torch.Tensor:
    """Plain loss of one clip at each timestep, with noise that belongs to clip and timestep; float64."""
    job = context.job
    batch = load_batch([item], context.cache)
    text_BLD = pad_rows(context.text_rows(job.clips[item.clip_index].caption))[None]
    losses: list[float] = []
    for place in range(len(timesteps)):
        generator = generator_for(job.training.seed, "validation", item.latents_key, place)
        noise_BCTHW = torch.randn(batch.clean_BCTHW.shape, generator=generator)
        timesteps_B = timesteps[place : place + 1]
        noisy_BCTHW = add_noise(batch.clean_BCTHW, noise_BCTHW, timesteps_B)
        predicted_BCTHW = experts.predict(expert, noisy_BCTHW, batch.condition_BCTHW, timesteps_B, text_BLD)
        target_BCTHW = velocity_target(batch.clean_BCTHW, noise_BCTHW).to(predicted_BCTHW.device)
        losses.append(float(item_losses(predicted_BCTHW, target_BCTHW)))
    return torch.tensor(losses, dtype=torch.float64)
