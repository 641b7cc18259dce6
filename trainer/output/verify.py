"""Is a LoRA file complete and usable? Asked before an export is called done.

A program that loads a LoRA skips keys it does not know with a warning at most, so that a wrong
file is silently without effect. Here every key must belong to a layer of the model, and every
layer must have its keys.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainer.output.lora_file import LoraDtype, LoraFileError, LoraFormat, read_lora_file
from trainer.output.lora_metadata import LoraMetadata

_LARGEST_FP16 = 65504.0
_BROKEN_HINT = "The file is damaged or was not made for this model; export it again from a checkpoint."


@dataclass(frozen=True, slots=True)
class VerifiedLora:
    """A LoRA file that passed every check.

    Attributes:
        path: The file.
        keys: Number of weight tensors, two a layer.
        rank: Rank of every layer.
        format: Whose names it has.
        dtype: Number type of the file.
        metadata: What it says about itself; None when another program wrote it.
        is_inert: Whether it changes nothing, as before the first step.
    """

    path: Path
    keys: int
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
        target_shapes: (output width, input width) of every trained layer, by diffusers module path.
        allow_partial: Whether layers of the model may be without LoRA.

    Raises:
        LoraFileError: the first kind of fault found, with the keys that have it.
    """
    lora = read_lora_file(path)
    modules = _modules_of(lora.state)
    _refuse(path, "layers that the model does not have", [m for m in modules if m not in target_shapes])
    _refuse(path, "layers with only one half of their LoRA", [m for m, h in modules.items() if len(h) != 2])
    if not allow_partial:
        _refuse(path, "layers of the model without a LoRA", [m for m in target_shapes if m not in modules])
    ranks = {
        module: halves["lora_A"].shape[0] if halves["lora_A"].ndim == 2 else 0
        for module, halves in modules.items()
    }
    rank = Counter(ranks.values()).most_common(1)[0][0]
    _refuse(
        path, f"layers whose rank is not {rank}, or 0", [m for m, r in ranks.items() if r != rank or r == 0]
    )
    _refuse(
        path,
        "weights of the wrong shape",
        [
            module
            for module, halves in modules.items()
            if tuple(halves["lora_A"].shape) != (rank, target_shapes[module][1])
            or tuple(halves["lora_B"].shape) != (target_shapes[module][0], rank)
        ],
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
    is_inert = all(not bool(halves["lora_B"].any()) for halves in modules.values())
    return VerifiedLora(path, len(lora.state), rank, lora.format, lora.dtype, lora.metadata, is_inert)


def _modules_of(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    modules: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        module, half, _ = key.rsplit(".", 2)
        modules.setdefault(module, {})[half] = tensor
    return modules


def _refuse(path: Path, problem: str, keys: list[str]) -> None:
    if keys:
        raise LoraFileError(path, problem, sorted(keys, key=_by_block), _BROKEN_HINT)


def _by_block(key: str) -> tuple[int, str]:
    number = key.split(".")[1] if key.count(".") else ""
    return (int(number) if number.isdigit() else -1, key)
