"""Before the first step: every prompt and every clip becomes tensors on disk, once.

What is cached already is left alone, so a stopped run goes on where it was, and a changed clip or
caption costs only itself. The text encoder and the VAE's encoder are needed here and nowhere later.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from numpy.typing import NDArray
from torch import Tensor

from trainer.data.batches import CLEAN, CONDITION, TEXT_ROWS, TrainingItem, entries_of
from trainer.data.clip_frames import check_source, cover_frame, read_frames, read_image
from trainer.data.pictures import degraded
from trainer.data.tensor_cache import cache_key
from trainer.errors import TrainerError
from trainer.model.load import load_text_encoder, load_vae
from trainer.model.text import TextEncoder, encode_prompts
from trainer.model.vae import encode_clip, encode_condition
from trainer.protocol.events import Phase, WorkMeasured
from trainer.protocol.job import JobSpec, SampleRow
from trainer.recipes.memory_advice import measured_work, work_on
from trainer.recipes.prompts import prompts_to_cache
from trainer.recipes.run_context import RunContext
from trainer.runtime.device import compute_dtype, release_memory
from trainer.runtime.disk_guard import wait_for_room
from trainer.runtime.out_of_memory import ClipSize, Doing, MemoryWork, watching_memory

PREVIEW_CONDITION_FORMAT = 1


class PreviewRowError(TrainerError):
    """A preview has no first frame to continue."""

    kind = "preview_row"

    def __init__(self, number: int, problem: str) -> None:
        super().__init__(
            f"Preview {number} cannot be made: {problem}.", "Choose another first frame for it, or remove it."
        )


def cache_prompts(context: RunContext) -> None:
    """Encode each distinct prompt of the captions and the previews that is not cached yet."""
    missing = [
        prompt for prompt in prompts_to_cache(context.job) if not context.cache.has(context.text_key(prompt))
    ]
    encode_all(
        context,
        missing,
        lambda prompt, rows_LD: store(context, context.text_key(prompt), {TEXT_ROWS: rows_LD.cpu()}),
    )


def encode_all(context: RunContext, prompts: list[str], keep: Callable[[str, Tensor], None]) -> None:
    """Encode prompts, and tell what that takes; the encoder is in memory only meanwhile.

    Args:
        context: The run.
        prompts: Without any, no encoder is loaded.
        keep: Given each prompt with its rows, (L, D).
    """
    with (
        context.reporter.phase(Phase.CACHING_TEXT, len(prompts), "prompts") as report,
        watching_memory(MemoryWork(Doing.CACHING_TEXT)),
    ):
        if not prompts:
            return
        # The first prompt's time has the encoder's loading in it.
        watch = context.meter.begin()
        encoder = open_text_encoder(context)
        for done, prompt in enumerate(prompts):
            context.control.raise_if_stopped()
            report.progress(done, prompt)
            (rows_LD,) = encode_prompts(encoder, [prompt])
            keep(prompt, rows_LD)
            context.meter.add(WorkMeasured(work="text"), watch.stop())
            watch = context.meter.begin()
        report.progress(len(prompts))
        context.meter.tell_news()
        del encoder
        release_memory()


def open_text_encoder(context: RunContext) -> TextEncoder:
    """The text encoder where the job wants it: on the GPU, stored in 8 bits there, or in RAM."""
    where = context.job.quantization.text_encoder
    device = torch.device("cpu") if where == "cpu" else context.device
    # What a CPU computes for a GPU is rounded as that would have it.
    dtype = compute_dtype(context.device)
    return load_text_encoder(context.base, dtype, device, float8=where == "float8")


def cache_latents(context: RunContext) -> None:
    """Encode each clip window at each size, and each preview's first frame, that is not cached yet."""
    job, cache = context.job, context.cache
    for clip in job.clips:
        check_source(clip)
    check_rows(job)
    missing = [
        item
        for item in latents_to_cache(job, context.vae_fingerprint)
        if not all(cache.has(key) for key in (item.latents_key, item.degraded_key) if key)
    ]
    rows = [row for row in job.sample.rows if not cache.has(preview_condition_key(context, row))]
    with context.reporter.phase(Phase.CACHING_LATENTS, len(missing) + len(rows), "clips") as report:
        if not missing and not rows:
            return
        with watching_memory(MemoryWork(Doing.LOADING)):
            vae = load_vae(context.base, context.device, context.vae_dtype)
        for done, item in enumerate(missing):
            context.control.raise_if_stopped()
            report.progress(done, Path(job.clips[item.clip_index].source).name)
            watch = context.meter.begin()
            with watching_memory(work_on(Doing.CACHING_LATENTS, [item])):
                cache_clip(context, vae, item)
            context.meter.add(measured_work("latents", [item]), watch.stop())
        context.meter.tell_news()
        for done, row in enumerate(rows, start=len(missing)):
            context.control.raise_if_stopped()
            report.progress(done, row.image or Path(job.clips[row.clip].source).name)
            size = ClipSize(row.size.width, row.size.height, row.num_frames)
            with watching_memory(MemoryWork(Doing.CACHING_LATENTS, size=size)):
                condition = encode_condition(vae, first_frame(job, row), row.num_frames)
            store(context, preview_condition_key(context, row), {CONDITION: condition.cpu()})
        report.progress(len(missing) + len(rows))
        del vae
        release_memory()


