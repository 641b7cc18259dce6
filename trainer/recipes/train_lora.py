"""Train both experts' LoRAs, from job to last checkpoint; read it from top to bottom.

1. open the base and the newest checkpoint, 2. cache prompts and clips, 3. load the experts and put
LoRAs on them, 4. step: one expert's turn at a time, each on timesteps of its own side of the
boundary, 5. save, validate and preview when due or asked, 6. end.

Everything random is a function of the job's seed and the step, so a resumed run repeats what an
uninterrupted one would have done; on a CPU, to the bit.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainer.data.batches import Batch, load_batch
from trainer.model.lora import lora_disabled, lora_dropout, lora_settings, lora_state, lora_strength
from trainer.model.lora_weights import lora_file_state, start_from
from trainer.model.text import pad_rows
from trainer.objective.flow_matching import add_noise, velocity_target
from trainer.objective.guidance import differential_guidance_target
from trainer.objective.losses import item_losses
from trainer.objective.timesteps import STRATA, sample_timesteps
from trainer.output.checkpoint import TrainingState, newest_checkpoint, prune_checkpoints, save_checkpoint
from trainer.output.lora_file import LoraFileSpec, read_lora_file, write_lora_file
from trainer.protocol.events import (
    CheckpointRemoved,
    CheckpointSaved,
    Hello,
    Paused,
    Phase,
    RunFinished,
    StepDone,
    Unpaused,
)
from trainer.protocol.job import PROTOCOL_VERSION, Expert, JobSpec
from trainer.protocol.run_folder import RunFolder, lora_file_name
from trainer.recipes.describe_lora import lora_metadata
from trainer.recipes.parts import (
    Parts,
    averaged,
    change_learning_rate,
    prepare,
    restore,
    turns_of,
)
from trainer.recipes.prompts import preservation_prompts, training_prompt
from trainer.recipes.render_previews import render_previews
from trainer.recipes.run_context import open_context
from trainer.recipes.validate import validate
from trainer.runtime.control import Control, StopRequested
from trainer.runtime.device import choose_device, device_name, peak_reserved_bytes, release_memory
from trainer.runtime.disk_guard import wait_for_room
from trainer.runtime.optim import set_learning_rate, take_step
from trainer.runtime.reporter import Reporter
from trainer.runtime.seeding import derived_seed, generator_for
from trainer.runtime.version import TRAINER_VERSION


@dataclass(frozen=True, slots=True)
class StepLosses:
    """What a step's samples cost: plain losses by sample, and the mean preservation loss if there was one."""

    timesteps: list[float]
    plain: list[float]
    preservation: float | None


def train_lora(run: RunFolder, job: JobSpec, reporter: Reporter, control: Control) -> None:
    """The whole run, new or resumed: from the newest whole checkpoint if there is one.

    Raises:
        TrainerError: the run cannot go on; its message says why and what to do.
    """
    device = choose_device(job.job.gpu)
    turns = turns_of(job)
    saved = newest_checkpoint(run, lambda damage: reporter.warn(damage.message, damage.hint))
    first_step = saved.step if saved else 0
    reporter.say(
        Hello(
            protocol_version=PROTOCOL_VERSION,
            trainer_version=TRAINER_VERSION,
            pid=os.getpid(),
            device=device_name(device),
            first_step=first_step,
            total_steps=turns.total_steps,
        )
    )
    try:
        parts = prepare(open_context(run, job, device, reporter, control), turns)
        if saved is not None:
            restore(parts, saved)
        else:
            start(parts)
        finished = train(parts, first_step)
    except StopRequested:
        # While caching, or while waiting for room on the disk: what is saved is what was done.
        reporter.say(RunFinished(reason="stopped", step=max(run.checkpoint_steps(), default=0)))
        return
    reporter.say(
        RunFinished(reason="completed" if finished == turns.total_steps else "stopped", step=finished)
    )


def start(parts: Parts) -> None:
    """Before the first step: weights of an existing LoRA if one is named, and previews to compare with."""
    job = parts.context.job
    for expert in parts.turns.experts:
        path = job.target.start_high if expert is Expert.HIGH else job.target.start_low
        if path:
            start_from(parts.experts.transformer(expert), read_lora_file(Path(path)).state)
            average = parts.learners[expert].average
            if average is not None:
                average.restart()
    if job.sample.every and job.sample.at_start:
        preview(parts, 0)
    if job.advanced.validation_every:
        validate(parts.context, parts.experts, parts.turns.experts, 0)


def train(parts: Parts, first_step: int) -> int:
    """Take optimizer steps until all are done or a stop arrives; returns the steps done."""
    job, control = parts.context.job, parts.context.control
    total = parts.turns.total_steps
    with parts.context.reporter.phase(Phase.TRAINING, total, "steps") as report:
        report.progress(first_step)
        for step in range(first_step, total):
            began = time.perf_counter()
            expert = parts.turns.expert_at(step)
            learner = parts.learners[expert]
            rate = learner.learning_rate * learner.schedule.factor(parts.turns.steps_taken(expert, step))
            set_learning_rate(learner.optimizer, rate)
            losses = accumulate_gradient(parts, expert, step)
            grad_norm = take_step(learner.optimizer, learner.parameters, job.training.max_grad_norm)
            if learner.average is not None:
                learner.average.update()
            done = step + 1
            parts.pace.step_seconds.append(time.perf_counter() - began)
            report_step(parts, done, losses, rate, float(grad_norm))

            control.look()
            if control.learning_rate is not None:
                change_learning_rate(parts, control.learning_rate)
                control.learning_rate = None
            last = done == total
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
            if control.stop:
                return done
    return total


