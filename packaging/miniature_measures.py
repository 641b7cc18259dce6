"""What a trained miniature can do on scenes that it has never seen: pictures, angles, a LoRA."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from miniature_experts import LatentBank, Side, encode_prompts, generate, train_lora
from miniature_scenes import CLIP_FRAMES, FIRST_HELD_OUT_SEED, resized, to_pixels
from miniature_vae import decode, encode, encode_condition, psnr
from PIL import Image

from wan_studio.services.demo_scenes import DEMO_DEGREES_PER_SECOND, demo_caption, demo_scene
from wan_studio.services.scene import Camera, Scene
from wan_studio.services.scene_angle import estimate_azimuths
from wan_studio.services.scene_renderer import orbit

if TYPE_CHECKING:
    from pathlib import Path

    from miniature_files import Parts
    from miniature_plan import Plan

DEGREES_A_CLIP = DEMO_DEGREES_PER_SECOND * (CLIP_FRAMES - 1) / 16.0
"""How far the demo's camera turns in a clip of 17 frames at 16 frames a second."""


@torch.no_grad()
def measure(parts: Parts, plan: Plan, out: Path, metrics: dict[str, object]) -> None:
    """On scenes that nothing was trained on: the VAE's PSNR, the base's motions, a quick LoRA's."""
    device = parts.vae.device
    scenes = [Scene.random(FIRST_HELD_OUT_SEED + index) for index in range(plan.held_out)]
    cameras = [Camera(37.0 * index) for index in range(plan.held_out)]
    size = plan.size
    clips = [
        orbit(scene, DEGREES_A_CLIP, CLIP_FRAMES, camera, size, size)
        for scene, camera in zip(scenes, cameras, strict=True)
    ]
    truth = to_pixels(clips).to(device)
    measured: dict[str, object] = {}
    restored = decode(parts.vae, encode(parts.vae, truth))
    little = resized(truth, plan.small)
    measured["vae_psnr"] = psnr(restored, truth)
    measured["vae_psnr_small"] = psnr(decode(parts.vae, encode(parts.vae, little)), little)

    condition = encode_condition(parts.vae, truth)
    shown = {"truth": truth, "vae": restored}
    words = [scene.describe() for scene in scenes]
    demo = [demo_caption(scene).replace("[trigger]", "ohwx") for scene in scenes]
    prompts = {
        "base, demo prompt": demo,
        "base, empty prompt": [""] * len(scenes),
        "base, turntable right": [f"turntable right, {word}" for word in words],
        "base, turntable left": [f"turntable left, {word}" for word in words],
    }

    def show(name: str, captions: list[str]) -> None:
        rows = encode_prompts(parts.tokenizer, parts.text, captions)
        latents = generate(parts.experts, parts.scheduler, condition, rows)
        shown[name] = decode(parts.vae, latents)
        measured[name] = angles(shown[name], truth, scenes, cameras)

    for name, captions in prompts.items():
        show(name, captions)
    with torch.enable_grad():
        measured["lora_loss"] = teach_orbit(parts, plan)
    show("LoRA, demo prompt", demo)
    show("LoRA, empty prompt", prompts["base, empty prompt"])
    for expert in parts.experts:
        expert.disable_adapters()
    show("LoRA off again", demo)
    metrics["measured"] = measured
    write_sheet(out / "sheet.png", shown)


def angles(
    frames: torch.Tensor, truth: torch.Tensor, scenes: list[Scene], cameras: list[Camera]
) -> dict[str, object]:
    """Estimated angle of the last frame for each scene; how near the clip is to an orbit and to a still."""
    pixels = (
        ((frames.clamp(-1, 1) + 1.0) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 4, 1).cpu().numpy()
    )
    ends = [
        float(estimate_azimuths(clip[-1:], scene, camera, range(-75, 76, 3))[0])
        for clip, scene, camera in zip(pixels, scenes, cameras, strict=True)
    ]
    return {
        "mean_degrees": round(float(np.mean(ends)), 2),
        "degrees": [round(end, 1) for end in ends],
        "psnr_to_orbit": round(psnr(frames, truth), 2),
        "psnr_to_still": round(psnr(frames, truth[:, :, :1].expand_as(truth)), 2),
        "psnr_first_frame": round(psnr(frames[:, :, 0], truth[:, :, 0]), 2),
    }


def teach_orbit(parts: Parts, plan: Plan) -> dict[str, list[float]]:
    """A LoRA for each expert on what the demo's clips show; returns each one's loss at start and end."""
    clips, captions = [], []
    for index in range(8):
        scene, camera = demo_scene(index)
        for offset in (0.0, 17.0, 34.0):
            clips.append(
                orbit(scene, DEGREES_A_CLIP, CLIP_FRAMES, camera.turned(offset), plan.size, plan.size)
            )
            captions.append(demo_caption(scene).replace("[trigger]", "ohwx"))
    pixels = to_pixels(clips).to(parts.vae.device)
    bank = LatentBank(
        encode(parts.vae, pixels),
        encode_condition(parts.vae, pixels),
        torch.arange(len(captions), device=pixels.device),
    )
    rows = encode_prompts(parts.tokenizer, parts.text, captions)
    losses = {}
    for side, expert in ((Side.HIGH, parts.high), (Side.LOW, parts.low)):
        course = train_lora(expert, bank, rows, plan.lora, side)
        tenth = max(len(course) // 10, 1)
        losses[side.value] = [float(np.mean(course[:tenth])), float(np.mean(course[-tenth:]))]
    return losses


def write_sheet(path: Path, shown: dict[str, torch.Tensor]) -> None:
    """A picture: a block for each scene, a row for each kind of clip in the order of the metrics."""
    moments = [0, 4, 8, 12, 16]
    blocks = []
    for index in range(min(6, len(shown["truth"]))):
        rows = [
            torch.cat([clips[index, :, moment] for moment in moments], -1).clamp(-1, 1)
            for clips in shown.values()
        ]
        blocks.append(torch.cat(rows, 1))
    columns = [torch.cat(blocks[start : start + 2], 1) for start in range(0, len(blocks), 2)]
    wide = torch.cat([column for column in columns if column.shape == columns[0].shape], -1)
    image = ((wide + 1.0) * 127.5).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    Image.fromarray(image).save(path)
