"""The keys of cached latents and text embeddings: everything that each depends on, and no more."""

from trainer.data.tensor_cache import cache_key
from trainer.protocol.job import ClipSpec
from trainer.protocol.tone_map import TONE_MAP_FORMAT

LATENTS_FORMAT = 1
"""Raise it when the same frames would be encoded, cropped or stored otherwise than before."""
DEGRADED_CONDITION_FORMAT = 1
"""The same for conditions with a degraded first frame."""
TEXT_FORMAT = 1
"""Raise it when the same prompt would be cleaned, encoded or stored otherwise than before."""


def latents_key(clip: ClipSpec, window_index: int, size_index: int, vae_fingerprint: str) -> str:
    """Key of one window of a clip at one size.

    The source file counts by path, size and modification time; the caption does not count, so that
    editing it leaves the latents valid.
    """
    return cache_key(
        "latents",
        LATENTS_FORMAT,
        tone_map=TONE_MAP_FORMAT,
        source=clip.source,
        source_bytes=clip.source_bytes,
        source_modified_ns=clip.source_modified_ns,
        window=clip.windows[window_index],
        size=clip.sizes[size_index],
        flip=clip.flip,
        vae=vae_fingerprint,
    )


def text_key(prompt: str, text_fingerprint: str) -> str:
    """Key of a prompt, by its final text (trigger filled in) and the encoder."""
    return cache_key("text", TEXT_FORMAT, prompt=prompt, encoder=text_fingerprint)


def degraded_condition_key(clip_latents_key: str, blur_pixels: float, jpeg_quality: int) -> str:
    """Key of a clip's condition with its first frame blurred and compressed; empty when it would not be."""
    if blur_pixels == 0 and jpeg_quality == 100:
        return ""
    return cache_key(
        "degraded_condition",
        DEGRADED_CONDITION_FORMAT,
        latents=clip_latents_key,
        blur_pixels=blur_pixels,
        jpeg_quality=jpeg_quality,
    )
