"""LoRA on the experts, by peft: where it sits, how it begins, and its weights by name."""

# Names are the diffusers module path plus lora_A or lora_B, e.g. "blocks.0.attn1.to_q.lora_A.weight".

import math
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from peft import LoraConfig
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn

from trainer.errors import TrainerError

ADAPTER = "default"
TARGETS = r"blocks\.\d+\.(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ffn\.net\.(0\.proj|2))"
"""The ten linears of a block: both attentions' four and the feed-forward's two."""


class LoraStateError(TrainerError):
    """LoRA weights that do not belong to this model or this rank."""

    kind = "lora_state"

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"The LoRA weights do not fit this model: {problem}.",
            "Use weights that were trained on the same base model with the same rank.",
        )


def add_lora(transformer: WanTransformer3DModel, rank: int, alpha: float, seed: int) -> None:
    """Put a LoRA of strength alpha / rank on every target; its output is that of the base until trained.

    The weights are float32 whatever the base has, and depend on the seed alone: neither on the
    global generators, which are left as they were, nor on the device.

    Args:
        transformer: Changed in place; its own weights are frozen.
        rank: At least 1.
        alpha: Above 0.
        seed: Of the random half (A, Kaiming uniform); B begins at zero.
    """
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=TARGETS, init_lora_weights=False)  # pyright: ignore[reportArgumentType]
    with torch.random.fork_rng(devices=[]):
        transformer.add_adapter(config, ADAPTER)
    generator = torch.Generator().manual_seed(seed)
    for _, layer in _lora_layers(transformer):
        down, up = _half(layer, "lora_A"), _half(layer, "lora_B")
        first = nn.init.kaiming_uniform_(torch.empty(down.weight.shape), a=math.sqrt(5), generator=generator)
        # New parameters: peft has put its own into the base's number type.
        down.weight = nn.Parameter(first.to(down.weight.device))
        up.weight = nn.Parameter(torch.zeros_like(up.weight, dtype=torch.float32))


def lora_parameters(transformer: WanTransformer3DModel) -> list[nn.Parameter]:
    """The weights to train, in the order of `lora_state`."""
    return list(_named_parameters(transformer).values())


def lora_state(transformer: WanTransformer3DModel) -> dict[str, Tensor]:
    """Copies of the LoRA's weights, float32 on the CPU, by name."""
    return {
        name: parameter.detach().to("cpu", torch.float32, copy=True)
        for name, parameter in _named_parameters(transformer).items()
    }


def load_lora_state(transformer: WanTransformer3DModel, state: Mapping[str, Tensor]) -> None:
    """Give the LoRA the weights of a state; nothing is changed if any of them does not fit.

    Raises:
        LoraStateError: a name is missing or unknown, or a shape is another.
    """
    parameters = _named_parameters(transformer)
    if missing := sorted(parameters.keys() - state.keys()):
        raise LoraStateError(f"{len(missing)} weights are missing, first {missing[0]}")
    if unknown := sorted(state.keys() - parameters.keys()):
        raise LoraStateError(f"{len(unknown)} weights are unknown, first {unknown[0]}")
    for name, parameter in parameters.items():
        if state[name].shape != parameter.shape:
            raise LoraStateError(
                f"{name} has the shape {tuple(state[name].shape)} instead of {tuple(parameter.shape)}"
            )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state[name])


@contextmanager
def lora_disabled(transformer: WanTransformer3DModel) -> Generator[None]:
    """Compute with the base alone, bit for bit; a transformer without LoRA is left as it is.

    With gradient checkpointing, a backward pass through what was computed here belongs inside too:
    it computes the forward pass again.
    """
    layers = [layer for _, layer in _lora_layers(transformer)]
    parameters = list(_named_parameters(transformer).values())
    trained = [parameter.requires_grad for parameter in parameters]
    enabled = [not layer.disable_adapters for layer in layers]
    try:
        for layer in layers:
            layer.enable_adapters(enabled=False)
        yield
    finally:
        for layer, was_enabled in zip(layers, enabled, strict=True):
            layer.enable_adapters(enabled=was_enabled)
        # peft sets this too when it switches adapters; here it comes back as it was.
        for parameter, was_trained in zip(parameters, trained, strict=True):
            parameter.requires_grad_(was_trained)


@contextmanager
def lora_strength(transformer: WanTransformer3DModel, strength: float) -> Generator[None]:
    """Compute with the LoRA at that many times its strength; contexts inside each other multiply.

    With gradient checkpointing, a backward pass through what was computed here belongs inside too:
    it computes the forward pass again.
    """
    layers = [layer for _, layer in _lora_layers(transformer)]
    scalings = [layer.scaling[ADAPTER] for layer in layers]
    try:
        for layer, scaling in zip(layers, scalings, strict=True):
            layer.scaling[ADAPTER] = scaling * strength
        yield
    finally:
        for layer, scaling in zip(layers, scalings, strict=True):
            layer.scaling[ADAPTER] = scaling


def lora_target_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """(out, in) of every linear that gets a LoRA, by module path, from an expert's config alone.

    Args:
        config: From `expert_config`.

    Raises:
        LoraStateError: the config makes no Wan transformer.
    """
    try:
        with torch.device("meta"):
            transformer: Any = WanTransformer3DModel.from_config(dict(config))
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise LoraStateError(f"its config makes no transformer ({error})") from error
    return {
        path: (module.out_features, module.in_features)
        for path, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and re.fullmatch(TARGETS, path)
    }


def _lora_layers(transformer: WanTransformer3DModel) -> list[tuple[str, LoraLayer]]:
    """Layers with this program's adapter, by module path, in the model's order."""
    return [
        (path, module)
        for path, module in transformer.named_modules()
        if isinstance(module, LoraLayer) and ADAPTER in module.lora_A
    ]


def _half(layer: LoraLayer, half: str) -> nn.Linear:
    return getattr(layer, half)[ADAPTER]


def _named_parameters(transformer: WanTransformer3DModel) -> dict[str, nn.Parameter]:
    return {
        f"{path}.{half}.weight": _half(layer, half).get_parameter("weight")
        for path, layer in _lora_layers(transformer)
        for half in ("lora_A", "lora_B")
    }
