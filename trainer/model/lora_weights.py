"""A LoRA's weights by name, to save them, to write them to files, and to start from files.

Names are the diffusers module path plus the part: ``blocks.0.attn1.to_q.lora_A.weight``,
``blocks.0.attn1.to_q.lora_magnitude_vector``, ``blocks.0.attn1.to_q.lokr_w1``.

DoRA's magnitudes have two meanings. Training, peft and diffusers set the length of each row of the
changed weight: W' = m (W + D) / |W + D|. ComfyUI divides by the length of the unchanged one:
W' = d (W + D) / |W|. Both are the same weight when d = m |W| / |W + D|, which takes the base to compute.
"""

# R rank, I input width, O output width of a layer; D is the LoRA's change, scale B A

import math
from collections.abc import Callable, Mapping

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor, nn

from trainer.errors import TrainerError
from trainer.model.lora_layers import (
    ADAPTER,
    MAGNITUDE,
    Layer,
    base_weight,
    change_of,
    lora_layers,
    named_parameters,
    row_norms,
)

COMFY_SCALE = "dora_scale"
_RESIZE_HINT = "Resize the file first: python -m trainer lora resize --rank {rank} OLD_FILE NEW_FILE."

WeightOf = Callable[[str], Tensor]
"""Gives the base's weight (O, I) of a module path."""


class LoraStateError(TrainerError):
    """LoRA weights that do not belong to this model or this rank."""

    kind = "lora_state"

    def __init__(
        self,
        problem: str,
        hint: str = "Use weights that were trained on the same base model with the same rank.",
    ) -> None:
        super().__init__(f"The LoRA weights do not fit this model: {problem}.", hint)


def lora_parameters(transformer: WanTransformer3DModel) -> list[nn.Parameter]:
    """The weights to train, in the order of `lora_state`."""
    return list(named_parameters(transformer).values())


def lora_state(transformer: WanTransformer3DModel) -> dict[str, Tensor]:
    """Copies of the LoRA's weights, float32 on the CPU, by name."""
    return {
        name: parameter.detach().to("cpu", torch.float32, copy=True)
        for name, parameter in named_parameters(transformer).items()
    }


def load_lora_state(transformer: WanTransformer3DModel, state: Mapping[str, Tensor]) -> None:
    """Give the LoRA the weights of a state; nothing is changed if any of them does not fit.

    Raises:
        LoraStateError: a name is missing or unknown, or a shape is another.
    """
    parameters = named_parameters(transformer)
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


