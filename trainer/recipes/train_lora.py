"""Train both experts' LoRAs, from job to last checkpoint; read it from top to bottom.

1. open the base and the newest checkpoint, 2. cache prompts and clips, 3. load the experts and put
LoRAs on them, 4. step: one expert's turn at a time, each on timesteps of its own side of the
boundary, 5. save, validate and preview when due or asked, 6. end. Where two processes share out the experts,
`train_apart` has 5.

Everything random is a function of the job's seed and the step, so a resumed run repeats what an
uninterrupted one would have done; on a CPU, to the bit.
"""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from trainer.model.lora import lora_disabled, lora_dropout, lora_strength
from trainer.model.lora_weights import start_from
from trainer.objective.guidance import differential_guidance_target
from trainer.objective.losses import item_losses
from trainer.objective.turns import ExpertTurns
from trainer.output.checkpoint import TrainingState, newest_checkpoint
from trainer.output.lora_file import read_lora_file
from trainer.protocol.events import Hello, Phase, RunFinished, StepDone
from trainer.protocol.job import PROTOCOL_VERSION, Expert, JobSpec
from trainer.protocol.run_folder import RunFolder
from trainer.recipes.draws import Draw, Place
from trainer.recipes.memory_advice import advised, measured_work, work_on
from trainer.recipes.parts import Parts, averaged, change_learning_rate, prepare, restore, turns_of
from trainer.recipes.run_context import RunContext, open_context
from trainer.recipes.step_numbers import StepLosses, joined, read_numbers, step_done
from trainer.recipes.train_apart import train_apart
from trainer.recipes.upkeep import is_due, pause, preview, save
from trainer.recipes.validate import validate
from trainer.runtime.control import Control, StopRequested
from trainer.runtime.device import choose_device, device_name, release_memory
from trainer.runtime.distributed import (
    ExpertsShareError,
    FirstHasEndedError,
    Team,
    join_team,
    leave_team,
)
from trainer.runtime.optim import drop_gradients, set_learning_rate, take_step
from trainer.runtime.out_of_memory import Doing, MemoryRanOutError, MemoryWork, watching_memory
from trainer.runtime.pair import Pair, SecondControl
from trainer.runtime.reporter import Reporter
from trainer.runtime.version import TRAINER_VERSION

LEAST_STEPS = 3
"""Steps of a kind, after its first, that a forecast may rest on."""
STEPS_BETWEEN_COMPARISONS = 50
"""Several processes compare their LoRAs, which must be the same, this often."""


def train_lora(run: RunFolder, job: JobSpec, reporter: Reporter, control: Control) -> None:
    """The whole run, new or resumed: from the newest whole checkpoint if there is one.

    Raises:
        TrainerError: the run cannot go on; its message says why and what to do.
    """
    team = join_team()
    try:
        train_in(team, run, job, reporter, control)
    finally:
        leave_team()


def train_in(team: Team, run: RunFolder, job: JobSpec, reporter: Reporter, control: Control) -> None:
    """The whole run, as one of the processes that train it together; errors as above."""
    device = choose_device(team.gpu(job.job.gpu, job.job.more_gpus))
    turns = turns_of(job)
    saved = newest_checkpoint(run, lambda damage: reporter.warn(damage.message, damage.hint))
    first_step = saved.step if saved else 0
    reporter.say(
        Hello(
            protocol_version=PROTOCOL_VERSION,
            trainer_version=TRAINER_VERSION,
            pid=os.getpid(),
            device=device_name(device) if team.size == 1 else f"{team.size} x {device_name(device)}",
            first_step=first_step,
            total_steps=turns.total_steps,
        )
    )
    try:
        if shares_experts(team, job):
            pair = Pair(team, run, reporter, first_step)
            with pair.together():
                told = control if pair.is_first else SecondControl(run, pair, pair.reporter)
                context = open_context(run, job, device, pair.reporter, told, pair)
                finished = train_from(context, turns, saved)
        else:
            context = open_context(run, job, device, reporter, control, team)
            finished = train_from(context, turns, saved)
    except StopRequested:
        # While caching, or while waiting for room on the disk: what is saved is what was done.
        reporter.say(RunFinished(reason="stopped", step=max(run.checkpoint_steps(), default=0)))
        return
    except FirstHasEndedError:
        return
    reporter.say(
        RunFinished(reason="completed" if finished == turns.total_steps else "stopped", step=finished)
    )


def shares_experts(team: Team, job: JobSpec) -> bool:
    """Whether each process trains one expert.

    Raises:
        ExpertsShareError: the job wants that, but it cannot be.
    """
    if team.size == 1 or job.job.gpu_share != "experts":
        return False
    if team.size != 2:
        raise ExpertsShareError(f"there are {team.size} GPUs for two experts")
    if job.multistage.stages != "both":
        raise ExpertsShareError("the run trains one expert only")
    return True


def train_from(context: RunContext, turns: ExpertTurns, saved: TrainingState | None) -> int:
    """Train from a checkpoint, or from the start; returns the optimizer steps done."""
    with advised(context.run, context.job):
        parts = prepare(context, turns, saved)
        with parts.draws:
            if saved is not None:
                restore(parts, saved)
            else:
                start(parts)
            if context.pair is not None:
                return train_apart(parts, context.pair, parts.done_step, take_optimizer_step)
            return train(parts, parts.done_step)