def check_rows(job: JobSpec) -> None:
    """See that every preview has a first frame before the first step, not when it is due.

    Raises:
        PreviewRowError: a row's image is not there, or its clip's number is beyond the job's clips.
    """
    for number, row in enumerate(job.sample.rows, start=1):
        if row.image and not Path(row.image).is_file():
            raise PreviewRowError(number, f"its control image {row.image} does not exist")
        if not row.image and row.clip >= len(job.clips):
            raise PreviewRowError(number, f"there is no clip {row.clip} among {len(job.clips)}")


def cache_clip(context: RunContext, vae: AutoencoderKLWan, item: TrainingItem) -> None:
    """Encode one window of a clip, and its condition once more with a degraded first frame where wanted."""
    clip, dataset = context.job.clips[item.clip_index], context.job.datasets[item.dataset_index]
    window, size = clip.windows[item.window_index], clip.sizes[item.size_index]
    frames = read_frames(Path(clip.source), window, size, clip.flip)
    if not context.cache.has(item.latents_key):
        latents = encode_clip(vae, frames)
        store(context, item.latents_key, {CLEAN: latents.x0_CTHW.cpu(), CONDITION: latents.y_CTHW.cpu()})
    if item.degraded_key and not context.cache.has(item.degraded_key):
        first = degraded(frames[0], dataset.condition_blur, dataset.condition_quality)
        store(context, item.degraded_key, {CONDITION: encode_condition(vae, first, len(window)).cpu()})


def store(context: RunContext, key: str, tensors: dict[str, Tensor]) -> None:
    """Keep tensors, and wait for room when the disk is full."""
    wait_for_room(
        lambda: context.cache.store(key, tensors),
        context.cache.folder,
        context.reporter,
        context.control,
    )


def latents_to_cache(job: JobSpec, vae_fingerprint: str) -> list[TrainingItem]:
    """Every window of every clip at every size, each once; a held-out clip only as it is measured."""
    items = [
        item
        for role in ("training", "regularization")
        for entry in entries_of(job, role, vae_fingerprint)
        for item in entry.windows
    ]
    items += [entry.windows[0] for entry in entries_of(job, "validation", vae_fingerprint)]
    return list({(item.latents_key, item.degraded_key): item for item in items}.values())


def first_frame(job: JobSpec, row: SampleRow) -> NDArray[np.uint8]:
    """The control image of a preview: its own picture, or the clip's first frame; (H, W, 3)."""
    if row.image:
        return cover_frame(read_image(Path(row.image)), row.size.width, row.size.height)
    clip = job.clips[row.clip]
    (frame,) = read_frames(Path(clip.source), clip.windows[0][:1], clip.sizes[0])
    return cover_frame(frame, row.size.width, row.size.height)


def preview_condition_key(context: RunContext, row: SampleRow) -> str:
    """Cache key of a preview's condition latents."""
    if row.image:
        stat = Path(row.image).stat()
        picture: dict[str, object] = {"image": row.image, "bytes": stat.st_size, "modified": stat.st_mtime_ns}
    else:
        clip = context.job.clips[row.clip]
        picture = {
            "source": clip.source,
            "bytes": clip.source_bytes,
            "modified": clip.source_modified_ns,
            "frame": clip.windows[0][0],
            "trained_size": msgspec.to_builtins(clip.sizes[0]),
        }
    return cache_key(
        "preview_condition",
        PREVIEW_CONDITION_FORMAT,
        size=msgspec.to_builtins(row.size),
        num_frames=row.num_frames,
        vae=context.vae_fingerprint,
        **picture,
    )
