"""Changes to a LoRA that stay a LoRA: another strength, another rank, two joined into one.

All work on the factors; the full matrices, 5120 x 13824 in the real model, are never formed. States
are those of `read_lora_file`: float32, alpha folded in, so that a layer's change is B @ A; of a LoKr,
the Kronecker product of its two factors, either of which may itself be a product. The change of a DoRA
depends on the base's weights, so it cannot be edited without them.
"""

# R rank, I input width, O output width: A is (R, I), B is (O, R); the change of a weight is B @ A.

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainer.errors import TrainerError
from trainer.output.lora_file import LoraFileError, parts_by_module

LOKR_FACTORS = ("lokr_w1", "lokr_w2")
_HALF_SUFFIXES = {".lora_A.weight": "down", ".lora_B.weight": "up"}


class LoraEditError(TrainerError):
    """A change that cannot be made."""

    kind = "lora_edit"


@dataclass(frozen=True, slots=True)
class Factors:
    """One layer's LoRA.

    Attributes:
        down: A, (R, I).
        up: B, (O, R).
    """

    down: Tensor
    up: Tensor

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(O, I), that of the weight that it changes."""
        return self.up.shape[0], self.down.shape[1]


Layers = dict[str, Factors]
"""A LoRA by diffusers module path."""


def layers_of(path: Path, state: Mapping[str, Tensor]) -> Layers:
    """A state by layer.

    Args:
        path: The file that it was read from, for errors.
        state: From `read_lora_file`.

    Raises:
        LoraFileError: a layer lacks a half, its halves do not fit each other, or it is no plain LoRA.
    """
    halves: dict[str, dict[str, Tensor]] = {}
    other: list[str] = []
    for key, tensor in state.items():
        suffix = next((suffix for suffix in _HALF_SUFFIXES if key.endswith(suffix)), "")
        if suffix:
            halves.setdefault(key.removesuffix(suffix), {})[_HALF_SUFFIXES[suffix]] = tensor
        else:
            other.append(key)
    if other:
        raise LoraFileError(
            path,
            "more than the two factors of a plain LoRA",
            other,
            "DoRA and LoKr cannot be resized or merged, nor DoRA scaled: they are no product of two factors.",
        )
    if alone := [module for module, found in halves.items() if len(found) != 2]:
        raise LoraFileError(path, "layers with only one half of their LoRA", alone)
    layers = {module: Factors(found["down"], found["up"]) for module, found in halves.items()}
    unfit = [
        module
        for module, factors in layers.items()
        if factors.down.ndim != 2 or factors.up.ndim != 2 or factors.up.shape[1] != factors.down.shape[0]
    ]
    if unfit:
        raise LoraFileError(path, "layers whose two halves do not fit each other", unfit)
    if empty := [module for module, factors in layers.items() if factors.rank == 0]:
        raise LoraFileError(path, "layers of rank 0", empty)
    return layers


def state_of(layers: Mapping[str, Factors]) -> dict[str, Tensor]:
    """The layers as `write_lora_file` takes them."""
    state: dict[str, Tensor] = {}
    for module, factors in layers.items():
        state[f"{module}.lora_A.weight"] = factors.down.contiguous()
        state[f"{module}.lora_B.weight"] = factors.up.contiguous()
    return state


def scaled(layers: Mapping[str, Factors], strength: float) -> Layers:
    """The LoRA at `strength` times its strength, shared evenly by the halves; 1 changes no bit.

    Raises:
        LoraEditError: the strength is 0 or no finite number.
    """
    check_strength(strength)
    root = math.sqrt(abs(strength))
    return {
        module: Factors(factors.down * root, factors.up * math.copysign(root, strength))
        for module, factors in layers.items()
    }


def scaled_state(path: Path, state: Mapping[str, Tensor], strength: float) -> dict[str, Tensor]:
    """A plain LoRA or a LoKr at `strength` times its strength; 1 changes no bit, of a DoRA neither.

    Raises:
        LoraEditError: the strength is 0 or no finite number.
        LoraFileError: it is a DoRA, or `path` holds layers that lack a half.
    """
    check_strength(strength)
    if strength == 1.0:
        return dict(state)
    if not any(_lokr_factor(key) for key in state):
        return state_of(scaled(layers_of(path, state), strength))
    # One factor takes it all: the first, or the first half of a factor that is a product itself.
    scaled_parts = {"lokr_w1", "lokr_w1_a"}
    return {
        key: tensor * strength if key.rpartition(".")[2] in scaled_parts else tensor
        for key, tensor in state.items()
    }


def check_strength(strength: float) -> None:
    """Raises `LoraEditError` for a strength that is 0 or no finite number."""
    if not math.isfinite(strength) or strength == 0.0:
        raise LoraEditError(
            f"A strength of {strength} leaves no usable LoRA.",
            "Choose another number than 0; 1 is unchanged.",
        )


def is_plain(state: Mapping[str, Tensor]) -> bool:
    """Whether it is a LoRA of two factors a layer, neither DoRA nor LoKr."""
    return all(key.endswith(tuple(_HALF_SUFFIXES)) for key in state)


def rank_in(state: Mapping[str, Tensor]) -> int:
    """The largest rank of a layer; of a LoKr, of a factor that is a product, or 1."""
    inner = ("lora_A.weight", "lokr_w1_b", "lokr_w2_b")
    return max((tensor.shape[0] for key, tensor in state.items() if key.endswith(inner)), default=1)


def changed_shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """(O, I) of the weights that the state changes, by module path; layers that lack a part are left out."""
    shapes: dict[str, tuple[int, int]] = {}
    for module, parts in parts_by_module(state).items():
        if "lora_A" in parts and "lora_B" in parts:
            shapes[module] = parts["lora_B"].shape[0], parts["lora_A"].shape[-1]
        factors = [pieces for pieces in (_lokr_pieces(parts, name) for name in LOKR_FACTORS) if pieces]
        if len(factors) == len(LOKR_FACTORS):
            shapes[module] = (
                math.prod(pieces[0].shape[0] for pieces in factors),
                math.prod(pieces[-1].shape[-1] for pieces in factors),
            )
    return shapes


def change_norms(state: Mapping[str, Tensor]) -> dict[str, float]:
    """Frobenius norm of each layer's change, by module path; without those of a DoRA, which the base decides."""
    norms: dict[str, float] = {}
    for module, parts in parts_by_module(state).items():
        if parts.keys() == {"lora_A", "lora_B"}:
            norms[module] = change_norm(Factors(parts["lora_A"], parts["lora_B"]))
        elif any(name.startswith("lokr_") for name in parts):
            # The norm of a Kronecker product is the product of the norms.
            norms[module] = math.prod(_lokr_norm(parts, name) for name in LOKR_FACTORS)
    return norms