def lora_file_state(transformer: WanTransformer3DModel, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A training state with everything that a file of any format needs.

    Args:
        transformer: Carries the LoRA; its base's weights and its scale are used, not its LoRA's.
        state: From `lora_state`, or averages of such states.
    """
    layers = dict(lora_layers(transformer))
    scale = next((layer.scaling[ADAPTER] for layer in layers.values()), 1.0)
    return complete_dora(state, lambda path: base_weight(layers[path]), scale)


def complete_dora(state: Mapping[str, Tensor], weight_of: WeightOf, scale: float = 1.0) -> dict[str, Tensor]:
    """A state in which each DoRA layer has its magnitudes in both meanings; others stay as they are.

    Args:
        state: From `lora_state` or a LoRA file.
        weight_of: The base's weights.
        scale: alpha / rank with which the state's LoRA acts; 1 for what was read from a file.
    """
    complete = dict(state)
    for path, parts in _modules_of(state).items():
        if (MAGNITUDE in parts) == (COMFY_SCALE in parts):
            continue
        weight_OI = weight_of(path)
        change_OI = change_of(parts).to(weight_OI.device) * scale
        # How much longer each row became.
        ratio_O = (row_norms(weight_OI, change_OI) / row_norms(weight_OI)).cpu()
        if MAGNITUDE in parts:
            complete[f"{path}.{COMFY_SCALE}"] = (parts[MAGNITUDE].cpu() / ratio_O)[:, None]
        else:
            complete[f"{path}.{MAGNITUDE}"] = _rows(path, parts[COMFY_SCALE].cpu(), len(ratio_O)) * ratio_O
    return complete


def start_from(transformer: WanTransformer3DModel, state: Mapping[str, Tensor]) -> int:
    """Begin with the weights of a LoRA file instead of anew.

    Layers that the file lacks keep their fresh start. A plain LoRA can also start a DoRA, which then
    is the same change until it is trained. Nothing is changed if anything does not fit.

    Args:
        transformer: With its LoRA on it.
        state: As a LoRA file is read: in module paths, with a scale of 1.

    Returns:
        How many layers begin with the file's weights.

    Raises:
        LoraStateError: another type or rank than the transformer's, a layer that is not trained here,
            or a shape of another model.
    """
    layers = dict(lora_layers(transformer))
    given = _modules_of(state)
    if foreign := sorted(given.keys() - layers.keys()):
        raise LoraStateError(
            f"{len(foreign)} layers of the file are not trained here, first {foreign[0]}",
            "Take them out of the layer filters, or use a file of this base model.",
        )
    if not given:
        raise LoraStateError("the file holds no LoRA")
    parameters = named_parameters(transformer)
    wanted: dict[str, Tensor] = {}
    for path, parts in given.items():
        own = {name: parameter for name, parameter in parameters.items() if name.startswith(f"{path}.")}
        wanted |= _fitting(path, parts, own, layers[path])
    with torch.no_grad():
        for name, tensor in wanted.items():
            parameters[name].copy_(tensor)
    return len(given)


def _fitting(
    path: str, parts: Mapping[str, Tensor], own: Mapping[str, nn.Parameter], layer: Layer
) -> dict[str, Tensor]:
    """The file's weights of a layer as those of its parameters, by the parameters' names."""
    (own_parts,) = _modules_of(own).values()
    fitting = _with_magnitude(path, parts, base_weight(layer)) if MAGNITUDE in own_parts else dict(parts)
    _check_fit(path, fitting, own_parts)
    divided = _divided(fitting, layer.scaling[ADAPTER])
    return {name: divided[name.removesuffix(".weight").rsplit(".", 1)[1]] for name in own}


def _with_magnitude(path: str, parts: Mapping[str, Tensor], weight_OI: Tensor) -> dict[str, Tensor]:
    """The parts of a DoRA layer in training's meaning; a plain LoRA's magnitudes are those it already has."""
    parts = dict(parts)
    if "lora_A" in parts and "lora_B" in parts and MAGNITUDE not in parts:
        _check_width(path, parts, weight_OI)
        lengths_O = row_norms(weight_OI, change_of(parts).to(weight_OI.device)).cpu()
        if COMFY_SCALE in parts:
            scale_O = _rows(path, parts[COMFY_SCALE].cpu(), len(lengths_O))
            lengths_O = scale_O * lengths_O / row_norms(weight_OI).cpu()
        parts[MAGNITUDE] = lengths_O
    parts.pop(COMFY_SCALE, None)
    return parts


def _check_width(path: str, parts: Mapping[str, Tensor], weight_OI: Tensor) -> None:
    shape = (parts["lora_B"].shape[0], parts["lora_A"].shape[-1])
    if shape != tuple(weight_OI.shape):
        raise LoraStateError(f"{path} changes a weight of {shape} instead of {tuple(weight_OI.shape)}")


def _check_fit(path: str, parts: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    types = [_type_of(one) for one in (parts, own)]
    if types[0] != types[1]:
        raise LoraStateError(
            f"the file is a {types[0]}, and the {types[1]} that is to be trained cannot start from it",
            f"Train a {types[0]}, or start anew.",
        )
    if "lora_A" in own and "lora_A" in parts:
        ranks = [one["lora_A"].shape[0] for one in (parts, own)]
        if ranks[0] != ranks[1]:
            raise LoraStateError(
                f"the file has rank {ranks[0]} ({path}), and rank {ranks[1]} is to be trained",
                _RESIZE_HINT.format(rank=ranks[1]) + f" Or train with rank {ranks[0]}.",
            )
    shapes = [{part: tuple(tensor.shape) for part, tensor in one.items()} for one in (parts, own)]
    if shapes[0] != shapes[1]:
        raise LoraStateError(f"{path} has the shapes {shapes[0]} instead of {shapes[1]}")


def _divided(parts: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """The parts of which `scale` times makes the change that they make themselves."""
    halves = math.sqrt(scale)
    divisors = {
        "lora_A": halves,
        "lora_B": halves,
        "lokr_w2": scale,
        "lokr_w2_a": halves,
        "lokr_w2_b": halves,
    }
    return {
        part: tensor / divisors[part] if part in divisors and scale != 1.0 else tensor
        for part, tensor in parts.items()
    }


def _type_of(parts: Mapping[str, object]) -> str:
    if any(part.startswith("lokr_") for part in parts):
        return "LoKr"
    return "DoRA" if MAGNITUDE in parts or COMFY_SCALE in parts else "LoRA"


def _rows(path: str, scale: Tensor, rows: int) -> Tensor:
    """ComfyUI's scale as one value a row, (O,)."""
    if tuple(scale.shape) not in ((rows,), (rows, 1)):
        raise LoraStateError(
            f"{path} has a DoRA scale of the shape {tuple(scale.shape)}, which is not one value for each "
            f"of its {rows} outputs",
            "DoRA that scales inputs instead of outputs cannot be trained on here.",
        )
    return scale.float().flatten()


def _modules_of(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """A state by module path and part ("lora_A", "lora_magnitude_vector", "lokr_w1", ...)."""
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        path, part = name.removesuffix(".weight").rsplit(".", 1)
        modules.setdefault(path, {})[part] = tensor
    return modules
