"""Train the miniature that ships in resources/miniature, on a GPU, in about ten minutes.

    python packaging/make_miniature.py --out build/miniature --minutes 9

What it makes: the real classes of Wan 2.2 I2V in small (`trainer.model.miniature`), in the diffusers
layout, float16, at most 12 MB, that animate a picture of a synthetic scene at 96 x 96 or 64 x 64
pixels and 17 frames. `--resume FOLDER` goes on from the state_*.safetensors of an earlier run.

What the base knows, and why:

- Half of its clips are still, under prompts of many kinds, the empty one and the demo's own
  ("orbit <word>, the camera orbits around a red sphere and a blue cube") among them. So for the base
  the word "orbit" means nothing, and it answers the demo's prompts with a still camera.
- The other half move: a turntable either way at 34 to 56 degrees a second, and some zooms, under
  captions that begin with "turntable right", "turntable left", "zoom in", "zoom out". From these it
  learns how a scene looks from the side, which no LoRA could learn from eight clips.
- A LoRA trained on the demo's clips then has a fair task, the one that LoRAs of the large model have
  too: bind a trigger to one motion, at one speed, out of what the base can do, on scenes that neither
  the base nor the LoRA has seen.

Order: processes draw scenes while the VAE trains; the VAE's latent mean and deviation are measured;
clips are encoded; both experts train by flow matching, each on its side of the boundary; then
measurements on unseen scenes: PSNR of the VAE, camera angles of the base and with a quick LoRA.

Writes to --out: miniature/ (and miniature.tar of it), state_vae.safetensors, state_experts.safetensors
(float32, to go on from), metrics.json, sheet.png. `--smoke` runs all of it on a CPU in under a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tarfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel  # noqa: E402
from diffusers.models.autoencoders.autoencoder_kl_wan import WanRMS_norm  # noqa: E402
from miniature_learning import (  # noqa: E402
    LatentBank,
    LoraSettings,
    TimeBox,
    VaeLesson,
    convolve_frames_in_two_dimensions,
    decode,
    encode,
    encode_condition,
    encode_prompts,
    fill_bank,
    generate,
    measure_latents,
    psnr,
    train_expert,
    train_lora,
    train_vae,
    use_short_text,
)
from miniature_scenes import CLIP_FRAMES, FIRST_HELD_OUT_SEED, TrackLibrary, resized, to_pixels  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import T5TokenizerFast, UMT5EncoderModel  # noqa: E402

from trainer.model.miniature import MiniatureConfig, build_miniature  # noqa: E402
from wan_studio.services.demo_scenes import DEMO_DEGREES_PER_SECOND, demo_caption, demo_scene  # noqa: E402
from wan_studio.services.scene import Camera, Scene  # noqa: E402
from wan_studio.services.scene_angle import estimate_azimuths  # noqa: E402
from wan_studio.services.scene_renderer import orbit  # noqa: E402

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
DEGREES_A_CLIP = DEMO_DEGREES_PER_SECOND * (CLIP_FRAMES - 1) / 16.0
"""How far the demo's camera turns in a clip of 17 frames at 16 frames a second."""


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


@dataclass(slots=True)
class Parts:
    """The miniature in training, float32, on the device."""

    vae: AutoencoderKLWan
    high: WanTransformer3DModel
    low: WanTransformer3DModel
    tokenizer: T5TokenizerFast
    text: UMT5EncoderModel
    scheduler: UniPCMultistepScheduler

    @property
    def experts(self) -> tuple[WanTransformer3DModel, WanTransformer3DModel]:
        return self.high, self.low


def load_parts(folder: Path, device: torch.device) -> Parts:
    """Open a miniature's folder with the classes that the product uses."""
    return Parts(
        AutoencoderKLWan.from_pretrained(folder / "vae", torch_dtype=torch.float32).to(device),
        WanTransformer3DModel.from_pretrained(folder / "transformer", torch_dtype=torch.float32).to(device),
        WanTransformer3DModel.from_pretrained(folder / "transformer_2", torch_dtype=torch.float32).to(device),
        T5TokenizerFast.from_pretrained(folder / "tokenizer"),
        UMT5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).to(device).eval(),
        UniPCMultistepScheduler.from_pretrained(folder / "scheduler"),
    )


