"""Frozen weights as they are stored, and the two products that training needs of each.

A weight is never trained: its forward pass and the gradient of its input are all that is asked of it.
The stored tensors are plain and can be put elsewhere (`rebind`), so that a weight may lie in RAM and
be computed with from a buffer on the GPU.
"""

# N tokens, I input width, O output width, R rank of a side branch

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

FLOAT8 = torch.float8_e4m3fn
FLOAT8_MAX = 448.0
_SMALLEST_PEAK = 1e-12
"""Rows of zeros get a scale all the same."""


class Rows(NamedTuple):
    """A matrix in float8 with a scale for each row: ``values * scale`` is the matrix.

    Attributes:
        values_NI: float8 (e4m3), contiguous.
        scale_N1: float32.
    """

    values_NI: Tensor
    scale_N1: Tensor


def quantize_rows(x_NI: Tensor, column_scale_I: Tensor | None = None) -> Rows:
    """Round to float8, each row to its own scale.

    Args:
        x_NI: Any float type.
        column_scale_I: What the columns are multiplied with first.
    """
    wide_NI = x_NI.float() if column_scale_I is None else x_NI.float() * column_scale_I
    scale_N1 = wide_NI.abs().amax(1, keepdim=True).clamp_min(_SMALLEST_PEAK) / FLOAT8_MAX
    return Rows((wide_NI / scale_N1).to(FLOAT8), scale_N1)


