"""One preview as a clip: denoised by both experts, decoded whole, or in tiles where memory is short."""

# C channels, T latent frames, H/W latent height and width, F frames

import time
import traceback
from dataclasses import dataclass

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from numpy.typing import NDArray
from torch import Tensor

from trainer.model.experts import Experts
from trainer.model.layouts import BaseModel
from trainer.model.load import load_vae
from trainer.model.sampling import DenoiseRequest, OnStep, Sampler, denoise
from trainer.model.vae import decode_latents
from trainer.runtime.device import release_memory
from trainer.runtime.out_of_memory import is_out_of_memory


@dataclass(frozen=True, slots=True)
class Decoding:
    """How latents become pictures.

    Attributes:
        dtype: What the VAE computes in.
        in_tiles: Whether pictures are cut up from the start.
    """

    dtype: torch.dtype = torch.float32
    in_tiles: bool = False


@dataclass(frozen=True, slots=True)
class Rendered:
    """A preview.

    Attributes:
        frames_FHWC: RGB 0..255.
        decode_seconds: What loading the VAE and decoding took.
        in_tiles: Whether the picture was cut up for it, for lack of memory.
    """

    frames_FHWC: NDArray[np.uint8]
    decode_seconds: float
    in_tiles: bool = False


def denoised_and_decoded(
    base: BaseModel,
    experts: Experts,
    sampler: Sampler,
    request: DenoiseRequest,
    on_step: OnStep,
    decoding: Decoding | None = None,
) -> Rendered:
    """Make a clip; the VAE is in memory only while it decodes, and blocks that lie in RAM too are not."""
    decoding = decoding or Decoding()
    latents_CTHW = denoise(experts, sampler, request, on_step)
    began = time.perf_counter()
    with experts.vacated():
        # Decoding needs whole frames at once: what the experts' passes left reserved must not stand in its way.
        release_memory()
        frames_FHWC, in_tiles = _decoded(
            load_vae(base, experts.device, decoding.dtype), latents_CTHW, decoding
        )
        release_memory()
    return Rendered(frames_FHWC, time.perf_counter() - began, in_tiles)


def _decoded(
    vae: AutoencoderKLWan, latents_CTHW: Tensor, decoding: Decoding
) -> tuple[NDArray[np.uint8], bool]:
    """The frames, and whether they were decoded in tiles."""
    frames_FHWC = None if decoding.in_tiles else _decoded_whole(vae, latents_CTHW)
    if frames_FHWC is not None:
        return frames_FHWC, False
    vae.clear_cache()
    release_memory()
    vae.enable_tiling()
    return decode_latents(vae, latents_CTHW), True


def _decoded_whole(vae: AutoencoderKLWan, latents_CTHW: Tensor) -> NDArray[np.uint8] | None:
    """The frames; None where memory does not suffice for them in one piece."""
    try:
        return decode_latents(vae, latents_CTHW)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        # Its frames hold the tensors that filled the memory.
        traceback.clear_frames(error.__traceback__)
        return None
