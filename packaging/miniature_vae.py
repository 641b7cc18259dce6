"""How the miniature's VAE learns: single frames first, clips after, in a box of time.

Everything here is boxed by time rather than by steps, with learning rates that fall to almost zero
over the box, so that a run on a lent GPU always ends with something whole.
"""

# B batch, F pixel frames, T latent frames, C channels, H/W height and width

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanResample
from miniature_steps import Learner
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from diffusers import AutoencoderKLWan
    from miniature_scenes import TrackLibrary
    from miniature_steps import Habit


@dataclass(slots=True)
class TimeBox:
    """A phase of given length.

    Where a GPU does the work, it is measured on the clock; else in this process's own CPU time, so that
    a busy machine takes longer instead of learning less.

    Attributes:
        seconds: Its length.
        started: When it began.
    """

    seconds: float
    started: float = field(default_factory=lambda: _now())

    @property
    def fraction(self) -> float:
        """How much of it is over; 1 or more at its end."""
        return (_now() - self.started) / self.seconds


def _now() -> float:
    return time.monotonic() if torch.cuda.is_available() else time.process_time()


def learning_rate_at(fraction: float, peak: float) -> float:
    """Short warm-up, then half a cosine down to a fiftieth."""
    if fraction < 0.03:
        return peak * (0.02 + 0.98 * fraction / 0.03)
    return peak * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * min(fraction, 1.0))))


def take_step(
    optimizer: torch.optim.Optimizer, loss: Tensor, learning_rate: float, module: nn.Module
) -> None:
    """Back-propagate, clip to norm 1, step. A step whose gradient is not finite is left out."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(
        [weight for weight in module.parameters() if weight.requires_grad], 1.0, foreach=True
    )
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    if torch.isfinite(norm):
        optimizer.step()


@dataclass(frozen=True, slots=True)
class VaeLesson:
    """What one step of the VAE looks at."""

    frames: int
    size: int
    batch: int


def convolve_frames_in_two_dimensions() -> None:
    """Let the VAE treat a single frame without a past as a picture, from now on in this process.

    Such a frame has only zeros before it, so two thirds of a 3 x 3 x 3 kernel multiply zeros. The result
    is the same, several times faster, and most of the VAE's lessons are single frames.
    """
    in_three = WanCausalConv3d.forward

    def forward(self: WanCausalConv3d, x: Tensor, cache_x: Tensor | None = None) -> Tensor:
        if cache_x is not None or x.shape[2] != 1 or self.stride[0] != 1:
            return in_three(self, x, cache_x)
        across, _, down = self._padding[0], self._padding[1], self._padding[2]
        flat = nn.functional.conv2d(
            x[:, :, 0], self.weight[:, :, -1], self.bias, self.stride[1:], padding=(down, across)
        )
        return flat.unsqueeze(2)

    WanCausalConv3d.forward = forward


@torch.no_grad()
def inflate(vae: AutoencoderKLWan) -> None:
    """Make a VAE that has learned single frames treat every frame of a clip as one.

    Convolutions forget the past; of four frames the third is kept, and shown four times. A VAE so made
    restores a still clip as well as it restores a frame, which is where learning motion then begins.
    """
    for module in vae.modules():
        if isinstance(module, WanCausalConv3d) and module.kernel_size[0] == 3:
            module.weight[:, :, :-1] = 0.0
    for module in vae.modules():
        if not isinstance(module, WanResample) or not hasattr(module, "time_conv"):
            continue
        weight, bias = module.time_conv.weight, module.time_conv.bias
        weight.zero_()
        bias.zero_()
        channels = weight.shape[1]
        same = torch.eye(channels, device=weight.device)
        if module.mode == "upsample3d":
            weight[:channels, :, 2, 0, 0] = same
            weight[channels:, :, 2, 0, 0] = same
        else:
            # Coarser levels come later: the first keeps frames 1 and 3 of four, the last keeps 3.
            weight[:, :, 2 if module is last_downsampler(vae) else 1, 0, 0] = same


def last_downsampler(vae: AutoencoderKLWan) -> WanResample:
    """The encoder's last halving of time."""
    return [module for module in vae.encoder.modules() if getattr(module, "mode", "") == "downsample3d"][-1]


def use_fastest_layout(vae: AutoencoderKLWan, lesson: VaeLesson, report: Callable[[str], None]) -> None:
    """Time a step with the weights in either memory layout, and leave them in the faster one."""
    device = next(vae.parameters()).device
    clips = torch.rand(lesson.batch, 3, lesson.frames, lesson.size, lesson.size, device=device) * 2.0 - 1.0
    seconds: dict[torch.memory_format, float] = {}
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        set_layout(vae, layout)
        for _ in range(4):
            torch.cuda.synchronize(device)
            begin = time.monotonic()
            with torch.autocast(device.type, torch.bfloat16):
                vae.decode(vae.encode(clips).latent_dist.mean).sample.float().square().mean().backward()
            torch.cuda.synchronize(device)
            seconds[layout] = time.monotonic() - begin
            vae.zero_grad(set_to_none=True)
    fastest = min(seconds, key=lambda layout: seconds[layout])
    set_layout(vae, fastest)
    report(f"seconds a step of {lesson} by layout: {seconds}; {fastest} it is")


