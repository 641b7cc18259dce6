"""How large the miniature is and how much of everything its training takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from miniature_experts import LoraSettings

from trainer.model.miniature import MiniatureConfig

SHIPPED = MiniatureConfig(
    heads=2,
    head_dim=64,
    layers=5,
    ffn_dim=512,
    text_dim=64,
    vae_dim=24,
    vae_multipliers=(1, 2, 3),
    vae_patch=2,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes and counts of a run; its times come from --minutes.

    Attributes:
        config: Sizes of the miniature.
        size: Of drawn tracks in pixels.
        small: A second, smaller size that is learned beside it; the same for one size only.
        tracks: Scenes that are drawn at most.
        first_tracks: Scenes that are waited for before the VAE starts.
        image_batch: Frames a step while the VAE learns single frames.
        clip_batch: Clips a step while it learns clips of `size`.
        image_share: Of the VAE's time, for single frames.
        expert_batch: Clips a step at `size`.
        bank: Encoded clips of `size`; half as many of `small`.
        held_out: Scenes of the measurements.
        lora: Of the quick LoRA.
    """

    config: MiniatureConfig = SHIPPED
    size: int = 96
    small: int = 64
    tracks: int = 12_000
    first_tracks: int = 400
    image_batch: int = 384
    clip_batch: int = 48
    image_share: float = 0.35
    expert_batch: int = 256
    bank: int = 24_000
    held_out: int = 16
    lora: LoraSettings = field(default_factory=LoraSettings)


CPU = Plan(
    size=64,
    small=64,
    tracks=1_500,
    first_tracks=200,
    image_batch=16,
    clip_batch=4,
    image_share=0.7,
    expert_batch=16,
    bank=1_200,
    held_out=6,
)
"""For a machine without a GPU: an hour gives pictures that can be recognised, not much more."""

SMOKE = Plan(
    config=MiniatureConfig(
        heads=1, head_dim=64, layers=1, ffn_dim=64, vae_dim=8, vae_multipliers=(1, 2, 2), vae_patch=2
    ),
    size=48,
    small=32,
    tracks=24,
    first_tracks=8,
    image_batch=4,
    clip_batch=2,
    expert_batch=4,
    bank=8,
    held_out=1,
    lora=LoraSettings(rank=4, steps=2, batch=2),
)
