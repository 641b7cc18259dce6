"""A training step of ours against one of ai-toolkit; run by hand, with a checkout of it.

python tests/benchmarks/against_ai_toolkit.py --checkout AI_TOOLKIT [--switch]

Its way to quantize diffusers' model (block by block, everything in bfloat16), its LoRA network in float32 and
diffusers' checkpointing, put together as its trainer does it for wan22_14b_i2v. With --switch also what its
setting low_vram does whenever the expert changes: one expert to the RAM and back.
"""

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import time
import types
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

# Before torch is loaded, and the same for both sides: as the trainer does it.
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from accelerate import init_empty_weights
from comparison import Peer, comparison_of, draw_weights, names_of, parser_of, say, trained
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor

from trainer.model.a14b_config import A14B_I2V_CONFIG
from trainer.runtime.device import release_memory

WEIGHTS = ("qfloat8", "uint4", "float8", "bf16")
NOT_QUANTIZED = ["condition_embedder*", "proj_out*"]
"""What its base class for Wan 2.2 leaves as it is."""
SWITCHES = 2


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Empty modules for what the peer imports and this machine lacks: pictures, sound, other model families.

    Only for imports in the peer's own files, and only asked after everything that is installed.
    """

    def __init__(self, checkout: Path) -> None:
        self._checkout, self._here = str(checkout), __file__
        self.names: list[str] = []

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        top = name.partition(".")[0]
        if top == "toolkit" or not (top in self.names or self._asked_by_peer()):
            return None
        self.names.append(name)
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> types.ModuleType:
        module = _StandIn(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Leave it empty."""

    def _asked_by_peer(self) -> bool:
        frame = sys._getframe(2)
        while frame and ("importlib" in frame.f_code.co_filename or frame.f_code.co_filename == self._here):
            frame = frame.f_back
        return frame is not None and frame.f_code.co_filename.startswith(self._checkout)


class _StandIn(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock()


class Base:
    """What the peer's network asks of the base model that it belongs to."""

    arch = "wan22_14b_i2v"
    use_old_lokr_format = False

    def get_transformer_block_names(self) -> list[str]:
        return ["blocks"]


def build(device: torch.device, options: argparse.Namespace, weights: str) -> Peer:
    """ai-toolkit's quantized model with its LoRA network."""
    model = frozen_model(device, options.layers, weights)
    kinds = Counter(type(one).__name__ for one in model.blocks.modules() if isinstance(one, torch.nn.Linear))
    say(f"ai-toolkit {weights}: linears of the blocks are {dict(kinds)}")
    network = add_lora(model, device, options.rank)
    model.enable_gradient_checkpointing()
    model.train()

    def predict(
        noisy_BCTHW: Tensor, condition_BCTHW: Tensor, timesteps_B: Tensor, text_BSD: Tensor
    ) -> Tensor:
        assert network.is_active
        return model(
            hidden_states=torch.cat([noisy_BCTHW, condition_BCTHW], 1).bfloat16().requires_grad_(),
            timestep=timesteps_B,
            encoder_hidden_states=text_BSD,
            return_dict=False,
        )[0]

    return Peer(predict, trained(network))


def frozen_model(device: torch.device, layers: int, weights: str) -> Any:
    """diffusers' model of the real shape, all of it in bfloat16, quantized as quantize_model() does it."""
    from optimum.quanto import freeze
    from toolkit.util.quantize import get_qtype, quantize

    maker: Any = WanTransformer3DModel
    with init_empty_weights():
        model = maker.from_config(A14B_I2V_CONFIG | {"num_layers": layers})
    model.load_state_dict(draw_weights(model, device, torch.bfloat16), strict=False, assign=True)
    # What is left are tables of rotations, which are buffers.
    model.to(device).requires_grad_(False)
    if weights == "bf16":
        return model
    kind = get_qtype(weights)
    for part in (*model.blocks, model):
        quantize(part, weights=kind, exclude=NOT_QUANTIZED)
        freeze(part)
    release_memory()
    return model


def add_lora(model: Any, device: torch.device, rank: int) -> Any:
    """Its LoRA network on every linear of the blocks."""
    from toolkit.config_modules import NetworkConfig
    from toolkit.lora_special import LoRASpecialNetwork

    base = Base()
    network = LoRASpecialNetwork(
        text_encoder=None,
        unet=model,
        lora_dim=rank,
        multiplier=1.0,
        alpha=rank,
        train_unet=True,
        train_text_encoder=False,
        network_config=NetworkConfig(type="lora", linear=rank, linear_alpha=rank),
        network_type="lora",
        transformer_only=True,
        is_transformer=True,
        base_model=base,
        target_lin_modules=["WanTransformer3DModel"],
    )
    # It refers to the base only weakly.
    network.__dict__["base"] = base
    network.force_to(device, dtype=torch.float32)
    network._update_torch_multiplier()
    network.apply_to(None, model, False, True)
    network.can_merge_in = False
    network.prepare_grad_etc(None, model)
    network.is_active = True
    network.train()
    return network


def say_switches(device: torch.device, layers: int, weights: str) -> None:
    """Seconds to send the expert to the RAM and to bring it back, which a switch of experts costs."""
    model = frozen_model(device, layers, weights)
    for _ in range(SWITCHES):
        seconds = []
        for place in (torch.device("cpu"), device):
            _wait(device)
            began = time.perf_counter()
            model.to(place)
            _wait(device)
            seconds.append(time.perf_counter() - began)
        say(f"ai-toolkit {weights}: expert to the RAM {seconds[0]:.2f} s, and back {seconds[1]:.2f} s")


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument(
        "--checkout", type=Path, required=True, help="of ai-toolkit, the folder with toolkit/"
    )
    parser.add_argument("--weights", default="qfloat8", help=", ".join(WEIGHTS))
    parser.add_argument("--switch", action="store_true", help="also the cost of a switch of experts")
    options = parser.parse_args()
    all_weights = names_of(options.weights, WEIGHTS)
    if "float8" in all_weights and importlib.util.find_spec("torchao") is None:
        raise SystemExit("ai-toolkit's float8 needs torchao, which is not installed.")
    checkout = options.checkout.resolve()
    sys.path.insert(1, str(checkout))
    stand_ins = StandIns(checkout)
    sys.meta_path.append(stand_ins)
    comparison = comparison_of(options)
    for weights in all_weights:
        comparison.measure_peer(
            f"ai-toolkit {weights}", lambda weights=weights: build(comparison.device, options, weights)
        )
        if options.switch:
            say_switches(comparison.device, options.layers, weights)
            release_memory()
    sys.meta_path.remove(stand_ins)
    if stand_ins.names:
        say(f"not installed, and stood in for: {', '.join(sorted(set(stand_ins.names)))}")
    comparison.measure_ours()
    comparison.say_table()


if __name__ == "__main__":
    main()
