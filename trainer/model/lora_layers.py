"""The layers that carry a LoRA: peft's own, with what they lack for training exactly and cheaply.

DoRA gains a strength, and LoKr gains dropout and a way to compute that never builds the whole change
of a weight. Every trained parameter is float32, whatever number type the base has.
"""

# R rank, I input width, O output width of a layer

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from peft import LoKrConfig, LoraConfig
from peft.tuners.lokr.layer import Linear as LoKrLinear
from peft.tuners.lokr.model import LoKrModel
from peft.tuners.lora.dora import DoraLinearLayer
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn
from torch.nn import functional

from trainer.model.frozen.linear import described_weights

ADAPTER = "default"
LOKR_PARTS = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")
MAGNITUDE = "lora_magnitude_vector"


class DoraMagnitude(DoraLinearLayer):
    """peft's DoRA with a strength.

    Attributes:
        strength: How much of the weight's change acts. peft scales the LoRA inside the decomposition
            instead, which at 0 still leaves the trained magnitudes.
    """

    strength: float = 1.0

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        """What DoRA adds to the base layer's output."""
        change = super().forward(x, **options)
        return change if self.strength == 1.0 else change * self.strength


class KroneckerLinear(LoKrLinear):
    """peft's LoKr, computed factor by factor.

    peft builds the whole change of the weight, in float32, at every pass; the two small factors one
    after the other give the same with a fraction of the memory and the work.

    Attributes:
        dropout: Share of the inputs dropped while training.
    """

    dropout: float = 0.0

    def _get_delta_activations(self, adapter_name: str, input: Tensor, *_: Any, **__: Any) -> Tensor:
        w1 = _factor(self, "lokr_w1", adapter_name)
        w2 = _factor(self, "lokr_w2", adapter_name)
        x = functional.dropout(self._cast_input_dtype(input, w1.dtype), self.dropout, self.training)
        # The Kronecker product of w1 and w2 on a vector is w1 X w2' on the vector laid out as a matrix.
        rows = functional.linear(x.unflatten(-1, (w1.shape[1], w2.shape[1])), w2)
        return (w1 @ rows).flatten(-2) * self.scaling[adapter_name]


class KroneckerModel(LoKrModel):
    """peft's way of putting LoKr into a model, with the layer above."""

    layers_mapping: ClassVar[dict[type[nn.Module], type[LoKrLinear]]] = {nn.Linear: KroneckerLinear}  # pyright: ignore[reportIncompatibleVariableOverride]


Layer = LoraLayer | KroneckerLinear


def put_lora(transformer: WanTransformer3DModel, config: LoraConfig, seed: int) -> None:
    """LoRA or DoRA on the config's targets: A Kaiming uniform, B zero, DoRA's magnitudes those of the base."""
    with torch.random.fork_rng(devices=[]), described_weights():
        transformer.add_adapter(config, ADAPTER)
    device = transformer.patch_embedding.weight.device
    generator = torch.Generator().manual_seed(seed)
    for _, layer in lora_layers(transformer):
        down, up = _half(layer, "lora_A"), _half(layer, "lora_B")
        # New parameters: peft has put its own into the base's number type.
        # On the device that computes: the frozen weights may lie in RAM.
        down.weight = _kaiming(down.weight, generator, device)
        up.weight = nn.Parameter(torch.zeros(up.weight.shape, device=device))
        if config.use_dora:
            magnitude = DoraMagnitude(fan_in_fan_out=False)
            magnitude.weight = nn.Parameter(row_norms(base_weight(layer)).to(device))
            getattr(layer, MAGNITUDE)[ADAPTER] = magnitude
        layer.eval()


def put_lokr(transformer: WanTransformer3DModel, config: LoKrConfig, seed: int, dropout: float) -> None:
    """LoKr on the config's targets: the first factor Kaiming uniform, the second zero."""
    with torch.random.fork_rng(devices=[]), described_weights():
        KroneckerModel(transformer, config, ADAPTER)
    device = transformer.patch_embedding.weight.device
    generator = torch.Generator().manual_seed(seed)
    for _, layer in lora_layers(transformer):
        parts = {name: getattr(layer, name) for name in LOKR_PARTS if ADAPTER in getattr(layer, name)}
        for name, holder in parts.items():
            old = holder[ADAPTER]
            # The larger factor, or its half, begins at zero: then all of it learns from the first step.
            begins_at_zero = name in ("lokr_w2", "lokr_w2_b")
            holder[ADAPTER] = (
                nn.Parameter(torch.zeros(old.shape, device=device))
                if begins_at_zero
                else _kaiming(old, generator, device)
            )
        layer.dropout = dropout
        layer.eval()