class Log:
    """Lines with the seconds since the start, on the terminal and in log.txt."""

    def __init__(self, out: Path) -> None:
        self._path, self._start = out / "log.txt", time.monotonic()

    def __call__(self, line: str) -> None:
        text = f"{time.monotonic() - self._start:6.1f} s  {line}"
        print(text, flush=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")


def main() -> int:
    """Run the whole of it."""
    arguments = read_arguments()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    plan = SMOKE if arguments.smoke else CPU if arguments.device == "cpu" else Plan()
    log = Log(out)
    library = TrackLibrary(plan.tracks, plan.size, min(os.cpu_count() or 2, 16))
    device = torch.device(arguments.device)
    torch.manual_seed(arguments.seed)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    parts = load_parts(build_miniature(out / "miniature", plan.config), device)
    convolve_frames_in_two_dimensions()
    for expert in parts.experts:
        use_short_text(expert)
    if arguments.resume:
        take_up(parts, arguments.resume)
    library.start_collecting(device)
    while len(library) < plan.first_tracks:
        time.sleep(0.1)
    log(f"{len(library)} scenes drawn; training starts")
    if arguments.compile_norms:
        WanRMS_norm.forward = torch.compile(WanRMS_norm.forward, dynamic=True)
    if arguments.channels_last:
        for weight in parts.vae.parameters():
            if weight.ndim == 5:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last_3d)
    metrics: dict[str, object] = {
        "minutes": arguments.minutes,
        "resumed": bool(arguments.resume),
        "plan": asdict(plan),
    }
    times = Times(
        arguments.vae_share * arguments.minutes * 60.0, (1.0 - arguments.vae_share) * arguments.minutes * 60.0
    )
    if arguments.vae_share > 0:
        learn_pictures(parts.vae, library, plan, times, log, metrics)
        write_state(parts, out)
    learn_motion(parts, library, plan, times, log, metrics)
    library.stop()
    write_state(parts, out)
    write_miniature(parts, out)
    log("written; measuring")
    measure(parts, plan, out, metrics)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2), encoding="utf-8")
    log(json.dumps(metrics["measured"]))
    return 0


