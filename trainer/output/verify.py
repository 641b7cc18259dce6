"""Is a LoRA file complete and usable? Asked before an export is called done.

A program that loads a LoRA skips keys it does not know with a warning at most, so that a wrong
file is silently without effect. Here every key must belong to a layer of the model, and every
layer must have its keys: the two halves of a LoRA, with a magnitude for a DoRA, or the two factors
of a LoKr.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainer.output.lora_file import (
    LoraDtype,
    LoraFileError,
    LoraFormat,
    LoraType,
    parts_by_module,
    read_lora_file,
    type_of,
)
from trainer.output.lora_metadata import LoraMetadata

_LARGEST_FP16 = 65504.0
_MAGNITUDES = {"dora_scale", "lora_magnitude_vector"}
_BROKEN_HINT = "The file is damaged or was not made for this model; export it again from a checkpoint."


@dataclass(frozen=True, slots=True)
class VerifiedLora:
    """A LoRA file that passed every check.

    Attributes:
        path: The file.
        keys: Number of weight tensors: of a LoRA two a layer.
        type: LoRA, DoRA or LoKr.
        rank: Rank of every layer; of a LoKr, of every split factor, and 0 where none is split.
        format: Whose names it has.
        dtype: Number type of the file.
        metadata: What it says about itself; None when another program wrote it.
        is_inert: Whether it changes nothing, as before the first step.
    """

    path: Path
    keys: int
    type: LoraType
    rank: int
    format: LoraFormat
    dtype: LoraDtype
    metadata: LoraMetadata | None
    is_inert: bool


def verify_lora_file(
    path: Path, target_shapes: Mapping[str, tuple[int, int]], *, allow_partial: bool = False
) -> VerifiedLora:
    """Check the file against the model.

    Args:
        path: A LoRA file of any format that `read_lora_file` reads.
        target_shapes: (output width, input width) of every trained layer, by diffusers module path; where
            filters left layers out, of those that were trained.
        allow_partial: Whether layers of the model may be without LoRA.

    Raises:
        LoraFileError: the first kind of fault found, with the keys that have it.
    """
    lora = read_lora_file(path)
    modules = parts_by_module(lora.state)
    kind = lora.type
    _refuse(path, "layers that the model does not have", [m for m in modules if m not in target_shapes])
    _refuse(path, f"layers that are no {kind}", [m for m, parts in modules.items() if type_of(parts) != kind])
    _refuse(
        path,
        "layers with only one half of their LoRA",
        [m for m, parts in modules.items() if not _is_complete(parts)],
    )
    if not allow_partial:
        _refuse(path, "layers of the model without a LoRA", [m for m in target_shapes if m not in modules])
    ranks = [(module, rank) for module, parts in modules.items() for rank in _ranks_of(parts)]
    rank = Counter(rank for _, rank in ranks).most_common(1)[0][0] if ranks else 0
    _refuse(
        path,
        f"layers whose rank is not {rank}, or 0",
        [module for module, own in ranks if own != rank or own == 0],
    )
    _refuse(
        path,
        "weights of the wrong shape",
        [module for module, parts in modules.items() if not _fits(parts, target_shapes[module])],
    )
    _refuse(
        path,
        "values that are infinite or no numbers",
        [key for key, tensor in lora.state.items() if not bool(torch.isfinite(tensor).all())],
    )
    _refuse(
        path,
        "values beyond what fp16 holds; a program that loads it in fp16 would get infinities",
        [key for key, tensor in lora.state.items() if float(tensor.abs().max()) > _LARGEST_FP16],
    )
    is_inert = all(_is_inert(parts) for parts in modules.values())
    return VerifiedLora(path, len(lora.state), kind, rank, lora.format, lora.dtype, lora.metadata, is_inert)


def _is_complete(parts: Mapping[str, Tensor]) -> bool:
    """Whether the module has all that its kind needs, and nothing twice."""
    names = set(parts)
    if type_of(names) == "lokr":
        return all(
            names & {factor, f"{factor}_a", f"{factor}_b"} in ({factor}, {f"{factor}_a", f"{factor}_b"})
            for factor in ("lokr_w1", "lokr_w2")
        ) and all(name.startswith("lokr_") for name in names)
    return {"lora_A", "lora_B"} == names - _MAGNITUDES


def _ranks_of(parts: Mapping[str, Tensor]) -> list[int]:
    """The rank of a LoRA; of a LoKr, those of its split factors."""
    names = ("lokr_w1_b", "lokr_w2_b") if type_of(parts) == "lokr" else ("lora_A",)
    return [parts[name].shape[0] if parts[name].ndim == 2 else 0 for name in names if name in parts]


def _fits(parts: Mapping[str, Tensor], target_shape: tuple[int, int]) -> bool:
    """Whether the module's parts make a change of the target's shape, (output width, input width)."""
    out_width, in_width = target_shape
    if type_of(parts) != "lokr":
        a, b = parts["lora_A"], parts["lora_B"]
        rank = a.shape[0]
        scales = [tuple(parts[name].shape) for name in _MAGNITUDES & set(parts)]
        return (
            tuple(a.shape) == (rank, in_width)
            and tuple(b.shape) == (out_width, rank)
            and all(shape in ((out_width,), (out_width, 1)) for shape in scales)
        )
    shapes = [_factor_shape(parts, factor) for factor in ("lokr_w1", "lokr_w2")]
    if None in shapes:
        return False
    (out1, in1), (out2, in2) = (shape or (0, 0) for shape in shapes)
    return (out1 * out2, in1 * in2) == target_shape


def _factor_shape(parts: Mapping[str, Tensor], factor: str) -> tuple[int, int] | None:
    """Shape of a LoKr's factor, or of the product that it is; None if that cannot be."""
    pieces = [parts[name] for name in (factor, f"{factor}_a", f"{factor}_b") if name in parts]
    if any(piece.ndim != 2 for piece in pieces):
        return None
    if len(pieces) == 2 and pieces[0].shape[1] != pieces[1].shape[0]:
        return None
    return pieces[0].shape[0], pieces[-1].shape[1]


def _is_inert(parts: Mapping[str, Tensor]) -> bool:
    """Whether the change of the module is zero, as before the first step."""
    factors = ["lora_B"] if "lora_B" in parts else [name for name in parts if name.startswith("lokr_")]
    return any(not bool(parts[name].any()) for name in factors)


def _refuse(path: Path, problem: str, keys: list[str]) -> None:
    if keys:
        raise LoraFileError(path, problem, sorted(keys, key=_by_block), _BROKEN_HINT)


def _by_block(key: str) -> tuple[int, str]:
    number = key.split(".")[1] if key.count(".") else ""
    return (int(number) if number.isdigit() else -1, key)
