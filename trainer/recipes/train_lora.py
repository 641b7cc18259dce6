"""Train both experts' LoRAs, from job to last checkpoint; read it from top to bottom.

1. open the base and the newest checkpoint, 2. cache prompts and clips, 3. load the experts and put
LoRAs on them, 4. step: one expert's turn at a time, each on timesteps of its own side of the
boundary, 5. save and preview when due or asked, 6. end.

Everything random is a function of the job's seed and the step, so a resumed run repeats what an
uninterrupted one would have done; on a CPU, to the bit.
"""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from trainer.data.batches import BatchPlan, items_of, load_batch
from trainer.model.experts import Experts
from trainer.model.load import load_expert
from trainer.model.lora import add_lora, load_lora_state, lora_parameters, lora_state
from trainer.model.text import pad_rows
from trainer.objective.flow_matching import add_noise, velocity_target
from trainer.objective.losses import item_losses
from trainer.objective.timesteps import expert_interval, sample_timesteps
from trainer.objective.turns import ExpertTurns
from trainer.output.checkpoint import (
    TrainingState,
    newest_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from trainer.output.lora_file import LoraFileSpec, write_lora_file
from trainer.output.lora_metadata import LoraMetadata
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
from trainer.recipes.cache_dataset import cache_latents, cache_prompts
from trainer.recipes.render_previews import render_previews
from trainer.recipes.run_context import RunContext, open_context
from trainer.runtime.control import Control, StopRequested
from trainer.runtime.device import (
    choose_device,
    compute_dtype,
    device_name,
    peak_reserved_bytes,
    release_memory,
)
from trainer.runtime.optim import make_optimizer, set_learning_rate, take_step
from trainer.runtime.pace import Pace
from trainer.runtime.reporter import Reporter
from trainer.runtime.seeding import derived_seed, generator_for
from trainer.runtime.version import TRAINER_VERSION


@dataclass(slots=True)
class Parts:
    """What trains, once everything is loaded."""

    context: RunContext
    experts: Experts
    turns: ExpertTurns
    batches: BatchPlan
    parameters: dict[Expert, list[Parameter]]
    optimizers: dict[Expert, Optimizer]
    learning_rate: float
    pace: Pace = field(default_factory=Pace)


def train_lora(run: RunFolder, job: JobSpec, reporter: Reporter, control: Control) -> None:
    """The whole run, new or resumed: from the newest whole checkpoint if there is one.

    Raises:
        TrainerError: the run cannot go on; its message says why and what to do.
    """
    device = choose_device(job.job.gpu)
    saved = newest_checkpoint(run, lambda damage: reporter.warn(damage.message, damage.hint))
    first_step = saved.step if saved else 0
    reporter.say(
        Hello(
            protocol_version=PROTOCOL_VERSION,
            trainer_version=TRAINER_VERSION,
            pid=os.getpid(),
            device=device_name(device),
            first_step=first_step,
            total_steps=job.training.steps,
        )
    )
    try:
        parts = prepare(open_context(run, job, device, reporter, control))
    except StopRequested:
        reporter.say(RunFinished(reason="stopped", step=first_step))
        return
    if saved is not None:
        restore(parts, saved)
    finished = train(parts, first_step)
    reporter.say(
        RunFinished(reason="completed" if finished == job.training.steps else "stopped", step=finished)
    )


def prepare(context: RunContext) -> Parts:
    """Cache the data, load the experts with a fresh LoRA and optimizer each."""
    job, base, device = context.job, context.base, context.device
    items = items_of(job, base.vae_fingerprint, base.text_fingerprint)
    cache_prompts(context)
    cache_latents(context, items)

    turns = ExpertTurns(job.multistage.stages, job.multistage.switch_every)
    dtype = compute_dtype(device)
    # A preview needs both experts, also when only one of them trains.
    needed = tuple(Expert) if job.sample.every and job.sample.rows else turns.experts
    transformers = {}
    with context.reporter.phase(Phase.LOADING, len(needed), "experts") as report:
        for done, expert in enumerate(needed):
            context.control.raise_if_stopped()
            report.progress(done, expert.value)
            transformers[expert] = load_expert(base, expert, dtype, device)
            if expert in turns.experts:
                alpha = job.target.alpha or float(job.target.rank)
                seed = derived_seed(job.training.seed, "lora", expert.value)
                add_lora(transformers[expert], job.target.rank, alpha, seed)
        report.progress(len(needed))
    parameters = {expert: lora_parameters(transformers[expert]) for expert in turns.experts}
    return Parts(
        context=context,
        experts=Experts(
            transformers,
            job.multistage.boundary or base.boundary_ratio,
            gradient_checkpointing=job.training.gradient_checkpointing,
        ),
        turns=turns,
        batches=BatchPlan(items, job.training.batch_size, job.training.seed),
        parameters=parameters,
        optimizers={
            expert: make_optimizer(of_expert, job.training.learning_rate, job.training.weight_decay)
            for expert, of_expert in parameters.items()
        },
        learning_rate=job.training.learning_rate,
    )


def restore(parts: Parts, saved: TrainingState) -> None:
    """Put a checkpoint's LoRAs, optimizers and learning rate in place."""
    for expert in parts.turns.experts:
        load_lora_state(parts.experts.transformer(expert), saved.loras[expert])
        parts.optimizers[expert].load_state_dict(saved.optimizers[expert])
    change_learning_rate(parts, saved.learning_rate)


def train(parts: Parts, first_step: int) -> int:
    """Take optimizer steps until all are done or a stop arrives; returns the steps done."""
    job, control = parts.context.job, parts.context.control
    total = job.training.steps
    with parts.context.reporter.phase(Phase.TRAINING, total, "steps") as report:
        report.progress(first_step)
        for step in range(first_step, total):
            began = time.perf_counter()
            expert = parts.turns.expert_at(step)
            loss, timesteps = accumulate_gradient(parts, expert, step)
            grad_norm = take_step(
                parts.optimizers[expert], parts.parameters[expert], job.training.max_grad_norm
            )
            done = step + 1
            parts.pace.step_seconds.append(time.perf_counter() - began)
            report_step(parts, done, expert, loss, timesteps, float(grad_norm))

            control.look()
            if control.learning_rate is not None:
                change_learning_rate(parts, control.learning_rate)
                control.learning_rate = None
            last = done == total
            if last or done % job.save.every == 0 or control.save or control.stop or control.pause:
                save(parts, done)
            if last or control.preview or (job.sample.every and done % job.sample.every == 0):
                preview(parts, done)
            if control.pause:
                pause(parts, done)
            if control.stop:
                return done
    return total


def accumulate_gradient(parts: Parts, expert: Expert, step: int) -> tuple[float, tuple[float, ...]]:
    """Forward and backward of one optimizer step's micro-batches; returns mean loss and all timesteps."""
    micro_batches = parts.context.job.training.gradient_accumulation
    losses: list[float] = []
    all_timesteps: list[float] = []
    for micro in range(micro_batches):
        loss, timesteps = backward_micro_batch(parts, expert, step, micro, share=1.0 / micro_batches)
        losses.append(loss)
        all_timesteps += timesteps
    return sum(losses) / len(losses), tuple(all_timesteps)


def backward_micro_batch(
    parts: Parts, expert: Expert, step: int, micro: int, share: float
) -> tuple[float, list[float]]:
    """One batch: noise it, predict, compare, and add `share` of the gradient; returns loss and timesteps."""
    training = parts.context.job.training
    index = parts.turns.steps_taken(expert, step) * training.gradient_accumulation + micro
    batch = load_batch(parts.batches.batch_at(expert.value, index), parts.context.cache)
    generator = generator_for(training.seed, "step", step, micro)
    interval = expert_interval(expert, parts.experts.boundary)
    timesteps_B = sample_timesteps(len(batch.items), interval, generator)
    clean_BCTHW = batch.clean_BCTHW.float()
    noise_BCTHW = torch.randn(clean_BCTHW.shape, generator=generator)

    predicted_BCTHW = parts.experts.predict(
        expert,
        add_noise(clean_BCTHW, noise_BCTHW, timesteps_B),
        batch.condition_BCTHW,
        timesteps_B,
        torch.stack([pad_rows(rows_LD) for rows_LD in batch.text_rows]),
    )
    target_BCTHW = velocity_target(clean_BCTHW, noise_BCTHW).to(predicted_BCTHW.device)
    loss = item_losses(predicted_BCTHW, target_BCTHW).mean()
    (loss * share).backward()
    return float(loss.detach()), timesteps_B.tolist()


def report_step(
    parts: Parts, done: int, expert: Expert, loss: float, timesteps: tuple[float, ...], grad_norm: float
) -> None:
    """Say what the step gave, and how long the rest takes."""
    job = parts.context.job
    left = job.training.steps - done
    previews_left = left // job.sample.every + 1 if job.sample.every else 0
    parts.context.reporter.say(
        StepDone(
            step=done,
            expert=expert,
            loss=loss,
            timesteps=timesteps,
            learning_rate=parts.learning_rate,
            grad_norm=grad_norm,
            seconds=parts.pace.step_seconds[-1],
            seconds_left=parts.pace.seconds_left(left, left // job.save.every + 1, previews_left),
            peak_vram_bytes=peak_reserved_bytes(parts.context.device),
        )
    )


def save(parts: Parts, step: int) -> None:
    """Write a checkpoint and prune old ones; a disk that refuses is a warning while training can go on."""
    began = time.monotonic()
    parts.context.control.save = False
    state = TrainingState(
        step=step,
        learning_rate=parts.learning_rate,
        loras={expert: lora_state(parts.experts.transformer(expert)) for expert in parts.turns.experts},
        optimizers={expert: optimizer.state_dict() for expert, optimizer in parts.optimizers.items()},
    )
    with parts.context.reporter.phase(Phase.SAVING):
        folder = save_checkpoint(parts.context.run, state, lambda folder: write_loras(parts, state, folder))
    path = folder.relative_to(parts.context.run.path).as_posix()
    parts.context.reporter.say(CheckpointSaved(step=step, path=path))
    for removed in prune_checkpoints(parts.context.run, parts.context.job.save.keep):
        parts.context.reporter.say(CheckpointRemoved(step=removed))
    parts.pace.save_seconds = time.monotonic() - began


def write_loras(parts: Parts, state: TrainingState, folder: Path) -> None:
    """Write each expert's LoRA as a file that other programs can use as it is."""
    job = parts.context.job
    rank, alpha = job.target.rank, job.target.alpha or float(job.target.rank)
    for expert, lora in state.loras.items():
        # Without a date, so that a resumed run ends with the very bytes of an uninterrupted one.
        metadata = LoraMetadata(
            name=job.job.name,
            expert=expert,
            boundary=parts.experts.boundary,
            rank=rank,
            alpha=alpha,
            steps=state.step,
            trigger=job.job.trigger,
            base_fingerprint=parts.context.base.fingerprint,
        )
        spec = LoraFileSpec(dtype=job.save.dtype, rank=rank, alpha=alpha, metadata=metadata)
        write_lora_file(folder / lora_file_name(expert), lora, spec)


def preview(parts: Parts, step: int) -> None:
    """Render the previews; their failure is a warning, training goes on."""
    parts.context.control.preview = False
    if not parts.context.job.sample.rows:
        return
    began = time.monotonic()
    render_previews(parts.context, parts.experts, step)
    parts.pace.preview_seconds = time.monotonic() - began


def pause(parts: Parts, step: int) -> None:
    """Wait, with the state saved and unused memory given back, until told to go on or to stop."""
    release_memory()
    parts.context.reporter.say(Paused(step=step, reason="Paused as asked; the state is saved."))
    parts.context.control.wait_while_paused()
    if not parts.context.control.stop:
        parts.context.reporter.say(Unpaused(step=step))


def change_learning_rate(parts: Parts, learning_rate: float) -> None:
    """Train on with another rate."""
    parts.learning_rate = learning_rate
    for optimizer in parts.optimizers.values():
        set_learning_rate(optimizer, learning_rate)