def multiply_rows(left: Rows, right_OI: Tensor, scale_O: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """The matrix product ``left @ right.T`` of float8 matrices, bfloat16 (N, O).

    Args:
        left: (N, I).
        right_OI: float8, contiguous.
        scale_O: Of its rows, float32.
        bias_O: bfloat16.
    """
    product: Any = torch._scaled_mm  # noqa: SLF001 # pyright: ignore[reportPrivateImportUsage] - the only door to them
    return product(
        left.values_NI,
        right_OI.t(),
        scale_a=left.scale_N1,
        scale_b=scale_O[None, :],
        bias=bias_O,
        out_dtype=torch.bfloat16,
        use_fast_accum=True,
    )


def why_no_float8_products(device: torch.device) -> str:
    """Why a device cannot compute `multiply_rows`, in its own words; empty where it can."""
    sample = Rows(torch.ones(32, 32, device=device).to(FLOAT8), torch.ones(32, 1, device=device))
    try:
        product = multiply_rows(sample, sample.values_NI, torch.ones(32, device=device))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return "" if bool((product == 32).all()) else "it gives wrong results"


class FrozenWeight(ABC):
    """The weight of a linear layer.

    Attributes:
        out_features: O; several layers with one input can be stored as one, their rows together.
        in_features: I.
        stored: The tensors that hold it, by name, each contiguous. Replaced by `rebind`.
        takes_rows: Whether the products are computed on `Rows`; the float8 of an input that several
            weights share is then made once.
    """

    takes_rows: ClassVar[bool] = False

    def __init__(self, shape: tuple[int, int], stored: Mapping[str, Tensor]) -> None:
        self.out_features, self.in_features = shape
        self.stored = dict(stored)

    def rebind(self, stored: Mapping[str, Tensor]) -> None:
        """Compute from other tensors of the same content, types and shapes from now on."""
        self.stored = dict(stored)

    @abstractmethod
    def dense(self, dtype: torch.dtype) -> Tensor:
        """The weight (O, I) as a plain matrix, on its device; what a side branch adds is included."""

    @abstractmethod
    def rows(self, start: int, stop: int) -> "FrozenWeight":
        """The part of the weight that makes outputs start..stop; a view of the stored tensors."""

    @property
    def side_branch(self) -> tuple[Tensor, Tensor] | None:
        """A frozen low-rank branch ``x @ down.T @ up.T`` that belongs to the weight: down (R, I), up (O, R).

        `forward` and `input_gradient` leave it out: whoever calls them computes it together with the LoRA.
        """
        return None

    @abstractmethod
    def forward(self, x_NI: Tensor, bias_O: Tensor | None = None) -> Tensor:
        """``x @ W.T + b``, (N, O), in the input's number type."""

    @abstractmethod
    def input_gradient(self, grad_NO: Tensor) -> Tensor:
        """``grad @ W``, (N, I): the gradient of the input from that of the output."""


class DenseWeight(FrozenWeight):
    """Stored as it computes, in any float type."""

    def __init__(self, weight_OI: Tensor) -> None:
        super().__init__((weight_OI.shape[0], weight_OI.shape[1]), {"weight": weight_OI})

    def dense(self, dtype: torch.dtype) -> Tensor:
        return self.stored["weight"].to(dtype)

    def rows(self, start: int, stop: int) -> "DenseWeight":
        return DenseWeight(self.stored["weight"][start:stop])

    def forward(self, x_NI: Tensor, bias_O: Tensor | None = None) -> Tensor:
        return functional.linear(x_NI, self.stored["weight"], bias_O)

    def input_gradient(self, grad_NO: Tensor) -> Tensor:
        return grad_NO @ self.stored["weight"]


class Float8Weight(FrozenWeight):
    """Stored in float8 (e4m3) with a scale for each output; computed in the input's number type."""

    def __init__(self, values_OI: Tensor, scale_O: Tensor) -> None:
        super().__init__((values_OI.shape[0], values_OI.shape[1]), {"values": values_OI, "scale": scale_O})

    @classmethod
    def quantized(cls, weight_OI: Tensor) -> "Float8Weight":
        """Round a weight of any float type, on its device."""
        values_OI, scale_O1 = quantize_rows(weight_OI)
        return cls(values_OI, scale_O1.flatten())

    def dense(self, dtype: torch.dtype) -> Tensor:
        return self.stored["values"].to(dtype) * self.stored["scale"].to(dtype)[:, None]

    def rows(self, start: int, stop: int) -> "Float8Weight":
        return type(self)(self.stored["values"][start:stop], self.stored["scale"][start:stop])

    def forward(self, x_NI: Tensor, bias_O: Tensor | None = None) -> Tensor:
        return functional.linear(x_NI, self.dense(x_NI.dtype), bias_O)

    def input_gradient(self, grad_NO: Tensor) -> Tensor:
        return grad_NO @ self.dense(grad_NO.dtype)


class Float8ComputeWeight(Float8Weight):
    """Stored in float8 and multiplied in it: inputs and gradients are rounded row by row, a token each."""

    takes_rows: ClassVar[bool] = True

    def forward(self, x_NI: Tensor, bias_O: Tensor | None = None) -> Tensor:
        return self.forward_rows(quantize_rows(x_NI), bias_O).to(x_NI.dtype)

    def input_gradient(self, grad_NO: Tensor) -> Tensor:
        return self.input_gradient_rows(quantize_rows(grad_NO, self.stored["scale"])).to(grad_NO.dtype)

    def forward_rows(self, rows_NI: Rows, bias_O: Tensor | None = None) -> Tensor:
        """`forward` of an input that is in float8 already; bfloat16."""
        bias_O = None if bias_O is None else bias_O.to(torch.bfloat16)
        return multiply_rows(rows_NI, self.stored["values"], self.stored["scale"], bias_O)

    def input_gradient_rows(
        self, scaled_NO: Rows, transpose: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """`input_gradient` of a gradient that was multiplied with `stored["scale"]` and rounded; bfloat16.

        Args:
            scaled_NO: The gradient.
            transpose: A faster way to do what `transposed` does.
        """
        # The tensor cores want the dimension that is summed over to be contiguous in both factors.
        turned_IO = (transpose or transposed)(self.stored["values"])
        ones_I = torch.ones(self.in_features, device=turned_IO.device)
        return multiply_rows(scaled_NO, turned_IO, ones_I)


def transposed(values_OI: Tensor) -> Tensor:
    """A float8 matrix transposed in memory; as bytes, since compilers know few operations on float8."""
    return values_OI.view(torch.uint8).t().contiguous().view(FLOAT8)
