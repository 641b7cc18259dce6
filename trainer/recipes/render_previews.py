"""Previews: what the LoRA pair makes of a first frame and a prompt, as small videos."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.data.batches import CONDITION
from trainer.data.tensor_cache import TensorCache
from trainer.errors import TrainerError
from trainer.model.experts import Experts
from trainer.model.layouts import BaseModel, open_base
from trainer.model.load import load_expert, load_vae, sampling_scheduler
from trainer.model.lora import add_lora, load_lora_state
from trainer.model.sampling import DenoiseRequest, OnStep, denoise
from trainer.model.vae import decode_latents
from trainer.output.lora_file import read_lora_file
from trainer.output.preview_files import write_preview
from trainer.protocol.events import Phase, PreviewSaved
from trainer.protocol.job import Expert, JobSpec, SampleRow
from trainer.protocol.run_folder import RunFolder, lora_file_name
from trainer.recipes.cache_dataset import cache_latents, cache_prompts, load_text, preview_condition_key
from trainer.recipes.export_lora import checkpoint_step
from trainer.runtime.control import Control
from trainer.runtime.device import choose_device, compute_dtype, release_memory
from trainer.runtime.reporter import Reporter

PREVIEW_FRAMES_PER_SECOND = 16


@dataclass(frozen=True, slots=True)
class PreviewParts:
    """What previews are rendered with."""

    run: RunFolder
    job: JobSpec
    base: BaseModel
    cache: TensorCache
    device: torch.device
    experts: Experts
    reporter: Reporter


def render_previews(parts: PreviewParts, step: int) -> list[Path]:
    """Render every row; a row that fails is a warning, and the others follow.

    Returns:
        The videos made.
    """
    rows = parts.job.sample.rows
    videos: list[Path] = []
    with parts.reporter.phase(
        Phase.PREVIEWING, len(rows) * parts.job.sample.steps, "denoising steps"
    ) as report:
        for number, row in enumerate(rows):
            before = number * parts.job.sample.steps
            try:
                frames = render_row(parts, row, lambda done, _: report.progress(before + done, row.prompt))  # noqa: B023
                files = write_preview(
                    parts.run.previews(step),
                    number,
                    frames,
                    PREVIEW_FRAMES_PER_SECOND,
                    settings_of(parts.job, row, step),
                )
            except (TrainerError, torch.cuda.OutOfMemoryError, OSError) as error:
                parts.reporter.warn(
                    f"The preview of row {number + 1} could not be made: {error}",
                    "Training goes on; previews can be made later from the checkpoint.",
                )
                release_memory()
                continue
            videos.append(files.video)
            parts.reporter.say(
                PreviewSaved(
                    step=step,
                    row=number,
                    video=files.video.relative_to(parts.run.path).as_posix(),
                    poster=files.poster.relative_to(parts.run.path).as_posix(),
                    prompt=row.prompt,
                )
            )
    release_memory()
    return videos


def render_row(parts: PreviewParts, row: SampleRow, on_step: OnStep) -> NDArray[np.uint8]:
    """Denoise and decode one row; uint8 (F, H, W, 3)."""
    sample = parts.job.sample
    condition = parts.cache.load(preview_condition_key(parts.job, row, parts.base))[CONDITION]
    latents_CTHW = denoise(
        parts.experts,
        sampling_scheduler(parts.base, sample.shift),
        DenoiseRequest(
            condition_CTHW=condition,
            prompt_LD=load_text(parts.cache, row.prompt, parts.base),
            negative_LD=load_text(parts.cache, sample.negative_prompt, parts.base),
            steps=sample.steps,
            guidance_high=sample.guidance_high,
            guidance_low=sample.guidance_low,
            seed=row.seed,
        ),
        on_step,
    )
    vae = load_vae(parts.base, parts.device)
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
    base = open_base(job.model.base)
    cache = TensorCache(Path(job.cache_folder))
    with run.hold_lock(), Reporter(run) as reporter:
        control = Control(run, reporter)
        cache_prompts(job, base, cache, device, reporter, control)
        cache_latents(job, [], base, cache, device, reporter, control)
        transformers = {}
        for expert in Expert:
            transformers[expert] = load_expert(base, expert, compute_dtype(device), device)
            path = run.checkpoint(step) / lora_file_name(expert)
            if path.exists():
                # Alpha is folded into the file's weights, so the scale here is one.
                lora = read_lora_file(path).state
                rank = next(iter(lora.values())).shape[0]
                add_lora(transformers[expert], rank, float(rank), seed=0)
                load_lora_state(transformers[expert], lora)
        experts = Experts(transformers, job.multistage.boundary or base.boundary_ratio)
        parts = PreviewParts(run, job, base, cache, device, experts, reporter)
        return render_previews(parts, step)


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
