"""A training step of ours against one of diffusers with peft; run by hand.

python tests/benchmarks/against_diffusers.py [--sizes 512,768] [--compiled]

diffusers' WanTransformer3DModel in bfloat16 (float32 where diffusers keeps it), peft's LoRA in float32,
autocast, every block checkpointed; with --compiled its blocks are compiled as well, each size for itself.
"""

import os
import sys
from pathlib import Path
from typing import Any

# Before torch is loaded, and the same for both sides: as the trainer does it.
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from accelerate import init_empty_weights
from comparison import Peer, comparison_of, draw_weights, parser_of, trained
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from peft import LoraConfig
from torch import Tensor

from trainer.model.a14b_config import A14B_I2V_CONFIG

LINEARS = ["to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"]
SHAPES_COMPILED = 64


def build(device: torch.device, layers: int, rank: int, *, compiled: bool) -> Peer:
    """diffusers' model with peft's LoRA."""
    model = frozen_model(device, layers)
    model.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=LINEARS))
    parameters = trained(model)
    for one in parameters:
        one.data = one.data.float()
    model.enable_gradient_checkpointing()
    model.train()
    if compiled:
        allow_shapes()
        model.compile_repeated_blocks(dynamic=False)

    def predict(
        noisy_BCTHW: Tensor, condition_BCTHW: Tensor, timesteps_B: Tensor, text_BSD: Tensor
    ) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            predicted = model(
                hidden_states=torch.cat([noisy_BCTHW, condition_BCTHW], 1).bfloat16(),
                timestep=timesteps_B,
                encoder_hidden_states=text_BSD,
                return_dict=False,
            )[0]
        if compiled and predicted.requires_grad:
            predicted.register_hook(lambda _: allow_shapes())
        return predicted

    return Peer(predict, parameters)


def frozen_model(device: torch.device, layers: int) -> Any:
    """The model in the number types that diffusers loads it in, with random weights."""
    maker: Any = WanTransformer3DModel
    with init_empty_weights():
        model = maker.from_config(A14B_I2V_CONFIG | {"num_layers": layers})
    weights = draw_weights(model, device, torch.bfloat16)
    kept = set(maker._keep_in_fp32_modules or ())
    for name in weights:
        if kept & set(name.split(".")):
            weights[name] = weights[name].float()
    model.load_state_dict(weights, strict=False, assign=True)
    # What is left are tables of rotations, which are buffers.
    return model.to(device).requires_grad_(False)


def allow_shapes() -> None:
    """Let torch compile a block for every size.

    The limit belongs to a thread, and checkpointed blocks run again in autograd's: there it is called by a
    hook, before the first block's turn.
    """
    config: Any = torch._dynamo.config
    config.recompile_limit = config.accumulated_recompile_limit = SHAPES_COMPILED


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--compiled", action="store_true", help="also diffusers with compiled blocks")
    options = parser.parse_args()
    comparison = comparison_of(options)
    for compiled in [False, True] if options.compiled else [False]:
        name = "diffusers and peft" + (", blocks compiled" if compiled else "")
        comparison.measure_peer(
            name,
            lambda compiled=compiled: build(
                comparison.device, options.layers, options.rank, compiled=compiled
            ),
        )
        if compiled:
            torch.compiler.reset()
    comparison.measure_ours()
    comparison.say_table()


if __name__ == "__main__":
    main()
