"""Train the miniature that ships in resources/miniature, in the time that it is given; made for a GPU.

    python packaging/make_miniature.py --out build/miniature --minutes 9

What it makes: the real classes of Wan 2.2 I2V in small (`trainer.model.miniature`), in the diffusers
layout, float16, at most 12 MB, that animate a picture of a synthetic scene at 96 x 96 or 64 x 64
pixels and 17 frames. `--resume FOLDER` goes on from the state_*.safetensors of an earlier
run, or from a miniature such as resources/miniature; the VAE keeps its encoder then, so that the
experts still understand its latents, or with `--relearn-latents` all of it learns and the experts follow.

The one that ships was made so, out of one that an hour of a CPU had made, on an H100 with 16 cores:

    python packaging/make_miniature.py --out build/miniature --minutes 7.37 --resume resources/miniature
        --relearn-latents --vae-share 0.36 --still-share 0.3 --graphs --no-measures

What the base knows, and why:

- Two in five of its clips are still (`--still-share`), under prompts of many kinds, the empty one and the demo's own
  ("orbit <word>, the camera orbits around a red sphere and a blue cube") among them. So for the base
  the word "orbit" means nothing, and it answers the demo's prompts with a still camera.
- The others move: a turntable either way at 34 to 56 degrees a second, and some zooms, under
  captions that begin with "turntable right", "turntable left", "zoom in", "zoom out". From these it
  learns how a scene looks from the side, which no LoRA could learn from eight clips.
- A LoRA trained on the demo's clips then has a fair task, the one that LoRAs of the large model have
  too: bind a trigger to one motion, at one speed, out of what the base can do, on scenes that neither
  the base nor the LoRA has seen.

Order: processes draw scenes while the VAE trains; the VAE's latent mean and deviation are measured;
clips are encoded; one expert trains by flow matching at all times, then a copy of it on either side of
the boundary; then measurements on unseen scenes: the VAE's PSNR, camera angles of the base and with a
quick LoRA.

Writes to --out: miniature/ (and miniature.tar of it), state_vae.safetensors, state_experts.safetensors
(float32, to go on from), metrics.json, sheet.png. `--smoke` runs all of it on a CPU in about a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from miniature_experts import BankSpec, Side, encode_prompts, fill_bank, train_expert, use_short_text  # noqa: E402
from miniature_files import Parts, load_parts, take_up, write_miniature, write_state  # noqa: E402
from miniature_measures import measure  # noqa: E402
from miniature_plan import CPU, SMOKE, Plan  # noqa: E402
from miniature_scenes import CLIP_FRAMES, TrackLibrary  # noqa: E402
from miniature_steps import Habit  # noqa: E402
from miniature_vae import (  # noqa: E402
    TimeBox,
    VaeLesson,
    VaeStart,
    convolve_frames_in_two_dimensions,
    measure_latents,
    train_vae,
    use_fastest_layout,
)

from trainer.model.miniature import build_miniature  # noqa: E402

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan


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
    torch.backends.cudnn.benchmark_limit = 4  # kernels tried for a shape: there are hundreds of shapes
    parts = load_parts(build_miniature(out / "miniature", plan.config), device)
    convolve_frames_in_two_dimensions()
    for expert in parts.experts:
        use_short_text(expert)
    library.start_collecting(device)
    # The VAE learns while scenes are drawn; where it is done already, the experts wait for most of them.
    needed = plan.first_tracks if arguments.vae_share > 0 else 9 * plan.tracks // 10
    while len(library) < needed and arguments.minutes > 0:
        time.sleep(0.1)
    if arguments.resume:
        take_up(parts, arguments.resume)
    log(f"{len(library)} scenes drawn; training starts")
    metrics: dict[str, object] = {
        "minutes": arguments.minutes,
        "resumed": bool(arguments.resume),
        "plan": asdict(plan),
    }
    seconds = arguments.minutes * 60.0
    habit = Habit(graphs=arguments.graphs, quiet=library.quiet, report=log)
    start = VaeStart.FRESH
    if arguments.resume:
        start = VaeStart.ALL if arguments.relearn_latents else VaeStart.DECODER
    times = Times(
        arguments.vae_share * seconds, (1.0 - arguments.vae_share) * seconds, arguments.still_share, start
    )
    if times.vae > 0:
        learn_pictures(parts.vae, library, plan, times, habit, metrics)
        write_state(parts, out)
    if times.experts > 0:
        learn_motion(parts, library, plan, times, habit, metrics)
    library.stop()
    write_state(parts, out)
    write_miniature(parts, out)
    log("written")
    if not arguments.no_measures:
        measure(parts, plan, out, metrics)
        log(json.dumps(metrics["measured"]))
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2), encoding="utf-8")
    return 0


def read_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the miniature that ships in resources/miniature.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9.0, help="of training; 0 only writes and measures")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--resume", type=Path, help="output of an earlier run, or a miniature such as resources/miniature"
    )
    parser.add_argument(
        "--vae-share", type=float, default=0.5, help="of the minutes; 0 keeps the resumed VAE, 1 the experts"
    )
    parser.add_argument(
        "--still-share", type=float, default=0.4, help="of the clips that the experts learn from"
    )
    parser.add_argument(
        "--relearn-latents",
        action="store_true",
        help="let a resumed VAE's encoder learn on; the experts then learn its new latents",
    )
    parser.add_argument("--graphs", action="store_true", help="replay steps as CUDA graphs")
    parser.add_argument(
        "--no-measures", action="store_true", help="on a lent GPU: measure later, with --minutes 0"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="everything at toy size, to see that it runs")
    return parser.parse_args()


@dataclass(frozen=True, slots=True)
class Times:
    """Who learns for how long.

    Attributes:
        vae: Seconds for the VAE.
        experts: Seconds for all that follows it.
        still_share: Of the experts' clips.
        start: What the VAE brings along.
    """

    vae: float
    experts: float
    still_share: float
    start: VaeStart


def learn_pictures(
    vae: AutoencoderKLWan,
    library: TrackLibrary,
    plan: Plan,
    times: Times,
    habit: Habit,
    metrics: dict[str, object],
) -> None:
    """The VAE and the statistics of its latents."""

    def lesson_at(fraction: float) -> VaeLesson:
        # Frames first: they are cheap and teach shapes and colours. Full clips last.
        # A size keeps its batch: cuDNN measures its kernels anew for every new shape.
        small = torch.rand(()).item() < 0.4
        size, factor = (plan.small, 2) if small and plan.small < plan.size else (plan.size, 1)
        if fraction < (plan.image_share if times.start is VaeStart.FRESH else 0.0):
            return VaeLesson(1, size, factor * plan.image_batch)
        return VaeLesson(9 if fraction < 0.7 else CLIP_FRAMES, size, factor * plan.clip_batch)

    if next(vae.parameters()).is_cuda:
        use_fastest_layout(vae, VaeLesson(9, plan.size, 2 * plan.clip_batch), habit.report)
    metrics["vae_steps"] = train_vae(vae, library, lesson_at, times.vae, habit, times.start)
    if times.start is VaeStart.DECODER:
        return
    generator = np.random.default_rng(2)
    plans = [library.random_plans(generator, plan.clip_batch, CLIP_FRAMES) for _ in range(8)]
    measure_latents(vae, [library.cut(cuts, CLIP_FRAMES, plan.size) for cuts in plans])
    habit.report(f"latents: mean {vae.config.latents_mean}, deviation {vae.config.latents_std}")


def learn_motion(
    parts: Parts, library: TrackLibrary, plan: Plan, times: Times, habit: Habit, metrics: dict[str, object]
) -> None:
    """Encoded clips, then the experts: one for both sides, whose copies part ways at the end."""
    captions: list[str] = []
    spec = BankSpec(plan.size, plan.bank, 2 * plan.clip_batch, 0.15 * times.experts, times.still_share)
    lessons = [(fill_bank(parts.vae, library, captions, spec), plan.expert_batch)]
    if plan.small < plan.size:
        spec = replace(
            spec, size=plan.small, count=plan.bank // 2, batch=4 * plan.clip_batch, seconds=spec.seconds / 3.0
        )
        lessons.append((fill_bank(parts.vae, library, captions, spec), 2 * plan.expert_batch))
    rows = encode_prompts(parts.tokenizer, parts.text, captions)
    metrics["scenes"], metrics["clips"] = len(library), len(captions)
    habit.report(f"{len(captions)} clips encoded of {len(library)} scenes")
    # What both experts need is learned once; then each refines it on its own side.
    shared = TimeBox(0.50 * times.experts)
    metrics["shared_steps"] = train_expert(parts.low, lessons, rows, shared, habit, Side.BOTH)
    parts.high.load_state_dict(parts.low.state_dict())
    low = TimeBox(0.18 * times.experts)
    metrics["low_steps"] = train_expert(parts.low, lessons, rows, low, habit, Side.LOW)
    high = TimeBox(0.14 * times.experts)
    metrics["high_steps"] = train_expert(parts.high, lessons, rows, high, habit, Side.HIGH)


if __name__ == "__main__":
    sys.exit(main())
