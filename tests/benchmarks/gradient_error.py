"""What storing the frozen base in fewer bits does to the gradient of a whole step at the real shape; run by hand.

python tests/benchmarks/gradient_error.py [--modes float8_compute,nf4] [--width 512 --height 512 --frames 41]

One expert with Gaussian weights (deviation 0.02), LoRA of rank 16 with both halves random, the same input (all of its
channels noise: a plain mask instead makes the tokens weaker and every mode's error larger), text and target for every mode; the base in bfloat16 is what they are compared with, and it is run twice. Gaussian weights have
no outliers, which flatters 4 bits: `trainer measure --errors` makes harder ones, of fewer blocks.
"""

# B batch, C channels, T latent frames, H/W latent height and width, S text tokens, D width of the text

import argparse
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

# Before torch is loaded: as the trainer does it.
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor
from torch.nn import functional

from trainer.model.assemble import Assembly, assemble_expert, serve
from trainer.model.expert_plan import ExpertPlan
from trainer.model.lora import LoraSettings, add_lora, lora_parameters
from trainer.model.random_base import RandomSource
from trainer.protocol.job import Expert
from trainer.recipes.measure_floor import TEXT_TOKENS
from trainer.runtime.device import choose_device, compute_dtype, device_name, release_memory

DEVIATION = 0.02
TIMESTEP = 500.0


class Found(NamedTuple):
    """What one pass gave: the prediction (B, 16, T, H, W) and all LoRA gradients as one vector, float32."""

    prediction: Tensor
    gradient_N: Tensor


def main() -> None:
    """Measure and print, each mode as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modes", default="float8,float8_compute,nf4")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument("--frames", type=int, default=41)
    parser.add_argument("--layers", type=int, default=40)
    parser.add_argument("--gpu", type=int, default=0)
    options = parser.parse_args()
    device = choose_device(options.gpu)
    print(f"torch {torch.__version__}, {device_name(device)}, {options.layers} blocks", flush=True)
    right = step(options, "none", device)
    print("| stored as | prediction | LoRA gradient | its cosine |\n|---|---|---|---|", flush=True)
    for mode in ("none", *options.modes.split(",")):
        found = step(options, mode, device)
        name = "bf16, once more" if mode == "none" else mode
        cosine = functional.cosine_similarity(found.gradient_N.double(), right.gradient_N.double(), dim=0)
        print(
            f"| {name} | {distance(found.prediction, right.prediction):.2%} | "
            f"{distance(found.gradient_N, right.gradient_N):.2%} | {float(cosine):.5f} |",
            flush=True,
        )


def step(options: argparse.Namespace, mode: Any, device: torch.device) -> Found:
    """One forward and backward pass with the base stored in a mode; all random numbers are the same each time."""
    plan = ExpertPlan(mode=mode, compiled=device.type == "cuda")
    source = RandomSource(device, options.layers)
    made = assemble_expert(source, Assembly(plan, device, compute_dtype(device)))
    add_lora(made.transformer, LoraSettings(rank=16), seed=0)
    parameters = lora_parameters(made.transformer)
    generator = torch.Generator(device).manual_seed(3)
    with torch.no_grad():
        for one in parameters:
            # Up halves begin at zero, and the gradient of the down halves would be none.
            if not one.any():
                one.normal_(0.0, DEVIATION, generator=generator)
    serve({Expert.HIGH: made}, plan, device, print)
    latent_frames = (options.frames - 1) // 4 + 1
    shape = (1, 16, latent_frames, options.height // 8, options.width // 8)

    def drawn(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=generator, device=device)

    input_BCTHW, target_BCTHW = drawn(1, source.config["in_channels"], *shape[2:]), drawn(*shape)
    text_BSD = drawn(1, TEXT_TOKENS, source.config["text_dim"])
    dtype = compute_dtype(device)
    predicted_BCTHW = made.transformer(
        hidden_states=input_BCTHW.to(dtype),
        timestep=torch.full((1,), TIMESTEP, device=device),
        encoder_hidden_states=text_BSD.to(dtype),
        return_dict=False,
    )[0]
    functional.mse_loss(predicted_BCTHW.float(), target_BCTHW).backward()
    gradients = [one.grad.float().flatten() for one in parameters if one.grad is not None]
    found = Found(predicted_BCTHW.detach().float(), torch.cat(gradients))
    del made, parameters, predicted_BCTHW
    release_memory()
    return found


def distance(found: Tensor, right: Tensor) -> float:
    """Relative to the right one, as norms."""
    return float((found - right).norm() / right.norm())


if __name__ == "__main__":
    main()
