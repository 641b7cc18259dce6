"""Previews: what the LoRA pair makes of a first frame and a prompt, as small videos."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.data.batches import CONDITION
from trainer.errors import TrainerError
from trainer.model.experts import Experts
from trainer.model.load import load_expert, load_vae, sampling_scheduler
from trainer.model.lora import add_lora, load_lora_state
from trainer.model.sampling import DenoiseRequest, OnStep, denoise
from trainer.model.vae import decode_latents
from trainer.output.lora_file import read_lora_file
from trainer.output.preview_files import write_preview
from trainer.protocol.events import Phase, PreviewSaved
from trainer.protocol.job import Expert, JobSpec, SampleRow
from trainer.protocol.run_folder import RunFolder, lora_file_name
from trainer.recipes.cache_dataset import cache_latents, cache_prompts, preview_condition_key
from trainer.recipes.export_lora import checkpoint_step
from trainer.recipes.run_context import RunContext, open_context
from trainer.runtime.control import Control
from trainer.runtime.device import choose_device, compute_dtype, release_memory
from trainer.runtime.reporter import Reporter

PREVIEW_FRAMES_PER_SECOND = 16


def render_previews(context: RunContext, experts: Experts, step: int) -> list[Path]:
    """Render every row; a row that fails is a warning, and the others follow.

    Returns:
        The videos made.
    """
    rows, steps = context.job.sample.rows, context.job.sample.steps
    videos: list[Path] = []
    with context.reporter.phase(Phase.PREVIEWING, len(rows) * steps, "denoising steps") as report:
        for number, row in enumerate(rows):

            def on_step(done: int, _: int, number: int = number, row: SampleRow = row) -> None:
                report.progress(number * steps + done, row.prompt)

            try:
                frames = render_row(context, experts, row, on_step)
                folder, settings = context.run.previews(step), settings_of(context.job, row, step)
                files = write_preview(folder, number, frames, PREVIEW_FRAMES_PER_SECOND, settings)
            except (TrainerError, torch.cuda.OutOfMemoryError, OSError) as error:
                context.reporter.warn(
                    f"The preview of row {number + 1} could not be made: {error}",
                    "Training goes on; previews can be made later from the checkpoint.",
                )
                release_memory()
                continue
            videos.append(files.video)
            context.reporter.say(
                PreviewSaved(
                    step=step,
                    row=number,
                    video=files.video.relative_to(context.run.path).as_posix(),
                    poster=files.poster.relative_to(context.run.path).as_posix(),
                    prompt=row.prompt,
                )
            )
    release_memory()
    return videos


def render_row(context: RunContext, experts: Experts, row: SampleRow, on_step: OnStep) -> NDArray[np.uint8]:
    """Denoise and decode one row; uint8 (F, H, W, 3)."""
    sample = context.job.sample
    condition = context.cache.load(preview_condition_key(context, row))[CONDITION]
    latents_CTHW = denoise(
        experts,
        sampling_scheduler(context.base, sample.shift),
        DenoiseRequest(
            condition_CTHW=condition,
            prompt_LD=context.text_rows(row.prompt),
            negative_LD=context.text_rows(sample.negative_prompt),
            steps=sample.steps,
            guidance_high=sample.guidance_high,
            guidance_low=sample.guidance_low,
            seed=row.seed,
        ),
        on_step,
    )
    vae = load_vae(context.base, context.device)
    try:
        return decode_latents(vae, latents_CTHW)
    finally:
        del vae


def render_checkpoint(run: RunFolder, step: int | None) -> list[Path]:
    """Render the previews of a checkpoint of a run that is not training.

    Raises:
        TrainerError: no such checkpoint, or the base cannot be loaded.
        WireError: there is no run here.
    """
    job = run.read_job()
    step = checkpoint_step(run, step)
    device = choose_device(job.job.gpu)
    with run.hold_lock(), Reporter(run) as reporter:
        context = open_context(run, job, device, reporter, Control(run, reporter))
        cache_prompts(context)
        cache_latents(context, [])
        transformers = {}
        for expert in Expert:
            transformers[expert] = load_expert(context.base, expert, compute_dtype(device), device)
            path = run.checkpoint(step) / lora_file_name(expert)
            if path.exists():
                # Alpha is folded into the file's weights, so the scale here is one.
                lora = read_lora_file(path).state
                rank = next(tensor.shape[0] for name, tensor in lora.items() if ".lora_A." in name)
                add_lora(transformers[expert], rank, float(rank), seed=0)
                load_lora_state(transformers[expert], lora)
        experts = Experts(transformers, job.multistage.boundary or context.base.boundary_ratio)
        return render_previews(context, experts, step)


def settings_of(job: JobSpec, row: SampleRow, step: int) -> dict[str, object]:
    """What a preview was made with, for ``previews.json``."""
    sample = job.sample
    return {
        "step": step,
        "prompt": row.prompt,
        "negative_prompt": sample.negative_prompt,
        "image": row.image or job.clips[row.clip].source,
        "width": row.size.width,
        "height": row.size.height,
        "num_frames": row.num_frames,
        "seed": row.seed,
        "steps": sample.steps,
        "guidance_high": sample.guidance_high,
        "guidance_low": sample.guidance_low,
        "shift": sample.shift,
    }