def start(parts: Parts) -> None:
    """Before the first step: weights of an existing LoRA if one is named, and previews to compare with."""
    job = parts.context.job
    for expert in parts.turns.experts:
        path = job.target.start_high if expert is Expert.HIGH else job.target.start_low
        if path and expert in parts.experts.transformers:
            start_from(parts.experts.transformer(expert), read_lora_file(Path(path)).state)
            learner = parts.learners.get(expert)
            if learner is not None and learner.average is not None:
                learner.average.restart()
    if parts.context.everyone.is_first and job.sample.every and job.sample.at_start:
        preview(parts, 0)
    # Where each process has an expert, it measures that one.
    if parts.context.team.is_first and job.advanced.validation_every:
        validate(parts.context, parts.experts, tuple(parts.learners), 0)


def train(parts: Parts, first_step: int) -> int:
    """Take optimizer steps until all are done or a stop arrives; returns the steps done.

    Raises:
        MemoryRanOutError: the GPU's memory did not suffice; what was done before is saved.
    """
    control, team = parts.context.control, parts.context.team
    total = parts.turns.total_steps
    with (
        parts.context.reporter.phase(Phase.TRAINING, total, "steps") as report,
        kept_if_memory_runs_out(parts),
    ):
        report.progress(first_step)
        for step in range(first_step, total):
            parts.context.reporter.say(take_optimizer_step(parts, step))
            done = step + 1
            if done % STEPS_BETWEEN_COMPARISONS == 0:
                team.check_equal(parts.learners[parts.turns.expert_at(step)].parameters, done)
            control.look()
            control.take_over(team.share(control.wishes))
            if control.learning_rate is not None:
                change_learning_rate(parts, control.learning_rate)
                control.learning_rate = None
            last = done == total
            if is_anything_due(parts, done, last=last):
                if team.is_first:
                    look_after(parts, done, last=last)
                # The others wait here, and learn of a stop that came meanwhile.
                control.take_over(team.share(control.wishes))
            if control.stop:
                return done
    return total


def take_optimizer_step(parts: Parts, step: int) -> StepDone:
    """The whole of an optimizer step of the expert whose turn it is; returns what is to be said of it.

    Raises:
        MemoryRanOutError: the GPU's memory did not suffice.
    """
    job, team, turns = parts.context.job, parts.context.team, parts.turns
    watch = parts.context.meter.begin()
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
    cost = watch.stop()
    parts.pace.step_seconds.append(cost.seconds)
    if losses.work is not None:
        parts.context.meter.add(losses.work, cost, LEAST_STEPS)
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
        works=[work for losses in found for work in losses.works],
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
    work = measured_work("step", draw.items, expert, preserved=len(draw.preserved_BLD))
    return StepLosses(draw.timesteps, [plain_B.detach()], [preserved] if preserved else [], [work])


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


def is_anything_due(parts: Parts, done: int, *, last: bool) -> bool:
    """Whether there is anything to do after this step but to go on."""
    job, control = parts.context.job, parts.context.control
    times = (job.save.every, job.advanced.validation_every, job.sample.every)
    asked = control.save or control.stop or control.pause or control.preview
    return last or asked or any(is_due(done, every) for every in times)


def look_after(parts: Parts, done: int, *, last: bool) -> None:
    """Save, validate and preview when due, asked for or at the end; wait when asked to pause."""
    job, control = parts.context.job, parts.context.control
    saved = last or is_due(done, job.save.every) or control.save or control.stop or control.pause
    if saved:
        save(parts, done)
    if not control.stop:
        look_at_progress(parts, done, last=last)
    if control.stop and not saved:
        # The stop came while previews were made.
        save(parts, done)
    if control.pause:
        pause(parts, done)


@contextmanager
def kept_if_memory_runs_out(parts: Parts) -> Generator[None]:
    """Save the last step that was completed, if that is not done, when memory runs out in the next one.

    Raises:
        MemoryRanOutError: as it came.
    """
    try:
        yield
    except MemoryRanOutError as ran_out:
        # The failed step must leave nothing: neither half a gradient nor the tensors that filled the memory.
        ran_out.let_go()
        parts.served.release()
        for learner in parts.learners.values():
            drop_gradients(learner.parameters)
        release_memory()
        # An update that broke off has changed some weights and not others: that is no state to keep.
        is_whole = ran_out.work.doing is not Doing.UPDATE
        if is_whole and parts.context.team.is_first and parts.done_step > parts.saved_step:
            save(parts, parts.done_step)
        raise


def look_at_progress(parts: Parts, done: int, *, last: bool) -> None:
    """Validate and preview when due, asked for, or at the end."""
    job = parts.context.job
    if (last and job.advanced.validation_every) or is_due(done, job.advanced.validation_every):
        with averaged(parts):
            validate(parts.context, parts.experts, parts.turns.experts, done)
    if parts.context.control.preview or (last and job.sample.every) or is_due(done, job.sample.every):
        preview(parts, done)
