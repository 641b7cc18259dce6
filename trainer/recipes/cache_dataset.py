"""Before the first step: every prompt and every clip becomes tensors on disk, once.

What is cached already is left alone, so a stopped run goes on where it was, and a changed clip or
caption costs only itself. The text encoder and the VAE's encoder are needed here and nowhere later.
"""

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from trainer.data.batches import CLEAN, CONDITION, TEXT_ROWS, TrainingItem
from trainer.data.cache_keys import text_key
from trainer.data.clip_frames import check_source, cover_frame, read_frames, read_image
from trainer.data.tensor_cache import cache_key
from trainer.model.load import load_text_encoder, load_vae
from trainer.model.text import encode_prompts
from trainer.model.vae import encode_clip, encode_condition
from trainer.protocol.events import Phase
from trainer.protocol.job import JobSpec, SampleRow
from trainer.recipes.run_context import RunContext
from trainer.runtime.device import compute_dtype, release_memory

PREVIEW_CONDITION_FORMAT = 1


def cache_prompts(context: RunContext) -> None:
    """Encode each distinct prompt of the captions and the previews that is not cached yet."""
    job, base, cache = context.job, context.base, context.cache
    prompts = [clip.caption for clip in job.clips]
    prompts += [row.prompt for row in job.sample.rows] + [job.sample.negative_prompt] * bool(job.sample.rows)
    missing = [
        prompt for prompt in dict.fromkeys(prompts) if not cache.has(text_key(prompt, base.text_fingerprint))
    ]
    with context.reporter.phase(Phase.CACHING_TEXT, len(missing), "prompts") as report:
        if not missing:
            return
        encoder = load_text_encoder(base, compute_dtype(context.device), context.device)
        for done, prompt in enumerate(missing):
            context.control.raise_if_stopped()
            report.progress(done, prompt)
            (rows_LD,) = encode_prompts(encoder, [prompt])
            cache.store(text_key(prompt, base.text_fingerprint), {TEXT_ROWS: rows_LD.cpu()})
        report.progress(len(missing))
        del encoder
        release_memory()


def cache_latents(context: RunContext, items: list[TrainingItem]) -> None:
    """Encode each clip window at each size, and each preview's first frame, that is not cached yet."""
    job, cache = context.job, context.cache
    for clip in job.clips:
        check_source(clip)
    missing = list({item.latents_key: item for item in items if not cache.has(item.latents_key)}.values())
    rows = [row for row in job.sample.rows if not cache.has(preview_condition_key(context, row))]
    with context.reporter.phase(Phase.CACHING_LATENTS, len(missing) + len(rows), "clips") as report:
        if not missing and not rows:
            return
        vae = load_vae(context.base, context.device)
        for done, item in enumerate(missing):
            context.control.raise_if_stopped()
            clip = job.clips[item.clip_index]
            report.progress(done, Path(clip.source).name)
            window, size = clip.windows[item.window_index], clip.sizes[item.size_index]
            latents = encode_clip(vae, read_frames(Path(clip.source), window, size))
            cache.store(item.latents_key, {CLEAN: latents.x0_CTHW.cpu(), CONDITION: latents.y_CTHW.cpu()})
        for done, row in enumerate(rows, start=len(missing)):
            context.control.raise_if_stopped()
            report.progress(done, row.image or Path(job.clips[row.clip].source).name)
            condition = encode_condition(vae, first_frame(job, row), row.num_frames)
            cache.store(preview_condition_key(context, row), {CONDITION: condition.cpu()})
        report.progress(len(missing) + len(rows))
        del vae
        release_memory()


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
        vae=context.base.vae_fingerprint,
        **picture,
    )