def merged(first: Mapping[str, Factors], second: Mapping[str, Factors]) -> Layers:
    """The sum of two LoRAs, exactly: their factors side by side, of the ranks' sum.

    A layer that only one of them has is that one's. All layers get the same rank (see `padded`).

    Raises:
        LoraEditError: a layer has different shapes in the two.
    """
    different = [
        module for module in first if module in second and first[module].shape != second[module].shape
    ]
    if different:
        name = different[0]
        raise LoraEditError(
            f"The two LoRAs are of different models: {name} has the shape {first[name].shape} in the first "
            f"and {second[name].shape} in the second.",
            "Merge LoRAs of the same base model.",
        )
    layers: Layers = {}
    for module in dict.fromkeys((*first, *second)):
        parts = [layers[module] for layers in (first, second) if module in layers]
        layers[module] = Factors(
            torch.cat([part.down for part in parts]), torch.cat([part.up for part in parts], dim=1)
        )
    return padded(layers)


def padded(layers: Mapping[str, Factors], rank: int = 0) -> Layers:
    """The same LoRA with one rank for all layers, the largest or `rank` if that is more; filled with zeros."""
    most = max(rank, *(factors.rank for factors in layers.values()))
    result: Layers = {}
    for module, factors in layers.items():
        missing = most - factors.rank
        down, up = factors.down, factors.up
        if missing:
            down = torch.cat([down, down.new_zeros(missing, down.shape[1])])
            up = torch.cat([up, up.new_zeros(up.shape[0], missing)], dim=1)
        result[module] = Factors(down, up)
    return result


def resized(layers: Mapping[str, Factors], rank: int) -> tuple[Layers, dict[str, float]]:
    """The best LoRA of another rank, by singular values; a larger rank is filled with zeros.

    Returns:
        The layers, and by layer the relative error: the Frobenius norm of what was lost over that of the
        whole (0 for a layer that changes nothing).

    Raises:
        LoraEditError: the rank is below 1.
    """
    if rank < 1:
        raise LoraEditError(f"A LoRA of rank {rank} cannot be.", "Choose a rank of at least 1.")
    result: Layers = {}
    errors: dict[str, float] = {}
    for module, factors in layers.items():
        result[module], errors[module] = _resized_layer(factors, rank)
    return padded(result, rank), errors


def change_norm(factors: Factors) -> float:
    """Frobenius norm of B @ A."""
    down, up = factors.down.double(), factors.up.double()
    squared = ((up.T @ up) * (down @ down.T)).sum()
    # Rounding can leave a tiny negative number.
    return math.sqrt(max(0.0, float(squared)))


def _resized_layer(factors: Factors, rank: int) -> tuple[Factors, float]:
    if factors.rank <= rank:
        return factors, 0.0
    # B @ A = Qb (Rb Ra^T) Qa^T with orthonormal columns in Qa and Qb, so the small core in the middle
    # has the product's singular values.
    basis_up, triangle_up = torch.linalg.qr(factors.up.double())
    basis_down, triangle_down = torch.linalg.qr(factors.down.double().T)
    left, values, right = torch.linalg.svd(triangle_up @ triangle_down.T, full_matrices=False)
    roots = values[:rank].sqrt()
    down = roots[:, None] * (right[:rank] @ basis_down.T)
    up = (basis_up @ left[:, :rank]) * roots
    whole = float(values.norm())
    lost = float(values[rank:].norm()) / whole if whole else 0.0
    return Factors(down.float(), up.float()), lost


def _lokr_factor(key: str) -> bool:
    return key.rpartition(".")[2].startswith(LOKR_FACTORS)


def _lokr_pieces(parts: Mapping[str, Tensor], factor: str) -> list[Tensor]:
    """The factor, whole or as the two that are multiplied."""
    return [parts[name] for name in (factor, f"{factor}_a", f"{factor}_b") if name in parts]


def _lokr_norm(parts: Mapping[str, Tensor], factor: str) -> float:
    pieces = _lokr_pieces(parts, factor)
    if len(pieces) == 2:
        return change_norm(Factors(pieces[1], pieces[0]))
    return float(pieces[0].double().norm()) if pieces else 0.0
