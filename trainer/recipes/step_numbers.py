"""The numbers of an optimizer step: what it cost, read from the device in one go, and told as an event."""

from dataclasses import dataclass

import msgspec
import torch
from torch import Tensor

from trainer.protocol.events import StepDone, WorkMeasured
from trainer.recipes.parts import Parts
from trainer.runtime.device import peak_reserved_bytes


@dataclass(frozen=True, slots=True)
class StepLosses:
    """What a step's samples cost, still on the device: nobody waits for it before the step is under way.

    Attributes:
        timesteps: Of the samples, 0..1000.
        plain_B: Their plain losses, a tensor a micro-batch.
        preservation: Preservation losses of each micro-batch that had any, one a thing to preserve.
        works: What each micro-batch was, as a measurement names it.
    """

    timesteps: list[float]
    plain_B: list[Tensor]
    preservation: list[list[Tensor]]
    works: list[WorkMeasured]

    @property
    def work(self) -> WorkMeasured | None:
        """What the step was; None where its micro-batches are of several kinds."""
        first = self.works[0]
        alike = all(one == first for one in self.works)
        return msgspec.structs.replace(first, passes=len(self.works)) if alike else None


@dataclass(frozen=True, slots=True)
class StepNumbers:
    """A step as it is told: plain losses by sample, the mean preservation loss if there was one."""

    timesteps: list[float]
    plain: list[float]
    preservation: float | None
    grad_norm: float


def read_numbers(losses: StepLosses, grad_norm: Tensor) -> StepNumbers:
    """Wait for the step and fetch its numbers, all in one copy."""
    parts = [*losses.plain_B, *(torch.stack(values) for values in losses.preservation), grad_norm.reshape(1)]
    numbers = iter(torch.cat([part.float() for part in parts]).tolist())
    plain = [next(numbers) for loss_B in losses.plain_B for _ in range(len(loss_B))]
    means = [sum(next(numbers) for _ in values) / len(values) for values in losses.preservation]
    return StepNumbers(
        timesteps=losses.timesteps,
        plain=plain,
        preservation=sum(means) / len(means) if means else None,
        grad_norm=next(numbers),
    )


def joined(numbers: list[StepNumbers], batch_size: int) -> StepNumbers:
    """The numbers of all processes, by rank, in the order of the step's micro-batches."""
    if len(numbers) == 1:
        return numbers[0]

    def in_order(values: list[list[float]]) -> list[float]:
        rounds = range(0, len(values[0]), batch_size)
        return [one for start in rounds for own in values for one in own[start : start + batch_size]]

    preserved = [one.preservation for one in numbers if one.preservation is not None]
    return StepNumbers(
        timesteps=in_order([one.timesteps for one in numbers]),
        plain=in_order([one.plain for one in numbers]),
        preservation=sum(preserved) / len(preserved) if preserved else None,
        grad_norm=numbers[0].grad_norm,
    )


def step_done(parts: Parts, done: int, numbers: StepNumbers, learning_rate: float) -> StepDone:
    """What the step gave, and how long the rest takes that this process has to do."""
    job, turns = parts.context.job, parts.turns
    steps_left = sum(turns.steps_of(expert) - turns.steps_taken(expert, done) for expert in parts.learners)
    left = turns.total_steps - done
    previews_left = left // job.sample.every + 1 if job.sample.every else 0
    return StepDone(
        step=done,
        expert=turns.expert_at(done - 1),
        loss=sum(numbers.plain) / len(numbers.plain),
        timesteps=tuple(numbers.timesteps),
        item_losses=tuple(numbers.plain),
        preservation_loss=numbers.preservation,
        learning_rate=learning_rate,
        grad_norm=numbers.grad_norm,
        seconds=parts.pace.step_seconds[-1],
        seconds_left=parts.pace.seconds_left(steps_left, left // job.save.every + 1, previews_left),
        peak_vram_bytes=peak_reserved_bytes(parts.context.device),
    )
