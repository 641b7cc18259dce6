"""Rehearse a run: all that needs memory or time, once, at the largest sizes of the job; read it from top to bottom.

1. encode a prompt, 2. encode a clip, 3. load the experts as the job says, 4. steps of each expert that
trains, 5. a denoising step of the largest preview, and its decoding.

In this order, as in a run, for memory is given back in between. Nothing is cached but the quantized base and
nothing is saved: latents and text are made up, weights are thrown away. What each thing took is told by the
events that a run tells it by.
"""

import os
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import torch
from torch import Tensor

from trainer.data.batches import TrainingItem
from trainer.model.layouts import expert_config
from trainer.model.load import load_vae
from trainer.model.random_base import random_base
from trainer.model.vae import encode_clip
from trainer.objective.turns import ExpertTurns, TurnSettings
from trainer.protocol.events import Hello, Phase, RunFinished
from trainer.protocol.job import PROTOCOL_VERSION, Expert, JobSpec, SampleRow
from trainer.protocol.run_folder import RunFolder
from trainer.recipes.cache_dataset import check_rows, encode_all
from trainer.recipes.made_up_data import MadeUpCache, largest_batches, with_made_up_data
from trainer.recipes.memory_advice import advised, measured_work, work_on
from trainer.recipes.parts import Data, Parts, averaged, batches_of, put_together
from trainer.recipes.prompts import prompts_to_cache
from trainer.recipes.render_previews import go_on_without, render_row, row_settings
from trainer.recipes.run_context import RunContext, open_context
from trainer.recipes.train_lora import take_optimizer_step
from trainer.runtime.control import Control, StopRequested
from trainer.runtime.device import check_served, choose_device, device_name, emulate_card, release_memory
from trainer.runtime.out_of_memory import ClipSize, Doing, MemoryRanOutError, MemoryWork, watching_memory
from trainer.runtime.reporter import Reporter
from trainer.runtime.version import TRAINER_VERSION
from trainer.runtime.work_meter import WorkMeter


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """How a job is rehearsed.

    Attributes:
        steps: Of each expert, timed, after one that is not.
        cap_gib: Size of the card to emulate; 0 is none.
        random: Take random weights of the real model's shapes instead of the base's.
    """

    steps: int = 2
    cap_gib: float = 0.0
    random: bool = False


def rehearse(run: RunFolder, job: JobSpec, reporter: Reporter, control: Control, how: Rehearsal) -> None:
    """The whole rehearsal; a stop ends it between its parts.

    Raises:
        TrainerError: the run could not go through; its message says why and what to do.
    """
    device = choose_device(job.job.gpu)
    job, turns = shortened(job), turns_of_rehearsal(job, how.steps)
    reporter.say(
        Hello(
            protocol_version=PROTOCOL_VERSION,
            trainer_version=TRAINER_VERSION,
            pid=os.getpid(),
            device=device_name(device),
            total_steps=turns.total_steps,
        )
    )

    emulate_card(device, how.cap_gib)
    try:
        with advised(run, job, has_begun=False):
            opened = random_context if how.random else open_context
            perform(opened(run, job, device, reporter, control), turns)
    except StopRequested:
        reporter.say(RunFinished(reason="stopped", step=0))
        return
    finally:
        emulate_card(device, 0.0)
    reporter.say(RunFinished(reason="completed", step=0))


def shortened(job: JobSpec) -> JobSpec:
    """The job as it is rehearsed: a batch a step, which needs the memory of many and tells their time."""
    training = msgspec.structs.replace(job.training, gradient_accumulation=1)
    job = msgspec.structs.replace(job, training=training)
    if job.job.more_gpus and job.job.gpu_share == "experts":
        # Each GPU has one expert's blocks.
        model = msgspec.structs.replace(job.model, low_vram=True)
        job = msgspec.structs.replace(job, model=model)
    return job


def turns_of_rehearsal(job: JobSpec, steps: int) -> ExpertTurns:
    """Each expert that trains has one turn, of one step more than are timed."""
    stages = job.multistage.stages
    turn = 1 + steps
    settings = TurnSettings(stages=stages, switch_every=turn)
    return ExpertTurns(settings, turn * (2 if stages == "both" else 1))


