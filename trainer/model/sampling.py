"""Denoising from pure noise to a clip's latents, step by step as diffusers' Wan I2V pipeline does it."""

# C channels, T latent frames, H/W latent height and width, L text rows, D text width

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from torch import Tensor

from trainer.model.experts import TIMESTEPS, Experts
from trainer.model.text import pad_rows
from trainer.protocol.job import Expert

OnStep = Callable[[int, int], None]
"""Called after each step with the steps done and their total; what it raises ends the denoising."""


class EulerSampler:
    """Euler steps over the noise levels that UniPC has: ``x += (next level - level) * velocity``.

    diffusers' own shifts its lowest level a second time, and gives 16-bit latents for a 16-bit velocity.

    Attributes:
        timesteps: Noise levels of the steps times 1000, descending; empty until `set_timesteps`.
    """

    def __init__(self, shift: float) -> None:
        """Take the flow shift, above 0."""
        self.timesteps = torch.empty(0)
        self._shift = shift
        self._levels: list[float] = []
        self._done = 0

    def set_timesteps(self, num_inference_steps: int) -> None:
        """Begin anew: levels from 1 down, evenly spread before they are shifted."""
        even = torch.linspace(1, 1 / TIMESTEPS, num_inference_steps + 1, dtype=torch.float64)[:-1]
        levels = self._shift * even / (1 + (self._shift - 1) * even)
        self.timesteps = (levels * TIMESTEPS).float()
        self._levels, self._done = [*levels.tolist(), 0.0], 0

    def step(
        self, model_output: Tensor, _timestep: Tensor, sample: Tensor, *, return_dict: bool = False
    ) -> tuple[Tensor]:
        """The latents one level on, float32; a tuple, as `return_dict` asks of diffusers' samplers."""
        del return_dict
        length = self._levels[self._done + 1] - self._levels[self._done]
        self._done += 1
        return (sample.float() + length * model_output.float(),)


Sampler = UniPCMultistepScheduler | EulerSampler


@dataclass(frozen=True, slots=True)
class DenoiseRequest:
    """What to make.

    Attributes:
        condition_CTHW: Latents of the first frame and grey, from `encode_condition`; they give the size.
        prompt_LD: Rows of the prompt, true length.
        negative_LD: Rows of the negative prompt; None only if neither guidance is above 1.
        steps: Of the sampler, at least 1.
        guidance_high: Classifier-free guidance of the high-noise expert; up to 1 there is none.
        guidance_low: The same for the low-noise expert.
        seed: Of the first noise, which is drawn on the CPU so that every device gets the same.
    """

    condition_CTHW: Tensor
    prompt_LD: Tensor
    negative_LD: Tensor | None
    steps: int
    guidance_high: float
    guidance_low: float
    seed: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"{self.steps} steps cannot denoise anything")
        if self.negative_LD is None and max(self.guidance_high, self.guidance_low) > 1.0:
            raise ValueError("guidance above 1 needs the rows of a negative prompt")

    def guidance(self, expert: Expert) -> float:
        """The guidance while that expert denoises."""
        return self.guidance_high if expert is Expert.HIGH else self.guidance_low

    def predictions(self, expert: Expert) -> int:
        """How many predictions one step of that expert takes."""
        return 1 if self.guidance(expert) <= 1.0 or self.negative_LD is None else 2


@torch.no_grad()
def denoise(experts: Experts, scheduler: Sampler, request: DenoiseRequest, on_step: OnStep) -> Tensor:
    """Make the latents of a clip.

    Args:
        experts: Both, with their LoRAs as they are.
        scheduler: From `sampling_scheduler`; begins anew at each call.
        request: What to make.
        on_step: Called after each step; may raise to cancel, which leaves nothing half done.

    Returns:
        Normalised latents (16, T, H, W), float32 on the CPU, for `decode_latents`.

    Raises:
        ExpertNotLoadedError: a step belongs to an expert that was not loaded.
    """
    scheduler.set_timesteps(request.steps)
    latents_BCTHW = first_noise(request.condition_CTHW, request.seed).to(experts.device)
    for done, timestep in enumerate(scheduler.timesteps, start=1):
        expert = experts.expert_for(float(timestep))
        velocity_BCTHW = _guided_velocity(experts, expert, latents_BCTHW, timestep, request)
        latents_BCTHW = scheduler.step(velocity_BCTHW, timestep, latents_BCTHW, return_dict=False)[0]
        on_step(done, request.steps)
    return latents_BCTHW[0].float().cpu()


def first_noise(condition_CTHW: Tensor, seed: int) -> Tensor:
    """The pure noise (1, 16, T, H, W) that a clip of the condition's size begins with, on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((1, *condition_CTHW.shape), generator=generator)


def _guided_velocity(
    experts: Experts, expert: Expert, latents_BCTHW: Tensor, timestep: Tensor, request: DenoiseRequest
) -> Tensor:
    condition_BCTHW = request.condition_CTHW[None]

    def predict(rows_LD: Tensor) -> Tensor:
        text_BLD = pad_rows(rows_LD)[None]
        return experts.predict(expert, latents_BCTHW, condition_BCTHW, timestep[None], text_BLD)

    velocity_BCTHW = predict(request.prompt_LD)
    if request.negative_LD is None or request.predictions(expert) == 1:
        return velocity_BCTHW
    guidance = request.guidance(expert)
    unguided_BCTHW = predict(request.negative_LD)
    return unguided_BCTHW + guidance * (velocity_BCTHW - unguided_BCTHW)
