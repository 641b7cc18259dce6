"""What `measure` measures beside training steps: encoding clips and prompts, previews, decoding.

By the code that runs use, on random weights of the real shapes.
"""

# C channels, T latent frames, F pixel frames, H/W height and width, L text tokens, D text width

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.model.experts import Experts
from trainer.model.load import load_text_encoder, load_vae, sampling_scheduler
from trainer.model.random_base import ModelConfigs, random_base
from trainer.model.sampling import DenoiseRequest
from trainer.model.text import MAX_TOKENS, encode_prompts
from trainer.model.vae import decode_latents, encode_clip
from trainer.protocol.job import SampleSection
from trainer.recipes.measure_case import Case
from trainer.recipes.measure_floor import timed
from trainer.recipes.preview_clip import Decoding, Rendered, denoised_and_decoded
from trainer.runtime.device import compute_dtype, count_peaks_anew

Fields = dict[str, Any]


def encode_latents(case: Case, configs: ModelConfigs, device: torch.device) -> Fields:
    """The VAE encodes a clip and its condition, as before the first step."""
    shape = (case.frames, case.height, case.width, 3)
    frames_FHWC = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    look = Look(device)
    vae = load_vae(random_base(device, configs), device, vae_dtype(case, device))
    look.at("loading")
    return look.timed("latents", lambda: encode_clip(vae, frames_FHWC), case.steps)


def decode(case: Case, configs: ModelConfigs, device: torch.device) -> Fields:
    """The VAE decodes a clip, as at the end of a preview, but with no expert beside it."""
    latents_CTHW = _drawn(*case.latent_shape[1:])
    look = Look(device)
    vae = load_vae(random_base(device, configs), device, vae_dtype(case, device))
    look.at("loading")
    return look.timed("decode", lambda: decode_latents(vae, latents_CTHW), case.steps)


def encode_text(case: Case, configs: ModelConfigs, device: torch.device) -> Fields:
    """The text encoder encodes one prompt, on the GPU."""
    look = Look(device)
    base = random_base(device, configs)
    encoder = load_text_encoder(base, compute_dtype(device), device, float8=case.mode == "float8")
    look.at("loading")
    return look.timed("text", lambda: encode_prompts(encoder, ["a prompt"]), case.steps)


def make_previews(
    case: Case,
    experts: Experts,
    configs: ModelConfigs,
    device: torch.device,
) -> Fields:
    """Two previews, of which the second counts; with the guidance, sampler and shift that jobs have."""
    usual, base = SampleSection(), random_base(device, configs)
    text_width = int(configs.expert["text_dim"])
    request = DenoiseRequest(
        condition_CTHW=_drawn(*case.latent_shape[1:]),
        prompt_LD=_drawn(MAX_TOKENS, text_width).to(experts.dtype),
        negative_LD=_drawn(MAX_TOKENS, text_width).to(experts.dtype),
        steps=case.steps,
        guidance_high=usual.guidance_high,
        guidance_low=usual.guidance_low,
        seed=0,
    )
    sampler = sampling_scheduler(base, usual.sampler, usual.shift)
    rendered: list[Rendered] = []

    def render() -> None:
        rendered.append(
            denoised_and_decoded(base, experts, sampler, request, _go_on, Decoding(vae_dtype(case, device)))
        )

    look = Look(device)
    fields = look.timed("preview", render, 1)
    decode_seconds = rendered[-1].decode_seconds
    step_seconds = (fields["seconds"] - decode_seconds) / case.steps
    return fields | {
        "seconds": step_seconds,
        "all_seconds": (step_seconds,),
        "decode_seconds": decode_seconds,
    }


def vae_dtype(case: Case, device: torch.device) -> torch.dtype:
    """What the VAE computes in."""
    return compute_dtype(device) if case.vae == "bf16" else torch.float32


class Look:
    """The memory of each phase, and the seconds of the last."""

    def __init__(self, device: torch.device) -> None:
        """Begin the first phase."""
        self._device = device
        self._peaks: dict[str, int] = {}
        self._reserved = 0
        count_peaks_anew(device)

    def at(self, phase: str) -> None:
        """A phase has ended, and another begins."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            self._peaks[phase] = torch.cuda.max_memory_allocated(self._device)
            self._reserved = max(self._reserved, torch.cuda.max_memory_reserved(self._device))
            count_peaks_anew(self._device)

    def timed(self, phase: str, work: Callable[[], object], times: int) -> Fields:
        """The fields of the result that doing the work so often gives, after once that does not count."""
        first = timed(work, self._device)
        seconds = tuple(timed(work, self._device) for _ in range(times))
        self.at(phase)
        return {
            "seconds": statistics.median(seconds),
            "all_seconds": seconds,
            "first_seconds": first,
            "peaks": self._peaks,
            "allocated": max(self._peaks.values(), default=0),
            "reserved": self._reserved,
        }


def _drawn(*shape: int) -> Tensor:
    """Normal numbers on the CPU, where latents and text lie in a run."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _go_on(done: int, total: int) -> None:
    del done, total
