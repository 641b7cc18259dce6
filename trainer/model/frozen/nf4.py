"""Frozen weights in 4 bits: NF4, each 64 neighbours in a row with a float32 peak of their own."""

# N tokens, I input width, O output width

import functools
from types import ModuleType

import torch
from torch import Tensor
from torch.nn import functional

from trainer.errors import TrainerError
from trainer.model.frozen.weights import FrozenWeight

BLOCK = 64
"""Values that share a peak."""


class Nf4WidthError(TrainerError):
    """A weight whose rows do not divide into blocks."""

    kind = "nf4_width"

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(
            f"A weight of {' x '.join(map(str, shape))} cannot be stored in 4 bits: "
            f"its rows must have a multiple of {BLOCK} values.",
            "Choose float8 or none for quantization.transformer.",
        )


class Nf4LibraryError(TrainerError):
    """What rounds to 4 bits cannot be loaded."""

    kind = "nf4_library"

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"Weights in 4 bits need bitsandbytes, which cannot be loaded ({problem}).",
            "Install it, or choose float8 or none for quantization.transformer.",
        )


class Nf4Weight(FrozenWeight):
    """Stored in 4 bits, 4.5 with the peaks; computed in the input's number type.

    ``stored["packed"]`` is uint8 (O * I / 2,), two values a byte, the first in the upper half;
    ``stored["peaks"]`` is float32 (O * I / 64,). Nothing else describes the weight, so other tensors
    may take their place at any time.
    """

    @classmethod
    def quantized(cls, weight_OI: Tensor) -> "Nf4Weight":
        """Round a weight of any float type, on its device.

        Raises:
            Nf4WidthError: its width is no multiple of 64.
            Nf4LibraryError: bitsandbytes is missing.
        """
        check_width(tuple(weight_OI.shape))
        return Nf4Weight((weight_OI.shape[0], weight_OI.shape[1]), pack(weight_OI))

    def dense(self, dtype: torch.dtype) -> Tensor:
        return self._unpacked(dtype)

    def rows(self, start: int, stop: int) -> "Nf4Weight":
        return type(self)((stop - start, self.in_features), self._stored_rows(start, stop))

    def forward(self, x_NI: Tensor, bias_O: Tensor | None = None) -> Tensor:
        return functional.linear(x_NI, self._unpacked(x_NI.dtype), bias_O)

    def input_gradient(self, grad_NO: Tensor) -> Tensor:
        return grad_NO @ self._unpacked(grad_NO.dtype)

    def _stored_rows(self, start: int, stop: int) -> dict[str, Tensor]:
        """The stored tensors of some rows, as views: a row never shares a byte or a peak with another."""
        bytes_a_row, peaks_a_row = self.in_features // 2, self.in_features // BLOCK
        return {
            "packed": self.stored["packed"][start * bytes_a_row : stop * bytes_a_row],
            "peaks": self.stored["peaks"][start * peaks_a_row : stop * peaks_a_row],
        }

    def _unpacked(self, dtype: torch.dtype) -> Tensor:
        """The 4-bit part (O, I). One new tensor; nothing waits for the device."""
        # A state without a code book: the kernels have their own, and making one would copy from the CPU.
        state = _bitsandbytes().QuantState(
            absmax=self.stored["peaks"],
            shape=torch.Size((self.out_features, self.in_features)),
            dtype=dtype,
            blocksize=BLOCK,
            quant_type="nf4",
        )
        return _bitsandbytes().dequantize_4bit(self.stored["packed"], state)


def check_width(shape: tuple[int, ...]) -> None:
    """Make sure that a weight's rows divide into blocks.

    Raises:
        Nf4WidthError: they do not; bitsandbytes would then be wrong on the CPU, and rows would share bytes.
    """
    if len(shape) != 2 or shape[1] % BLOCK:
        raise Nf4WidthError(shape)


def pack(weight_OI: Tensor) -> dict[str, Tensor]:
    """The stored tensors of a weight of any float type, on its device."""
    packed, state = _bitsandbytes().quantize_4bit(weight_OI.contiguous(), blocksize=BLOCK, quant_type="nf4")
    return {"packed": packed.flatten(), "peaks": state.absmax.flatten()}


@functools.cache
def _bitsandbytes() -> ModuleType:
    """Its functions. Loaded late: only 4-bit weights need them.

    Raises:
        Nf4LibraryError: they cannot be loaded.
    """
    try:
        from bitsandbytes import functional as bitsandbytes
    except (ImportError, OSError, RuntimeError) as error:
        raise Nf4LibraryError(str(error)) from error
    return bitsandbytes
