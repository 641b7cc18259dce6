"""One optimizer step: its micro-batches forward and backward, the update, and the numbers to tell of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.model.lora import lora_disabled, lora_dropout, lora_strength
from trainer.objective.guidance import differential_guidance_target
from trainer.objective.losses import item_losses
from trainer.protocol.events import StepDone
from trainer.protocol.job import Expert
from trainer.recipes.draws import Draw, Place
from trainer.recipes.memory_advice import work_on
from trainer.recipes.parts import Parts
from trainer.runtime.device import peak_reserved_bytes
from trainer.runtime.optim import set_learning_rate, take_step
from trainer.runtime.out_of_memory import Doing, MemoryRanOutError, MemoryWork, watching_memory


@dataclass(frozen=True, slots=True)
class StepLosses:
    """What a step's samples cost, still on the device: nobody waits for it before the step is under way.

    Attributes:
        timesteps: Of the samples, 0..1000.
        plain_B: Their plain losses, a tensor a micro-batch.
        preservation: Preservation losses of each micro-batch that had any, one a thing to preserve.
    """

    timesteps: list[float]
    plain_B: list[Tensor]
    preservation: list[list[Tensor]]


@dataclass(frozen=True, slots=True)
class StepNumbers:
    """A step as it is told: plain losses by sample, the mean preservation loss if there was one."""

    timesteps: list[float]
    plain: list[float]
    preservation: float | None
    grad_norm: float


def take_optimizer_step(parts: Parts, step: int) -> StepDone:
    """The whole of an optimizer step of the expert whose turn it is; returns what is to be said of it.

    Raises:
        MemoryRanOutError: the GPU's memory did not suffice.
    """
    began = time.perf_counter()
    job, team, turns = parts.context.job, parts.context.team, parts.turns
    expert = turns.expert_at(step)
    learner = parts.learners[expert]
    rate = learner.learning_rate * learner.schedule.factor(turns.steps_taken(expert, step))
    set_learning_rate(learner.optimizer, rate)
    losses = accumulate_gradient_together(parts, expert, step)
    following = turns.step_from(step + 1, parts.learners)
    if following is not None:
        parts.served.announce(turns.expert_at(following))
    with watching_memory(MemoryWork(Doing.UPDATE, step + 1, expert)):
        grad_norm = take_step(learner.optimizer, learner.parameters, job.training.max_grad_norm)
        if learner.average is not None:
            learner.average.update()
    parts.done_step = step + 1
    # Only now, with the whole step on its way, may the host wait for the device.
    numbers = joined(team.gather(read_numbers(losses, grad_norm)), job.training.batch_size)
    parts.pace.step_seconds.append(time.perf_counter() - began)
    return step_done(parts, step + 1, numbers, rate)


def accumulate_gradient_together(parts: Parts, expert: Expert, step: int) -> StepLosses:
    """The gradient of a whole step, each process doing its part of the micro-batches.

    Raises:
        MemoryRanOutError: in one of the processes, and so in each of them.
    """
    team = parts.context.team
    losses, failure = None, None
    try:
        losses = accumulate_gradient(parts, expert, step)
    except MemoryRanOutError as ran_out:
        failure = ran_out
    team.raise_together(failure)
    assert losses is not None
    team.sum_gradients(parts.learners[expert].parameters)
    return losses


def accumulate_gradient(parts: Parts, expert: Expert, step: int) -> StepLosses:
    """Forward and backward of this process's micro-batches of one optimizer step."""
    team = parts.context.team
    found = [
        backward_micro_batch(parts, expert, Place(step, micro), share=1.0 / parts.micro_batches)
        for micro in range(team.rank, parts.micro_batches, team.size)
    ]
    return StepLosses(
        timesteps=[t for losses in found for t in losses.timesteps],
        plain_B=[loss_B for losses in found for loss_B in losses.plain_B],
        preservation=[values for losses in found for values in losses.preservation],
    )


def backward_micro_batch(parts: Parts, expert: Expert, place: Place, share: float) -> StepLosses:
    """One batch: noised, predicted and compared; adds `share` of the gradient."""
    job, training = parts.context.job, parts.context.job.training
    draw = parts.draws.take(place).on(parts.context.device)
    forward = work_on(Doing.FORWARD, draw.items, expert, place.step + 1)
    backward = work_on(Doing.BACKWARD, draw.items, expert, place.step + 1)

    def predict(text_BLD: Tensor) -> Tensor:
        return parts.experts.predict(
            expert, draw.noisy_BCTHW, draw.condition_BCTHW, draw.timesteps_B, text_BLD
        )

    # The backward passes are inside, for checkpointing computes the forward pass again.
    transformer = parts.experts.transformer(expert)
    with lora_strength(transformer, draw.lora_strength), lora_dropout(transformer, draw.dropout_seed):
        with watching_memory(forward):
            predicted_BCTHW = predict(draw.text_BLD)
            plain_B = item_losses(predicted_BCTHW, draw.target_BCTHW, training.loss, training.huber_delta)
            losses_B = plain_B
            if job.advanced.differential_guidance:
                pushed = differential_guidance_target(
                    predicted_BCTHW, draw.target_BCTHW, job.advanced.differential_guidance_scale
                )
                losses_B = item_losses(predicted_BCTHW, pushed, training.loss, training.huber_delta)
        with watching_memory(backward):
            ((losses_B * draw.loss_weight_B).mean() * share).backward()
        del predicted_BCTHW, losses_B
        with watching_memory(backward):
            preserved = backward_preservation(parts, expert, draw, predict, share)
    return StepLosses(draw.timesteps, [plain_B.detach()], [preserved] if preserved else [])


def backward_preservation(
    parts: Parts, expert: Expert, draw: Draw, predict: Callable[[Tensor], Tensor], share: float
) -> list[Tensor]:
    """Hold the LoRA's output to the base's for prompts that it should not change, at the same noise.

    A backward pass of its own, after the main one has freed its graph: the gradients add up to those of
    the joint loss, and the peak of memory is that of one pass.

    Returns:
        The loss of each thing to preserve, before its multiplier; often none.
    """
    multiplier = parts.context.job.training.preservation_multiplier
    values: list[Tensor] = []
    for text_BLD in draw.preserved_BLD:
        with torch.no_grad(), lora_disabled(parts.experts.transformer(expert)):
            before_BCTHW = predict(text_BLD)
        loss = item_losses(predict(text_BLD), before_BCTHW).mean()
        (loss * multiplier * share).backward()
        values.append(loss.detach())
    return values


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