def look_at_progress(parts: Parts, done: int, *, last: bool) -> None:
    """Validate and preview when due, asked for, or at the end."""
    job = parts.context.job
    if (last and job.advanced.validation_every) or is_due(done, job.advanced.validation_every):
        with averaged(parts):
            validate(parts.context, parts.experts, parts.turns.experts, done)
    if parts.context.control.preview or (last and job.sample.every) or is_due(done, job.sample.every):
        preview(parts, done)


def is_due(step: int, every: int) -> bool:
    """Whether something that happens every so many steps, 0 for never, happens after this one."""
    return every > 0 and step % every == 0


def accumulate_gradient(parts: Parts, expert: Expert, step: int) -> StepLosses:
    """Forward and backward of one optimizer step's micro-batches."""
    micro_batches = parts.context.job.training.gradient_accumulation
    found = [
        backward_micro_batch(parts, expert, step, micro, share=1.0 / micro_batches)
        for micro in range(micro_batches)
    ]
    preserved = [losses.preservation for losses in found if losses.preservation is not None]
    return StepLosses(
        timesteps=[t for losses in found for t in losses.timesteps],
        plain=[loss for losses in found for loss in losses.plain],
        preservation=sum(preserved) / len(preserved) if preserved else None,
    )


def backward_micro_batch(parts: Parts, expert: Expert, step: int, micro: int, share: float) -> StepLosses:
    """One batch: noise it, predict, compare, and add `share` of the gradient."""
    job, training, learner = parts.context.job, parts.context.job.training, parts.learners[expert]
    index = parts.turns.steps_taken(expert, step) * training.gradient_accumulation + micro
    items = parts.batches.batch_at(expert.value, index)
    datasets = [job.datasets[item.dataset_index] for item in items]
    altered = [
        derived_seed(training.seed, "condition", step, micro, place) / 2**63 < dataset.condition_share
        for place, dataset in enumerate(datasets)
    ]
    batch = load_batch(items, parts.context.cache, altered)
    generator = generator_for(training.seed, "step", step, micro)
    strata = (
        strata_of(training.seed, expert, index, len(batch.items)) if training.stratified_timesteps else None
    )
    timesteps_B = sample_timesteps(len(batch.items), learner.interval, generator, learner.timesteps, strata)
    noise_BCTHW = torch.randn(batch.clean_BCTHW.shape, generator=generator)
    noisy_BCTHW = add_noise(batch.clean_BCTHW, noise_BCTHW, timesteps_B)
    noise_levels = [dataset.condition_noise * alter for dataset, alter in zip(datasets, altered, strict=True)]
    condition_BCTHW = augmented_condition(batch, noise_levels, generator)
    captions = [training_prompt(job, item, (step, micro, n)) for n, item in enumerate(batch.items)]

    def predict(prompts: list[str]) -> Tensor:
        text_BLD = torch.stack([pad_rows(parts.context.text_rows(prompt)) for prompt in prompts])
        return parts.experts.predict(expert, noisy_BCTHW, condition_BCTHW, timesteps_B, text_BLD)

    # One data set's strength stands for the batch: the plan never mixes them. The backward passes are
    # inside, for checkpointing computes the forward pass again.
    transformer = parts.experts.transformer(expert)
    dropout_seed = derived_seed(training.seed, "dropout", step, micro)
    with lora_strength(transformer, datasets[0].lora_strength), lora_dropout(transformer, dropout_seed):
        predicted_BCTHW = predict(captions)
        target_BCTHW = velocity_target(batch.clean_BCTHW, noise_BCTHW).to(predicted_BCTHW.device)
        plain_B = item_losses(predicted_BCTHW, target_BCTHW, training.loss, training.huber_delta)
        losses_B = plain_B
        if job.advanced.differential_guidance:
            pushed = differential_guidance_target(
                predicted_BCTHW, target_BCTHW, job.advanced.differential_guidance_scale
            )
            losses_B = item_losses(predicted_BCTHW, pushed, training.loss, training.huber_delta)
        weight_B = torch.tensor([dataset.loss_weight for dataset in datasets]).to(losses_B)
        ((losses_B * weight_B).mean() * share).backward()
        del predicted_BCTHW, target_BCTHW, losses_B
        preservation = backward_preservation(parts, expert, batch, predict, share)
    return StepLosses(timesteps_B.tolist(), plain_B.detach().tolist(), preservation)