def set_layout(vae: AutoencoderKLWan, layout: torch.memory_format) -> None:
    """Lay out the weights of three-dimensional convolutions; those of other ranks have no such layout."""
    for weight in vae.parameters():
        if weight.ndim == 5:
            weight.data = weight.data.contiguous(memory_format=layout)


class VaeStart(Enum):
    """What a VAE brings along to its lessons, and what of it learns."""

    FRESH = "fresh"
    DECODER = "decoder"
    """It keeps its encoder, because the experts have learned its latents."""
    ALL = "all"
    """All of it goes on learning; the experts have to follow."""


def train_vae(
    vae: AutoencoderKLWan,
    library: TrackLibrary,
    lesson_at: Callable[[float], VaeLesson],
    seconds: float,
    habit: Habit,
    start: VaeStart,
) -> int:
    """Learn to reconstruct; returns the number of steps.

    Loss: L1 + 2 MSE + a slight pull of the latents towards a unit Gaussian. Latents are sampled, so
    that near latents mean near pictures. A few clips end in grey frames, as the condition does.
    """
    device, peak = next(vae.parameters()).device, 1.5e-3 if start is VaeStart.FRESH else 1e-3
    if start is VaeStart.DECODER:
        vae.encoder.requires_grad_(requires_grad=False)
        vae.quant_conv.requires_grad_(requires_grad=False)
    learner = Learner(vae, habit, betas=(0.9, 0.99), weight_decay=1e-3)
    generator = np.random.default_rng(1)
    box, step, inflated = TimeBox(seconds), 0, start is not VaeStart.FRESH

    def compute(lesson: VaeLesson, *cuts: Tensor) -> tuple[Tensor, ...]:
        clips = library.look_up(*cuts, size=lesson.size)
        clips[: lesson.batch // 24, :, 1:] = 0.0
        with torch.autocast(device.type, torch.bfloat16):
            posterior = vae.encode(clips).latent_dist
            mean, log_variance = posterior.mean.float(), posterior.logvar.float()
            latents = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
            restored = vae.decode(latents).sample
        difference = restored.float() - clips
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean()
        squared = difference.square().mean()
        return difference.abs().mean() + 2.0 * squared + 1e-4 * divergence, squared, divergence

    while (fraction := box.fraction) < 1.0:
        lesson = lesson_at(fraction)
        if lesson.frames > 1 and not inflated:
            inflate(vae)
            inflated = True
        cuts = library.indices(library.random_plans(generator, lesson.batch, lesson.frames), lesson.frames)
        values = learner.step(lesson, cuts, learning_rate_at(fraction, peak), partial(compute, lesson))
        step += 1
        if step % 50 == 0:
            _, squared, divergence = values.tolist()
            habit.report(
                f"vae {fraction:4.0%} step {step}: {lesson} PSNR {-10.0 * math.log10(squared / 4.0):.2f} dB,"
                f" KL {divergence:.2f}, tracks {len(library)}"
            )
    return step


@torch.no_grad()
def encode(vae: AutoencoderKLWan, pixels_BCFHW: Tensor) -> Tensor:
    """Posterior mean, normalised by the VAE's own mean and deviation; float32."""
    with torch.autocast(pixels_BCFHW.device.type, torch.bfloat16, enabled=pixels_BCFHW.device.type == "cuda"):
        latents = vae.encode(pixels_BCFHW).latent_dist.mean.float()
    mean, deviation = latent_statistics(vae, latents.device)
    return (latents - mean) / deviation


def encode_condition(vae: AutoencoderKLWan, pixels_BCFHW: Tensor) -> Tensor:
    """The first frame followed by grey, as a clip of full length."""
    condition = torch.zeros_like(pixels_BCFHW)
    condition[:, :, 0] = pixels_BCFHW[:, :, 0]
    return encode(vae, condition)


@torch.no_grad()
def decode(vae: AutoencoderKLWan, latents_BCTHW: Tensor) -> Tensor:
    """Pixels in -1..1, float32, computed in float32 as the product does."""
    mean, deviation = latent_statistics(vae, latents_BCTHW.device)
    return vae.decode(latents_BCTHW * deviation + mean).sample.float()


def latent_statistics(vae: AutoencoderKLWan, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the channels, shaped to broadcast over (B, C, T, H, W)."""
    shape = (1, -1, 1, 1, 1)
    return (
        torch.tensor(vae.config.latents_mean, device=device).view(shape),
        torch.tensor(vae.config.latents_std, device=device).view(shape),
    )


@torch.no_grad()
def measure_latents(vae: AutoencoderKLWan, batches: Sequence[Tensor]) -> None:
    """Store each latent channel's mean and deviation in the VAE's config."""
    means = []
    for pixels in batches:
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=pixels.device.type == "cuda"):
            means.append(vae.encode(pixels).latent_dist.mean.float().transpose(0, 1).flatten(1).cpu())
    values = torch.cat(means, 1)
    vae.register_to_config(
        latents_mean=[round(value, 4) for value in values.mean(1).tolist()],
        latents_std=[round(max(value, 1e-3), 4) for value in values.std(1).tolist()],
    )


def psnr(one: Tensor, other: Tensor) -> float:
    """Peak signal to noise ratio in dB of pixels in -1..1."""
    return -10.0 * math.log10(max(float((one.float() - other.float()).square().mean()) / 4.0, 1e-10))
