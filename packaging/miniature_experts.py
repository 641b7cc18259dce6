"""How the miniature's experts learn, and a LoRA on top of them; how they animate a picture."""

# B batch, T latent frames, C channels, H/W latent height and width, L tokens, D text width

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from miniature_steps import Learner
from miniature_vae import TimeBox, encode, encode_condition, learning_rate_at, take_step
from torch import Tensor, nn

from trainer.model.miniature import BOUNDARY_RATIO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
    from miniature_scenes import TrackLibrary
    from miniature_steps import Habit
    from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

MAX_TOKENS = 512
TEXT_ROWS = 48
LORA_TARGETS = r".*\.(attn1|attn2)\.(to_q|to_k|to_v|to_out\.0)|.*\.ffn\.net\.(0\.proj|2)"


# ---- Text -------------------------------------------------------------------------------------


@torch.no_grad()
def encode_prompts(
    tokenizer: PreTrainedTokenizerFast, encoder: UMT5EncoderModel, prompts: Sequence[str]
) -> Tensor:
    """Rows (prompts, TEXT_ROWS + 1, D), zero behind each prompt's own tokens and always in the last row.

    The last row stands for all the padding up to 512: see `ShortTextProcessor`.
    """
    rows = []
    device = next(encoder.parameters()).device
    for start in range(0, len(prompts), 512):
        tokens = tokenizer(
            list(prompts[start : start + 512]),
            padding="max_length",
            max_length=TEXT_ROWS,
            truncation=True,
            return_tensors="pt",
        ).to(device)
        hidden = encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
        rows.append(hidden * tokens.attention_mask[:, :, None])
    return nn.functional.pad(torch.cat(rows), (0, 0, 0, 1))


def padded(rows_BLD: Tensor) -> Tensor:
    """The same rows with all their padding, 512 long, as the product gives them to the experts."""
    return nn.functional.pad(rows_BLD, (0, 0, 0, MAX_TOKENS - rows_BLD.shape[1]))


class ShortTextProcessor(WanAttnProcessor):
    """Attention to text whose last row stands for all rows of zeros up to 512.

    The experts see zero rows behind every prompt, all alike; n equal keys weigh as much as one whose
    score is larger by log n. The result is the same, for a tenth of the work.
    """

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Attend, with the last text row counted as often as it stands for."""
        if encoder_hidden_states is not None:
            rows = encoder_hidden_states.shape[1]
            attention_mask = hidden_states.new_zeros(1, 1, 1, rows)
            attention_mask[..., -1] = math.log(MAX_TOKENS - rows + 1)
        return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)


def use_short_text(expert: WanTransformer3DModel) -> None:
    """From now on the expert takes rows from `encode_prompts`, or any that end in a row of zeros."""
    for block in expert.blocks:
        block.attn2.set_processor(ShortTextProcessor())


# ---- Experts ----------------------------------------------------------------------------------


class Side(Enum):
    """Which times an expert learns at."""

    HIGH = "high"
    LOW = "low"
    BOTH = "both"


@dataclass(slots=True)
class LatentBank:
    """Encoded clips of one size.

    Attributes:
        clean_BCTHW: Normalised latents.
        condition_BCTHW: Of the first frame followed by grey.
        prompts: Index of each clip's prompt in the table of text rows.
    """

    clean_BCTHW: Tensor
    condition_BCTHW: Tensor
    prompts: Tensor


@dataclass(frozen=True, slots=True)
class BankSpec:
    """How much to encode.

    Attributes:
        size: Of the clips in pixels.
        count: Clips at most.
        batch: Clips at once.
        seconds: Time at most.
        still_share: Of the clips, 0 to 1; the others move.
    """

    size: int
    count: int
    batch: int
    seconds: float
    still_share: float


@torch.no_grad()
def fill_bank(
    vae: AutoencoderKLWan, library: TrackLibrary, captions: list[str], spec: BankSpec
) -> LatentBank:
    """Encode random clips until there are enough or the time is over; `captions` grows by one a clip."""
    generator = np.random.default_rng(spec.size)
    box = TimeBox(spec.seconds)
    clean, condition, prompts = [], [], []
    while len(prompts) < spec.count and (not prompts or box.fraction < 1.0):
        plans = [
            replace(plan, direction=0 if generator.random() < spec.still_share else plan.direction or 1)
            for plan in library.random_plans(generator, spec.batch, 17)
        ]
        pixels = library.cut(plans, 17, spec.size)
        clean.append(encode(vae, pixels).to(torch.bfloat16))
        condition.append(encode_condition(vae, pixels).to(torch.bfloat16))
        prompts += list(range(len(captions), len(captions) + len(plans)))
        captions += [library.caption(plan, generator) for plan in plans]
    return LatentBank(torch.cat(clean), torch.cat(condition), torch.tensor(prompts, device=clean[0].device))


def expert_input(noisy_BCTHW: Tensor, condition_BCTHW: Tensor) -> Tensor:
    """Noise 16, mask 4 (one for the first latent frame: it is known), condition 16 channels."""
    mask = torch.zeros_like(noisy_BCTHW[:, :4])
    mask[:, :, 0] = 1.0
    return torch.cat([noisy_BCTHW, mask, condition_BCTHW], 1)


def velocity_loss(
    expert: WanTransformer3DModel,
    clean_BCTHW: Tensor,
    condition_BCTHW: Tensor,
    text_BLD: Tensor,
    time_B: Tensor,
) -> Tensor:
    """Flow matching: mean squared error against noise - clean at times in 0..1."""
    noise = torch.randn_like(clean_BCTHW)
    time_ = time_B.view(-1, 1, 1, 1, 1)
    noisy = (1.0 - time_) * clean_BCTHW + time_ * noise
    with torch.autocast(clean_BCTHW.device.type, torch.bfloat16):
        predicted = expert(
            expert_input(noisy, condition_BCTHW), time_B * 1000.0, text_BLD, return_dict=False
        )[0]
    return (predicted.float() - (noise - clean_BCTHW)).square().mean()


def draw_times(count: int, side: Side, device: torch.device) -> Tensor:
    """Times of one expert's side; the low side half evenly, half where a shift of 5 samples most."""
    evenly = torch.rand(count, device=device)
    high = BOUNDARY_RATIO + (1.0 - BOUNDARY_RATIO) * evenly
    if side is Side.HIGH:
        return high
    largest = BOUNDARY_RATIO / (5.0 - 4.0 * BOUNDARY_RATIO)
    shifted = 5.0 * largest * evenly / (1.0 + 4.0 * largest * evenly)
    low = torch.where(torch.rand(count, device=device) < 0.5, BOUNDARY_RATIO * evenly, shifted)
    if side is Side.LOW:
        return low
    return torch.where(torch.rand(count, device=device) < 0.35, high, low)