def backward_preservation(
    parts: Parts, expert: Expert, batch: Batch, predict: Callable[[list[str]], Tensor], share: float
) -> float | None:
    """Hold the LoRA's output to the base's for prompts that it should not change, at the same noise.

    A backward pass of its own, after the main one has freed its graph: the gradients add up to those of
    the joint loss, and the peak of memory is that of one pass.

    Returns:
        The mean loss before its multiplier; None when there is nothing to preserve.
    """
    job = parts.context.job
    if any(job.datasets[item.dataset_index].role != "training" for item in batch.items):
        return None
    kept = [
        preservation_prompts(job, job.datasets[item.dataset_index], job.clips[item.clip_index].caption)
        for item in batch.items
    ]
    if not all(kept):
        return None
    values: list[float] = []
    for prompts in zip(*kept, strict=True):
        with torch.no_grad(), lora_disabled(parts.experts.transformer(expert)):
            before_BCTHW = predict(list(prompts))
        loss = item_losses(predict(list(prompts)), before_BCTHW).mean()
        (loss * job.training.preservation_multiplier * share).backward()
        values.append(float(loss.detach()))
    return sum(values) / len(values)


def strata_of(seed: int, expert: Expert, batch_index: int, batch_size: int) -> Tensor:
    """For each sample of a batch the part of the distribution that is its turn; long (batch_size,)."""
    strata: list[int] = []
    for draw in range(batch_index * batch_size, (batch_index + 1) * batch_size):
        turn, place = divmod(draw, STRATA)
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


def report_step(parts: Parts, done: int, losses: StepLosses, learning_rate: float, grad_norm: float) -> None:
    """Say what the step gave, and how long the rest takes."""
    job = parts.context.job
    left = parts.turns.total_steps - done
    previews_left = left // job.sample.every + 1 if job.sample.every else 0
    parts.context.reporter.say(
        StepDone(
            step=done,
            expert=parts.turns.expert_at(done - 1),
            loss=sum(losses.plain) / len(losses.plain),
            timesteps=tuple(losses.timesteps),
            item_losses=tuple(losses.plain),
            preservation_loss=losses.preservation,
            learning_rate=learning_rate,
            grad_norm=grad_norm,
            seconds=parts.pace.step_seconds[-1],
            seconds_left=parts.pace.seconds_left(left, left // job.save.every + 1, previews_left),
            peak_vram_bytes=peak_reserved_bytes(parts.context.device),
        )
    )


def save(parts: Parts, step: int) -> None:
    """Write a checkpoint and prune old ones."""
    began = time.monotonic()
    context = parts.context
    context.control.save = False
    state = TrainingState(
        step=step,
        learning_rate=parts.changed_learning_rate,
        loras={expert: lora_state(parts.experts.transformer(expert)) for expert in parts.learners},
        optimizers={expert: learner.optimizer.state_dict() for expert, learner in parts.learners.items()},
        averages={
            expert: learner.average.state()
            for expert, learner in parts.learners.items()
            if learner.average is not None
        },
    )
    with context.reporter.phase(Phase.SAVING), averaged(parts):
        folder = wait_for_room(
            lambda: save_checkpoint(context.run, state, lambda folder: write_loras(parts, step, folder)),
            context.run.path,
            context.reporter,
            context.control,
            step=step,
            needed_bytes=state.expected_bytes,
        )
    path = folder.relative_to(context.run.path).as_posix()
    context.reporter.say(CheckpointSaved(step=step, path=path))
    for removed in prune_checkpoints(context.run, context.job.save.keep):
        context.reporter.say(CheckpointRemoved(step=removed))
    parts.pace.save_seconds = time.monotonic() - began


def write_loras(parts: Parts, step: int, folder: Path) -> None:
    """Write each expert's LoRA, its average where there is one, as a file that other programs can use."""
    job = parts.context.job
    for expert in parts.learners:
        settings = lora_settings(job, expert)
        # Without a date, so that a resumed run ends with the very bytes of an uninterrupted one.
        metadata = lora_metadata(
            job,
            base_fingerprint=parts.context.base.fingerprint,
            boundary=parts.experts.boundary,
            expert=expert,
            steps_total=step,
            steps_of_expert=parts.turns.steps_taken(expert, step),
        )
        spec = LoraFileSpec(
            dtype=job.save.dtype, rank=settings.rank, alpha=settings.trained_alpha, metadata=metadata
        )
        transformer = parts.experts.transformer(expert)
        state = lora_file_state(transformer, lora_state(transformer))
        write_lora_file(folder / lora_file_name(expert), state, spec)


def preview(parts: Parts, step: int) -> None:
    """Render the previews; their failure is a warning, training goes on."""
    parts.context.control.preview = False
    if not parts.context.job.sample.rows:
        return
    began = time.monotonic()
    with averaged(parts):
        render_previews(parts.context, parts.experts, step)
    parts.pace.preview_seconds = time.monotonic() - began


def pause(parts: Parts, step: int) -> None:
    """Wait, with the state saved and unused memory given back, until told to go on or to stop."""
    context = parts.context
    release_memory()
    context.reporter.say(Paused(step=step, reason="Paused as asked; the state is saved."))
    context.control.wait_while_paused()
    if not context.control.stop:
        context.reporter.say(Unpaused(step=step))
