"""Copies beside the computation: a stream of their own, and what has to wait for what.

Two orders of work exist on a GPU: the computation's, in which kernels were launched, and that of a
copy stream. Neither waits for the other unless it is told to, by a moment of the other's order:

- a copy must not overwrite what the computation still reads: it comes *after* a `mark`;
- the computation must not read what has not arrived: it `wait`s for the moment that `copy` returned.

The program itself never waits for either.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, TypeAlias

import torch
from torch import Tensor

Moment: TypeAlias = Any
"""A point in the order of one kind of work; each `CopyStream` has its own kind. None has passed."""


class CopyStream(ABC):
    """An order of copies beside the computation's."""

    @abstractmethod
    def copy(self, pairs: Iterable[tuple[Tensor, Tensor]], after: Iterable[Moment]) -> Moment:
        """Copy (target, source) pairs, all after those moments, and after all earlier copies.

        Targets and sources must live until a moment after the copy: hold them until the computation
        was told to `wait` for it, or `guard` them.

        Returns:
            When all have arrived.
        """

    @abstractmethod
    def mark(self) -> Moment:
        """The point that the computation's order has reached: all that was launched so far."""

    @abstractmethod
    def wait(self, moment: Moment) -> None:
        """Let all computation from here on come after a moment."""

    @abstractmethod
    def guard(self, tensor: Tensor) -> None:
        """Let the tensor's memory, once it is freed, not be used again before the copies until then are done.

        Memory that is freed so returns late; what passes often is held and waited for instead.
        """


class ImmediateCopies(CopyStream):
    """For the CPU: a copy is done when `copy` returns."""

    def copy(self, pairs: Iterable[tuple[Tensor, Tensor]], after: Iterable[Moment]) -> Moment:  # noqa: ARG002
        with torch.no_grad():
            for target, source in pairs:
                target.copy_(source)

    def mark(self) -> Moment:
        return None

    def wait(self, moment: Moment) -> None:
        """Nothing is ever under way."""

    def guard(self, tensor: Tensor) -> None:
        """Nothing is ever under way."""


class CudaCopies(CopyStream):
    """A CUDA stream. The computation's order is that of the stream that is current when a method is called.

    All computation on what is copied must be on one stream, as torch's is by default.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def copy(self, pairs: Iterable[tuple[Tensor, Tensor]], after: Iterable[Moment]) -> Moment:
        for moment in after:
            if moment is not None:
                self._stream.wait_event(moment)
        with torch.no_grad(), torch.cuda.stream(self._stream):
            for target, source in pairs:
                target.copy_(source, non_blocking=True)
        return self._stream.record_event()

    def mark(self) -> Moment:
        return torch.cuda.current_stream(self._device).record_event()

    def wait(self, moment: Moment) -> None:
        if moment is not None:
            torch.cuda.current_stream(self._device).wait_event(moment)

    def guard(self, tensor: Tensor) -> None:
        tensor.record_stream(self._stream)


def copy_stream(device: torch.device) -> CopyStream:
    """A new copy stream of a device."""
    return CudaCopies(device) if device.type == "cuda" else ImmediateCopies()
