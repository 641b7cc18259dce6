"""A frozen weight in the way that the job asks for: made from a plain one, or from what was stored."""

# I input width, O output width

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from trainer.model.frozen.nf4 import BLOCK, Nf4Weight, check_width
from trainer.model.frozen.recovery import RecoveredWeight, recovered, side_rank
from trainer.model.frozen.weights import (
    FLOAT8,
    DenseWeight,
    Float8ComputeWeight,
    Float8Weight,
    FrozenWeight,
)

Mode = Literal["none", "float8", "float8_compute", "nf4", "nf4_recovered"]
"""The values of ``quantization.transformer``."""


class Stored(NamedTuple):
    """What a stored tensor will be."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size_bytes(self) -> int:
        """How much it takes, in bytes."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


class StoredMismatchError(ValueError):
    """Stored tensors that are not those of the weight."""


@torch.no_grad()
def quantized(
    weight_OI: Tensor,
    mode: Mode,
    *,
    recovery_rank: int,
    input_rms_I: Tensor | None = None,
    dtype: torch.dtype = torch.bfloat16,
) -> FrozenWeight:
    """Store a weight as `mode` says, on its device.

    Args:
        weight_OI: Any float type.
        mode: How.
        recovery_rank: Of the side branch; only "nf4_recovered" has one.
        input_rms_I: RMS of each input channel (`InputStatistics.rms`); only "nf4_recovered" uses it.
        dtype: What is computed in: a weight that is not quantized, and side branches, are stored in it.

    Raises:
        Nf4WidthError: the weight does not divide into blocks of 4-bit values.
    """
    match mode:
        case "none":
            return DenseWeight(weight_OI.to(dtype).contiguous())
        case "float8":
            return Float8Weight.quantized(weight_OI)
        case "float8_compute":
            return Float8ComputeWeight.quantized(weight_OI)
        case "nf4":
            return Nf4Weight.quantized(weight_OI)
        case "nf4_recovered":
            return recovered(weight_OI, recovery_rank, input_rms_I, dtype)


def stored_layout(
    mode: Mode, shape: tuple[int, int], rank: int, dtype: torch.dtype = torch.bfloat16
) -> dict[str, Stored]:
    """What `quantized` stores of a weight (O, I), without making it.

    Args:
        mode: As there.
        shape: Of the weight.
        rank: `recovery_rank` there.
        dtype: As there.

    Raises:
        Nf4WidthError: as there.
    """
    outputs, inputs = shape
    match mode:
        case "none":
            return {"weight": Stored(shape, dtype)}
        case "float8" | "float8_compute":
            return {"values": Stored(shape, FLOAT8), "scale": Stored((outputs,), torch.float32)}
    check_width(shape)
    layout = {
        "packed": Stored((outputs * inputs // 2,), torch.uint8),
        "peaks": Stored((outputs * inputs // BLOCK,), torch.float32),
    }
    if mode == "nf4_recovered":
        columns = side_rank(shape, rank)
        layout["down"] = Stored((columns, inputs), dtype)
        layout["up"] = Stored((outputs, columns), dtype)
    return layout


def from_stored(mode: Mode, shape: tuple[int, int], stored: Mapping[str, Tensor]) -> FrozenWeight:
    """The weight (O, I) whose `stored` tensors these are; they are kept as they are, without a copy.

    Raises:
        StoredMismatchError: they are not those of such a weight.
    """
    down = stored.get("down")
    rank = 0 if down is None else down.shape[0]
    dtype = down.dtype if down is not None else getattr(stored.get("weight"), "dtype", torch.bfloat16)
    expected = stored_layout(mode, shape, rank, dtype)
    found = {name: Stored(tuple(tensor.shape), tensor.dtype) for name, tensor in stored.items()}
    if found != expected:
        raise StoredMismatchError(f"{mode} weight of {shape}: found {found}, expected {expected}")
    match mode:
        case "none":
            return DenseWeight(stored["weight"])
        case "float8":
            return Float8Weight(stored["values"], stored["scale"])
        case "float8_compute":
            return Float8ComputeWeight(stored["values"], stored["scale"])
        case "nf4":
            return Nf4Weight(shape, stored)
        case "nf4_recovered":
            return RecoveredWeight(shape, stored)