def lora_layers(transformer: WanTransformer3DModel) -> list[tuple[str, Any]]:
    """Layers with this program's adapter, by module path, in the model's order."""
    return [(path, module) for path, module in transformer.named_modules() if _is_ours(module)]


def named_parameters(transformer: WanTransformer3DModel) -> dict[str, nn.Parameter]:
    """The trained parameters by the names that they have in a LoRA's state."""
    named: dict[str, nn.Parameter] = {}
    for path, layer in lora_layers(transformer):
        if isinstance(layer, LoraLayer):
            for half in ("lora_A", "lora_B"):
                named[f"{path}.{half}.weight"] = _half(layer, half).get_parameter("weight")
            if ADAPTER in layer.lora_magnitude_vector:
                named[f"{path}.{MAGNITUDE}"] = layer.lora_magnitude_vector[ADAPTER].get_parameter("weight")
        else:
            for name in LOKR_PARTS:
                if ADAPTER in getattr(layer, name):
                    named[f"{path}.{name}"] = getattr(layer, name)[ADAPTER]
    return named


def get_strength(layer: Layer) -> float:
    """What the layer's change is multiplied with now."""
    magnitude = _magnitude(layer)
    return magnitude.strength if magnitude is not None else layer.scaling[ADAPTER]


def set_strength(layer: Layer, strength: float) -> None:
    """Multiply the layer's change with this from now on."""
    magnitude = _magnitude(layer)
    if magnitude is not None:
        magnitude.strength = strength
    else:
        layer.scaling[ADAPTER] = strength


def has_dropout(layer: Layer) -> bool:
    """Whether the layer drops inputs while training."""
    if isinstance(layer, KroneckerLinear):
        return layer.dropout > 0.0
    return isinstance(layer.lora_dropout[ADAPTER], nn.Dropout)


def carries_only_plain_lora(part: nn.Module) -> bool:
    """Whether every adapter in the part is a LoRA without dropout, or there is none."""
    adapters: list[Any] = [module for module in part.modules() if _is_ours(module)]
    return all(
        isinstance(layer, LoraLayer) and _magnitude(layer) is None and not has_dropout(layer)
        for layer in adapters
    )


def base_weight(layer: Layer) -> Tensor:
    """The frozen weight below the LoRA, (O, I), as a plain matrix where it lies."""
    # Not by get_parameter: a frozen linear's weight is none, but made when it is asked for.
    base: Any = layer.get_base_layer()
    return base.weight.detach()


def row_norms(weight_OI: Tensor, change_OI: Tensor | None = None) -> Tensor:
    """Length of each row of the weight, with a change added if there is one; float32, (O,)."""
    whole_OI = weight_OI.float() if change_OI is None else weight_OI.float() + change_OI.float()
    return torch.linalg.norm(whole_OI, dim=1)


def change_of(parts: Mapping[str, Tensor]) -> Tensor:
    """B A of a layer's LoRA, (O, I), unscaled."""
    return parts["lora_B"].float() @ parts["lora_A"].float()


def _is_ours(module: nn.Module) -> bool:
    if isinstance(module, LoraLayer):
        return ADAPTER in module.lora_A
    return isinstance(module, KroneckerLinear) and ADAPTER in module.scaling


def _half(layer: Any, half: str) -> nn.Linear:
    return getattr(layer, half)[ADAPTER]


def _magnitude(layer: Layer) -> DoraMagnitude | None:
    if isinstance(layer, KroneckerLinear) or ADAPTER not in layer.lora_magnitude_vector:
        return None
    magnitude: Any = layer.lora_magnitude_vector[ADAPTER]
    return magnitude


def _factor(layer: KroneckerLinear, name: str, adapter: str) -> Tensor:
    whole = getattr(layer, name)
    if adapter in whole:
        return whole[adapter]
    return getattr(layer, f"{name}_a")[adapter] @ getattr(layer, f"{name}_b")[adapter]


def _kaiming(like: Tensor, generator: torch.Generator, device: torch.device) -> nn.Parameter:
    """Kaiming uniform in float32, drawn on the CPU, so that every device begins alike."""
    drawn = nn.init.kaiming_uniform_(torch.empty(like.shape), a=math.sqrt(5), generator=generator)
    return nn.Parameter(drawn.to(device))