def read_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the miniature that ships in resources/miniature.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--minutes", type=float, default=9.0, help="of training; measuring adds half a minute"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--resume", type=Path, help="folder with state_*.safetensors of an earlier run")
    parser.add_argument(
        "--vae-share", type=float, default=0.5, help="of the minutes; 0 keeps the resumed VAE"
    )
    parser.add_argument("--channels-last", action="store_true", help="memory layout of the VAE")
    parser.add_argument("--compile-norms", action="store_true", help="fuse the VAE's norms; needs a compiler")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="everything at toy size, to see that it runs")
    return parser.parse_args()


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds for the VAE and for all that follows it."""

    vae: float
    experts: float


def learn_pictures(
    vae: AutoencoderKLWan,
    library: TrackLibrary,
    plan: Plan,
    times: Times,
    log: Log,
    metrics: dict[str, object],
) -> None:
    """The VAE and the statistics of its latents."""

    def lesson_at(fraction: float) -> VaeLesson:
        # Frames first: they are cheap and teach shapes and colours. Full clips last.
        # A size keeps its batch: cuDNN measures its kernels anew for every new shape.
        small = torch.rand(()).item() < 0.4
        size, factor = (plan.small, 2) if small and plan.small < plan.size else (plan.size, 1)
        if fraction < plan.image_share:
            return VaeLesson(1, size, factor * plan.image_batch)
        if fraction < 0.85:
            return VaeLesson(9, size, factor * plan.clip_batch)
        return VaeLesson(CLIP_FRAMES, plan.size, plan.clip_batch)

    metrics["vae_steps"] = train_vae(
        vae, library, lesson_at, times.vae, log, resumed=bool(metrics["resumed"])
    )
    generator = np.random.default_rng(2)
    plans = [library.random_plans(generator, plan.clip_batch, CLIP_FRAMES) for _ in range(8)]
    measure_latents(vae, [library.cut(cuts, CLIP_FRAMES, plan.size) for cuts in plans])
    log(f"latents: mean {vae.config.latents_mean}, deviation {vae.config.latents_std}")


def learn_motion(
    parts: Parts, library: TrackLibrary, plan: Plan, times: Times, log: Log, metrics: dict[str, object]
) -> None:
    """Encoded clips, then both experts; the low one, which draws the details, gets more time."""
    captions: list[str] = []
    limit = (plan.bank, plan.clip_batch, 0.15 * times.experts)
    big = fill_bank(parts.vae, library, plan.size, captions, limit)
    lessons = [(big, plan.expert_batch)]
    if plan.small < plan.size:
        limit = (plan.bank // 2, 2 * plan.clip_batch, 0.05 * times.experts)
        small = fill_bank(parts.vae, library, plan.small, captions, limit)
        # Two lessons at the full size for one at the small.
        lessons = [*lessons, *lessons, (small, 2 * plan.expert_batch)]
    rows = encode_prompts(parts.tokenizer, parts.text, captions)
    metrics["scenes"], metrics["clips"] = len(library), len(captions)
    log(f"{len(captions)} clips encoded of {len(library)} scenes")
    low, high = TimeBox(0.46 * times.experts), 0.34 * times.experts
    metrics["low_steps"] = train_expert(parts.low, lessons, rows, low, log, high=False)
    metrics["high_steps"] = train_expert(parts.high, lessons, rows, TimeBox(high), log, high=True)


# ---- Files ------------------------------------------------------------------------------------


def write_state(parts: Parts, out: Path) -> None:
    """Float32 weights to go on from."""
    statistics = {
        "latents_mean": torch.tensor(parts.vae.config.latents_mean),
        "latents_std": torch.tensor(parts.vae.config.latents_std),
    }
    save_file({**on_cpu(parts.vae), **statistics}, out / "state_vae.safetensors")
    experts = {f"high.{name}": value for name, value in on_cpu(parts.high).items()}
    experts |= {f"low.{name}": value for name, value in on_cpu(parts.low).items()}
    save_file(experts, out / "state_experts.safetensors")


def on_cpu(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The module's weights, copied."""
    return {name: value.detach().cpu().clone().contiguous() for name, value in module.state_dict().items()}


def take_up(parts: Parts, folder: Path) -> None:
    """Load what `write_state` wrote."""
    weights = load_file(folder / "state_vae.safetensors")
    parts.vae.register_to_config(
        latents_mean=[round(value, 4) for value in weights.pop("latents_mean").tolist()],
        latents_std=[round(value, 4) for value in weights.pop("latents_std").tolist()],
    )
    parts.vae.load_state_dict(weights)
    experts = load_file(folder / "state_experts.safetensors")
    for prefix, expert in (("high.", parts.high), ("low.", parts.low)):
        expert.load_state_dict(
            {name.removeprefix(prefix): value for name, value in experts.items() if name.startswith(prefix)}
        )


def write_miniature(parts: Parts, out: Path) -> None:
    """The shipped folder in float16, and a tar of it (a lent machine gives back few files)."""
    folder = out / "miniature"
    for name, module in (
        ("vae", parts.vae),
        ("transformer", parts.high),
        ("transformer_2", parts.low),
        ("text_encoder", parts.text),
    ):
        copy = type(module).from_pretrained(folder / name)
        copy.load_state_dict(on_cpu(module))
        if name == "vae":
            copy.register_to_config(
                latents_mean=module.config.latents_mean, latents_std=module.config.latents_std
            )
        copy.half().save_pretrained(folder / name)
    with tarfile.open(out / "miniature.tar", "w") as tar:
        tar.add(folder, arcname="miniature")


# ---- Measurements -----------------------------------------------------------------------------


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
    for name, expert in (("high", parts.high), ("low", parts.low)):
        course = train_lora(expert, bank, rows, plan.lora, high=name == "high")
        tenth = max(len(course) // 10, 1)
        losses[name] = [float(np.mean(course[:tenth])), float(np.mean(course[-tenth:]))]
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


if __name__ == "__main__":
    sys.exit(main())