def train_expert(
    expert: WanTransformer3DModel,
    lessons: Sequence[tuple[LatentBank, int]],
    rows: Tensor,
    box: TimeBox,
    habit: Habit,
    side: Side,
) -> int:
    """Learn to animate; returns the number of steps.

    Args:
        expert: With `use_short_text`.
        lessons: Banks with the batch size of each, taken in turn.
        rows: Of the prompts that the banks name.
        box: How long.
        habit: How steps are taken.
        side: `BOTH` teaches what the experts share, faster; the others refine.
    """
    device, peak = rows.device, 1.5e-3 if side is Side.BOTH else 8e-4
    learner = Learner(expert, habit, betas=(0.9, 0.98), weight_decay=1e-2)
    step, total = 0, torch.zeros((), device=device)

    def compute(bank: LatentBank, batch: int) -> tuple[Tensor]:
        chosen = torch.randint(len(bank.prompts), (batch,), device=device)
        loss = velocity_loss(
            expert,
            bank.clean_BCTHW[chosen].float(),
            bank.condition_BCTHW[chosen].float(),
            rows[bank.prompts[chosen]],
            draw_times(batch, side, device),
        )
        return (loss,)

    while (fraction := box.fraction) < 1.0:
        bank, batch = lessons[step % len(lessons)]
        rate = learning_rate_at(fraction, peak)
        total += learner.step(id(bank), (), rate, partial(compute, bank, batch))[0]
        step += 1
        if step % 100 == 0:
            habit.report(f"{side.value} {fraction:4.0%} step {step}: loss {float(total) / 100:.4f}")
            total.zero_()
    return step


@torch.no_grad()
def generate(
    experts: tuple[WanTransformer3DModel, WanTransformer3DModel],
    scheduler: UniPCMultistepScheduler,
    condition_BCTHW: Tensor,
    text_BLD: Tensor,
    steps: int = 12,
) -> Tensor:
    """Clean latents by the UniPC sampler without guidance; (high, low) by the official boundary."""
    device = condition_BCTHW.device
    scheduler = type(scheduler).from_config(scheduler.config)
    scheduler.set_timesteps(steps, device=device)
    noise = torch.Generator("cpu").manual_seed(7)
    latents = torch.randn(condition_BCTHW.shape, generator=noise).to(device)
    for moment in scheduler.timesteps:
        expert = experts[0] if float(moment) >= BOUNDARY_RATIO * 1000.0 else experts[1]
        velocity = expert(
            expert_input(latents, condition_BCTHW),
            moment.float().expand(len(latents)),
            text_BLD,
            return_dict=False,
        )[0]
        latents = scheduler.step(velocity, moment, latents, return_dict=False)[0]
    return latents


# ---- LoRA -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Settings of the quick LoRA that shows whether the base can be taught."""

    rank: int = 16
    steps: int = 200
    batch: int = 4
    learning_rate: float = 2e-3


def train_lora(
    expert: WanTransformer3DModel, bank: LatentBank, rows: Tensor, settings: LoraSettings, side: Side
) -> list[float]:
    """Add a LoRA to a frozen expert and train it on the bank; the losses of all steps."""
    from peft import LoraConfig

    expert.requires_grad_(requires_grad=False)
    torch.manual_seed(0)
    expert.add_adapter(
        LoraConfig(r=settings.rank, lora_alpha=settings.rank, target_modules=LORA_TARGETS),
        adapter_name="orbit",
    )
    weights = [weight for weight in expert.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=1e-4)
    losses = []
    for step in range(settings.steps):
        chosen = torch.randint(len(bank.prompts), (settings.batch,))
        loss = velocity_loss(
            expert,
            bank.clean_BCTHW[chosen].float(),
            bank.condition_BCTHW[chosen].float(),
            rows[bank.prompts[chosen]],
            draw_times(settings.batch, side, rows.device),
        )
        warm = min(1.0, (step + 1) / 10)
        take_step(optimizer, loss, settings.learning_rate * warm, expert)
        losses.append(float(loss.detach()))
    return losses