def random_context(
    run: RunFolder, job: JobSpec, device: torch.device, reporter: Reporter, control: Control
) -> RunContext:
    """The job with a base of random weights."""
    base = random_base(device)
    config = expert_config(base, Expert.HIGH)
    check_served(device, config["num_attention_heads"] * config["attention_head_dim"])
    return RunContext(
        run=run,
        job=job,
        base=base,
        cache=MadeUpCache({}, 0, torch.float32),
        device=device,
        reporter=reporter,
        control=control,
        meter=WorkMeter(device, reporter.say),
    )


def perform(context: RunContext, turns: ExpertTurns) -> None:
    """Do everything once.

    Raises:
        MemoryRanOutError: the GPU's memory did not suffice.
        StopRequested: meanwhile.
    """
    check_rows(context.job)
    context = with_made_up_data(context)
    largest = largest_batches(context)
    rehearse_text(context)
    rehearse_latents(context, largest.item)
    parts = put_together(context, turns, Data(batches_of(context), largest.batches, micro_batches=1))
    with parts.draws:
        rehearse_steps(parts)
        rehearse_preview(parts)


def rehearse_text(context: RunContext) -> None:
    """Encode the longest prompt, twice: the first time has the encoder's loading in it."""
    longest = max(prompts_to_cache(context.job), key=len)
    encode_all(context, [longest, longest], _drop)


def rehearse_latents(context: RunContext, item: TrainingItem) -> None:
    """Encode a clip of noise and its condition."""
    bucket = item.bucket
    shape = (bucket.frames, bucket.height, bucket.width, 3)
    frames_FHWC = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with context.reporter.phase(Phase.CACHING_LATENTS, 1, "clips") as report:
        with watching_memory(MemoryWork(Doing.LOADING)):
            vae = load_vae(context.base, context.device, context.vae_dtype)
        context.control.raise_if_stopped()
        report.progress(0, f"{bucket.width} x {bucket.height}, {bucket.frames} frames")
        watch = context.meter.begin()
        with watching_memory(work_on(Doing.CACHING_LATENTS, [item])):
            encode_clip(vae, frames_FHWC)
        context.meter.add(measured_work("latents", [item]), watch.stop())
        context.meter.tell_news()
        report.progress(1)
        del vae
        release_memory()


def rehearse_steps(parts: Parts) -> None:
    """Take the steps; what those took that came through is told even if memory runs out in another."""
    context, turns = parts.context, parts.turns
    try:
        with context.reporter.phase(Phase.REHEARSING, turns.total_steps, "steps") as report:
            for step in range(turns.total_steps):
                context.control.raise_if_stopped()
                report.progress(step, f"{turns.expert_at(step).value.replace('_', '-')} expert")
                take_optimizer_step(parts, step)
            report.progress(turns.total_steps)
    finally:
        context.meter.tell_news(even_few=True)


def rehearse_preview(parts: Parts) -> None:
    """One denoising step of the largest preview, and its decoding; as in a run, its failure is a warning."""
    context, sample = parts.context, parts.context.job.sample
    if not sample.rows:
        return
    number, row = max(enumerate(sample.rows), key=lambda one: _size(one[1]).tokens)
    settings = replace(row_settings(sample, row, 0), steps=1)
    with context.reporter.phase(Phase.PREVIEWING, 1, "denoising steps") as report, averaged(parts):

        def on_step(done: int, total: int) -> None:
            del total
            context.control.raise_if_stopped()
            report.progress(done, row.prompt)

        report.progress(0, row.prompt)
        try:
            with watching_memory(MemoryWork(Doing.PREVIEWING, size=_size(row))):
                render_row(context, parts.experts, row, settings, on_step)
        except MemoryRanOutError as ran_out:
            go_on_without(context, number, ran_out)


def _size(row: SampleRow) -> ClipSize:
    return ClipSize(row.size.width, row.size.height, row.num_frames)


def _drop(prompt: str, rows_LD: Tensor) -> None:
    del prompt, rows_LD
