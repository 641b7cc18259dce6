"""What a micro-batch draws: clips, noise, timesteps, captions; a function of job, step and micro-batch alone.

So a resumed run repeats what an uninterrupted one would have drawn, and a draw can be made ahead of its
time on another thread, or on another machine.
"""

# B batch, C channels, T latent frames, H/W latent height and width, L text rows, D text width

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainer.data.batches import Batch, BatchSource, TrainingItem, load_batch
from trainer.model.text import pad_rows
from trainer.objective.flow_matching import add_noise, velocity_target
from trainer.objective.timesteps import STRATA, NoiseInterval, TimestepDistribution, sample_timesteps
from trainer.objective.turns import ExpertTurns
from trainer.protocol.job import Expert
from trainer.recipes.prompts import preservation_prompts, training_prompt
from trainer.recipes.run_context import RunContext
from trainer.runtime.seeding import derived_seed, generator_for


@dataclass(frozen=True, slots=True)
class Place:
    """Where a micro-batch stands: its optimizer step, from 0, and its number among the step's."""

    step: int
    micro: int


@dataclass(frozen=True, slots=True)
class Draw:
    """What one micro-batch is computed from, on the CPU until `on` a device.

    Attributes:
        timesteps: Those of `timesteps_B` as numbers: no one must ask a device for them.
        target_BCTHW: The velocity that should have been predicted, float32.
        loss_weight_B: What each item counts in the loss.
        text_BLD: Rows of the prompts, padded.
        preserved_BLD: Rows of prompts whose output must stay the base's; often none.
        lora_strength: Of the whole batch.
        dropout_seed: Of the LoRA's dropout.
    """

    items: list[TrainingItem]
    timesteps: list[float]
    target_BCTHW: Tensor
    noisy_BCTHW: Tensor
    condition_BCTHW: Tensor
    timesteps_B: Tensor
    loss_weight_B: Tensor
    text_BLD: Tensor
    preserved_BLD: list[Tensor]
    lora_strength: float
    dropout_seed: int

    def on(self, device: torch.device) -> "Draw":
        """The same with its tensors on a device; pinned ones are sent without waiting."""
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> "Draw":
        """The same in page-locked memory, from which a GPU copies while the host goes on."""
        return self._with_tensors(lambda tensor: tensor.pin_memory())

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> "Draw":
        return replace(
            self,
            target_BCTHW=change(self.target_BCTHW),
            noisy_BCTHW=change(self.noisy_BCTHW),
            condition_BCTHW=change(self.condition_BCTHW),
            timesteps_B=change(self.timesteps_B),
            loss_weight_B=change(self.loss_weight_B),
            text_BLD=change(self.text_BLD),
            preserved_BLD=[change(text_BLD) for text_BLD in self.preserved_BLD],
        )


@dataclass(frozen=True, slots=True)
class DrawSource:
    """What draws are made from.

    Attributes:
        aims: By expert, from which noise levels it learns, and how often from each.
        micro_batches: Micro-batches of an optimizer step, over all devices.
    """

    context: RunContext
    turns: ExpertTurns
    batches: BatchSource
    aims: Mapping[Expert, tuple[NoiseInterval, TimestepDistribution]]
    micro_batches: int


def draw(source: DrawSource, place: Place) -> Draw:
    """Draw what this micro-batch trains on.

    Raises:
        CacheMissError: something of it is not in the cache.
    """
    context, job, training = source.context, source.context.job, source.context.job.training
    expert = source.turns.expert_at(place.step)
    index = source.turns.steps_taken(expert, place.step) * source.micro_batches + place.micro
    items = source.batches.batch_at(expert.value, index)
    datasets = [job.datasets[item.dataset_index] for item in items]
    altered = [
        derived_seed(training.seed, "condition", place.step, place.micro, n) / 2**63 < dataset.condition_share
        for n, dataset in enumerate(datasets)
    ]
    batch = load_batch(items, context.cache, altered)
    generator = generator_for(training.seed, "step", place.step, place.micro)
    strata = strata_of(training.seed, expert, index, len(items)) if training.stratified_timesteps else None
    interval, distribution = source.aims[expert]
    timesteps_B = sample_timesteps(len(items), interval, generator, distribution, strata)
    noise_BCTHW = torch.randn(batch.clean_BCTHW.shape, generator=generator)
    noise_levels = [dataset.condition_noise * alter for dataset, alter in zip(datasets, altered, strict=True)]
    prompts = [training_prompt(job, item, (place.step, place.micro, n)) for n, item in enumerate(items)]
    return Draw(
        items=items,
        timesteps=timesteps_B.tolist(),
        target_BCTHW=velocity_target(batch.clean_BCTHW, noise_BCTHW),
        noisy_BCTHW=add_noise(batch.clean_BCTHW, noise_BCTHW, timesteps_B),
        condition_BCTHW=augmented_condition(batch, noise_levels, generator),
        timesteps_B=timesteps_B,
        loss_weight_B=torch.tensor([dataset.loss_weight for dataset in datasets]),
        text_BLD=text_of(context, prompts),
        preserved_BLD=[text_of(context, kept) for kept in preserved_prompts(context, items)],
        # One data set's strength stands for the batch: the plan never mixes them.
        lora_strength=datasets[0].lora_strength,
        dropout_seed=derived_seed(training.seed, "dropout", place.step, place.micro),
    )


def text_of(context: RunContext, prompts: list[str]) -> Tensor:
    """The cached rows of prompts, padded, (B, L, D)."""
    return torch.stack([pad_rows(context.text_rows(prompt)) for prompt in prompts])


def preserved_prompts(context: RunContext, items: list[TrainingItem]) -> list[list[str]]:
    """For each thing to preserve, a prompt an item; empty where an item has nothing or is no training data."""
    job = context.job
    if any(job.datasets[item.dataset_index].role != "training" for item in items):
        return []
    kept = [
        preservation_prompts(job, job.datasets[item.dataset_index], job.clips[item.clip_index].caption)
        for item in items
    ]
    return [list(prompts) for prompts in zip(*kept, strict=True)] if all(kept) else []


def strata_of(seed: int, expert: Expert, batch_index: int, batch_size: int) -> Tensor:
    """For each sample of a batch the part of the distribution that is its turn; long (batch_size,)."""
    strata: list[int] = []
    for number in range(batch_index * batch_size, (batch_index + 1) * batch_size):
        turn, place = divmod(number, STRATA)
        order = torch.randperm(STRATA, generator=generator_for(seed, "strata", expert.value, turn))
        strata.append(int(order[place]))
    return torch.tensor(strata)


def augmented_condition(batch: Batch, noise_levels: list[float], generator: torch.Generator) -> Tensor:
    """The condition's latents with each data set's noise on the latent frame that holds the first picture."""
    if not any(noise_levels):
        return batch.condition_BCTHW
    condition_BCTHW = batch.condition_BCTHW.clone()
    noise = torch.randn(condition_BCTHW[:, :, :1].shape, generator=generator)
    condition_BCTHW[:, :, :1] += torch.tensor(noise_levels).view(-1, 1, 1, 1, 1) * noise
    return condition_BCTHW
