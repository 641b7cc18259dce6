"""A training step of ours against one of musubi-tuner; run by hand, with a checkout of it.

python tests/benchmarks/against_musubi.py --checkout MUSUBI_TUNER [--swap 0,36]

Its WanModel, float8 weights (fp8_scaled), block swap and LoRA network, put together as its trainer does it for
the task i2v-A14B with --fp8_scaled --gradient_checkpointing --sdpa --mixed_precision bf16.
"""

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any

# Before torch is loaded, and the same for both sides: as the trainer does it.
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
os.environ.setdefault("TQDM_DISABLE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from accelerate import init_empty_weights
from comparison import CONDITION_CHANNELS, Peer, comparison_of, draw_weights, names_of, parser_of, trained
from torch import Tensor

from trainer.model.a14b_config import A14B_I2V_CONFIG

WEIGHTS = ("fp8_scaled", "bf16")
SWAPS = {"pinned": (True, False), "h2d_only": (True, True), "staged": (False, False)}
"""Its ways to swap blocks: RAM that is pinned, and weights that only come and never go back."""


def build(device: torch.device, options: argparse.Namespace, weights: str, swap: int) -> Peer:
    """musubi-tuner's model with its LoRA network."""
    model = frozen_model(device, options.layers, weights)
    if swap:
        swap_blocks(model, device, swap, options.swap_kind)
    parameters = add_lora(model, device, options.rank)
    if swap:
        model.move_to_device_except_swap_blocks(device)
        model.prepare_block_swap_before_forward()
    latent_channels = A14B_I2V_CONFIG["out_channels"]

    def predict(
        noisy_BCTHW: Tensor, condition_BCTHW: Tensor, timesteps_B: Tensor, text_BSD: Tensor
    ) -> Tensor:
        assert noisy_BCTHW.shape[1] == latent_channels
        assert condition_BCTHW.shape[1] == CONDITION_CHANNELS
        _, _, frames, height, width = noisy_BCTHW.shape
        # Its trainer wants gradients of the inputs, too, and hands everything over in the LoRA's type.
        texts = [one.float().requires_grad_() for one in text_BSD]
        with torch.autocast(device.type, torch.bfloat16):
            found = model(
                noisy_BCTHW.detach().requires_grad_(),
                t=timesteps_B,
                context=texts,
                clip_fea=None,
                seq_len=frames * height * width // 4,
                y=condition_BCTHW.detach().requires_grad_(),
            )
        return torch.stack(found, 0)

    return Peer(predict, parameters)


def frozen_model(device: torch.device, layers: int, weights: str) -> Any:
    """Its model of the real shape, with random weights stored as its loader does it."""
    from musubi_tuner.modules.fp8_optimization_utils import (
        apply_fp8_monkey_patch,
        optimize_state_dict_with_fp8,
    )
    from musubi_tuner.wan.modules import model as wan

    config = A14B_I2V_CONFIG
    with init_empty_weights():
        model = wan.WanModel(
            model_type="i2v",
            model_version="2.2",
            dim=config["num_attention_heads"] * config["attention_head_dim"],
            ffn_dim=config["ffn_dim"],
            freq_dim=config["freq_dim"],
            text_dim=config["text_dim"],
            in_dim=config["in_channels"],
            out_dim=config["out_channels"],
            num_heads=config["num_attention_heads"],
            num_layers=layers,
            attn_mode="torch",
        )
    # A CPU has no autocast to float32, with which its time embedding is computed.
    drawn = draw_weights(model, device, torch.bfloat16 if device.type == "cuda" else torch.float32)
    if weights == "fp8_scaled":
        drawn = optimize_state_dict_with_fp8(
            drawn, None, wan.FP8_OPTIMIZATION_TARGET_KEYS, wan.FP8_OPTIMIZATION_EXCLUDE_KEYS
        )
        apply_fp8_monkey_patch(model, drawn, use_scaled_mm=False)
    model.load_state_dict(drawn, strict=True, assign=True)
    return model.eval().requires_grad_(False)


def swap_blocks(model: Any, device: torch.device, count: int, kind: str) -> None:
    """Let `count` blocks wait in RAM."""
    from musubi_tuner.modules.custom_offloading_utils import BlockSwapConfig

    pinned, h2d_only = SWAPS[kind]
    model.to("cpu")
    model.enable_block_swap(
        count,
        BlockSwapConfig(device=device, supports_backward=True, use_pinned_memory=pinned, h2d_only=h2d_only),
    )
    model.move_to_device_except_swap_blocks(device)


def add_lora(model: Any, device: torch.device, rank: int) -> list[torch.nn.Parameter]:
    """Its LoRA network on every linear of the blocks, and its checkpointing."""
    from musubi_tuner.networks import lora_wan

    network = lora_wan.create_arch_network(1.0, rank, rank, None, None, model)
    network.apply_to(None, model, apply_text_encoder=False, apply_unet=True)
    model.enable_gradient_checkpointing(False)
    network.enable_gradient_checkpointing()
    network.to(device)
    model.train()
    network.prepare_grad_etc(model)
    return trained(network)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--checkout", type=Path, required=True, help="of musubi-tuner, the folder with src/")
    parser.add_argument("--weights", default="fp8_scaled", help=", ".join(WEIGHTS))
    parser.add_argument("--swap", default="0", help="blocks that wait in RAM, like 0,20,36")
    parser.add_argument("--swap-kind", default="pinned", choices=SWAPS, help="how they come back")
    options = parser.parse_args()
    names_of(options.weights, WEIGHTS)
    sys.path.insert(1, str(options.checkout.resolve() / "src"))
    # It says at every import and layer what it does.
    logging.disable(logging.WARNING)
    comparison = comparison_of(options)
    swaps = [int(one) for one in options.swap.split(",")]
    if comparison.device.type == "cpu":
        if any(swaps):
            raise SystemExit("musubi-tuner swaps blocks only where there is a GPU: leave --swap out.")
        # Its text encoder, which is imported with its model, asks for the current GPU when it is defined.
        torch.cuda.current_device = lambda: 0
    for weights in names_of(options.weights, WEIGHTS):
        for swap in swaps:
            name = f"musubi-tuner {weights}" + (
                f", {swap} blocks swapped ({options.swap_kind})" if swap else ""
            )
            comparison.measure_peer(
                name,
                lambda weights=weights, swap=swap: build(comparison.device, options, weights, swap),
            )
    comparison.measure_ours()
    comparison.say_table()


if __name__ == "__main__":
    main()
