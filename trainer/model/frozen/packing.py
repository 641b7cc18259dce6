"""A block's frozen weights in one piece of RAM, so that one copy brings them all to the GPU."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.model.frozen.weights import FrozenWeight
from trainer.runtime.host_memory import HostBuffer

ALIGNMENT_BYTES = 256
"""Where a tensor may begin: what the matrix products of every kind ask for, and more."""

Bindings = Sequence[dict[str, Tensor]]
"""The stored tensors of each of a block's weights, in the weights' order."""


@dataclass(frozen=True, slots=True)
class PackedTensor:
    """Where one stored tensor lies in the block.

    Attributes:
        weight_index: Of the weight that it belongs to, in the order given to `PackedBlock`.
        name: In the weight's `stored`.
        offset_bytes: From the block's beginning, a multiple of `ALIGNMENT_BYTES`.
    """

    weight_index: int
    name: str
    offset_bytes: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def byte_count(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def within(self, buffer_N: Tensor) -> Tensor:
        """The tensor as a view of a buffer that holds the block from its beginning."""
        piece_N = buffer_N[self.offset_bytes : self.offset_bytes + self.byte_count]
        return piece_N.view(self.dtype).view(self.shape)


class PackedBlock:
    """The master copy of one block's weights, in RAM, in their quantized form; it is never written again.

    The weights compute from RAM until they are bound elsewhere. What was taken from a weight earlier
    (`stored` tensors, `rows`) is not rebound with it.

    Attributes:
        layout: Each stored tensor's place.
        byte_count: Of all, gaps included.
        host: The memory; says whether it is pinned, and why not.
    """

    def __init__(self, weights: Sequence[FrozenWeight], *, pin: bool) -> None:
        """Copy the weights' stored tensors, wherever they are, and bind the weights to the copies.

        The tensors' former memory is free once nobody else holds them: pack block by block as an
        expert is loaded, and it never lies on the GPU as a whole.

        Args:
            weights: Of one block, in any order; their stored tensors keep shape and type for good.
            pin: Whether to pin the RAM, for a GPU; where that is refused, `host.refusal` says why.
        """
        self._weights = tuple(weights)
        self.layout, self.byte_count = _lay_out(self._weights)
        self.host = HostBuffer(self.byte_count, pin=pin)
        self._in_ram = self.views(self.host.data_N)
        for place in self.layout:
            own = self._in_ram[place.weight_index][place.name]
            own.copy_(self._weights[place.weight_index].stored[place.name].detach())
        self.bind_to_ram()

    def views(self, buffer_N: Tensor) -> Bindings:
        """The stored tensors as views of a buffer.

        Args:
            buffer_N: uint8, aligned, at least `byte_count` long, on any device.

        Raises:
            ValueError: it is too short, or not made of bytes.
        """
        if buffer_N.dtype != torch.uint8 or buffer_N.numel() < self.byte_count:
            raise ValueError(
                f"a block of {self.byte_count} bytes does not fit {buffer_N.numel()} x {buffer_N.dtype}"
            )
        bindings: list[dict[str, Tensor]] = [{} for _ in self._weights]
        for place in self.layout:
            bindings[place.weight_index][place.name] = place.within(buffer_N)
        return bindings

    def bind(self, bindings: Bindings) -> None:
        """Let the weights compute from these `views` of a buffer that holds the block's content."""
        for weight, stored in zip(self._weights, bindings, strict=True):
            weight.rebind(stored)

    def bind_to_ram(self) -> None:
        """Let the weights compute from the master copy; with inputs on a GPU that is an error, and loud."""
        self.bind(self._in_ram)


def _lay_out(weights: Sequence[FrozenWeight]) -> tuple[tuple[PackedTensor, ...], int]:
    """Each tensor's place, and the bytes of all."""
    layout: list[PackedTensor] = []
    end_bytes = 0
    for index, weight in enumerate(weights):
        for name, stored in weight.stored.items():
            offset_bytes = -(-end_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
            layout.append(PackedTensor(index, name, offset_bytes, tuple(stored.shape), stored.dtype))
            end_bytes = offset_bytes + layout[-1].byte_count
    return tuple(layout), end_bytes
