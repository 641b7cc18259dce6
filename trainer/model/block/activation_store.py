"""What the backward pass needs of each block, kept in RAM from the forward pass until its turn comes.

    handle = store.keep(index, [x, attention_output])     # forward pass
    x, attention_output = store.fetch(handle)             # backward pass

Copies run beside the computation, out on one stream and back on another. Device memory is given up
and taken in the computation's own order, so torch's allocator can use it again at once.
"""

import math
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.runtime.copy_stream import CopyStream, Moment, copy_stream
from trainer.runtime.host_memory import HostBuffer

_ALIGNMENT_BYTES = 256


@dataclass(frozen=True, slots=True)
class _Layout:
    """A tensor's form, and where its bytes lie in its block's place in RAM."""

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    offset_bytes: int

    @property
    def byte_count(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def within(self, buffer_N: Tensor) -> Tensor:
        """The tensor's elements in RAM, in memory order."""
        return buffer_N[self.offset_bytes : self.offset_bytes + self.byte_count].view(self.dtype)


@dataclass(slots=True, eq=False, weakref_slot=True)
class _Place:
    """RAM for what one block keeps.

    Attributes:
        read: When the last copy back from here is done; the next copy out must wait for it.
    """

    host: HostBuffer
    read: Moment = None


@dataclass(slots=True, eq=False, weakref_slot=True)
class _Kept:
    """What one `keep` holds.

    Attributes:
        index: Of the block.
        tensors: On the device: not yet given up, or back already; None while only RAM has them.
        moment: When the copy that reads or writes `tensors`, or wrote the RAM, is done.
        layouts: Of the tensors in RAM.
        place: In RAM; None if everything stays on the device.
        previous: What the block before kept, as long as that is alive.
    """

    index: int
    tensors: list[Tensor] | None
    moment: Moment = None
    is_back: bool = False
    layouts: tuple[_Layout, ...] = ()
    place: _Place | None = None
    previous: "weakref.ref[_Kept] | None" = None


class Handle:
    """Gets one block's tensors back, once. Dropped without that, it gives up what it held.

    Attributes:
        index: Of the block.
    """

    def __init__(self, kept: _Kept) -> None:
        self.index = kept.index
        self._kept: _Kept | None = kept

    def take(self) -> _Kept:
        """What it stands for; for the store alone.

        Raises:
            RuntimeError: it was taken before.
        """
        if self._kept is None:
            raise RuntimeError(f"what block {self.index} kept was fetched already")
        kept, self._kept = self._kept, None
        return kept


@dataclass(slots=True)
class StoreTraffic:
    """What was copied so far, in bytes, and how often a copy back began only when it was needed."""

    bytes_out: int = 0
    bytes_back: int = 0
    late_copies: int = 0


class ActivationStore:
    """Keeps tensors of the forward pass for the backward pass, in RAM if enabled.

    RAM is taken for each block when first needed, again when a clip is larger than all before, and
    used again from step to step.

    Attributes:
        enabled: Whether tensors leave the device.
        traffic: Counts.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        enabled: bool,
        in_flight: int = 2,
        out: CopyStream | None = None,
        back: CopyStream | None = None,
    ) -> None:
        """Make an empty store.

        Args:
            device: Of the tensors.
            enabled: Otherwise they stay as they are.
            in_flight: Blocks whose tensors may still be on the device while they are copied; beyond
                that the computation waits. The last ones are never copied back.
            out: What copies to RAM run on; None takes a new stream of the device.
            back: The same for copies to the device.
        """
        self.enabled = enabled
        self.traffic = StoreTraffic()
        self._device = device
        self._in_flight = in_flight
        self._out = out or copy_stream(device)
        self._back = back or copy_stream(device)
        self._leaving: deque[_Kept] = deque()
        self._free: dict[int, list[_Place]] = {}
        self._places: weakref.WeakSet[_Place] = weakref.WeakSet()
        self._latest: dict[int, weakref.ref[_Kept]] = {}

    def keep(self, index: int, tensors: Sequence[Tensor]) -> Handle:
        """Take a block's tensors over; the caller drops its own references and changes them no more.

        Args:
            index: Of the block; what several passes keep under one index is kept apart.
            tensors: Of any shapes and float or integer types.
        """
        whole = [one.detach() for one in tensors]
        if not self.enabled:
            return Handle(_Kept(index, whole))
        # With gaps between its elements a tensor would take more RAM than it has elements.
        whole = [one if is_dense(one) else one.contiguous() for one in whole]
        layouts = tuple(_lay_out(whole))
        place = self._take_place(index, sum(_padded(one.byte_count) for one in layouts))
        pairs = [
            (layout.within(place.host.data_N), _in_memory_order(one))
            for layout, one in zip(layouts, whole, strict=True)
        ]
        moment = self._out.copy(pairs, after=[self._out.mark(), place.read])
        self.traffic.bytes_out += sum(one.byte_count for one in layouts)
        kept = _Kept(index, whole, moment, layouts=layouts, place=place, previous=self._latest.get(index - 1))
        self._latest[index] = weakref.ref(kept)
        self._leaving.append(kept)
        handle = Handle(kept)
        # At the interpreter's end there is nothing left to use the memory for.
        weakref.finalize(handle, self._drop, kept).atexit = False
        while len(self._leaving) > self._in_flight:
            self._give_up(self._leaving.popleft())
        return handle

    def fetch(self, handle: Handle) -> list[Tensor]:
        """The tensors that `keep` got, ready for computation; the block before is called back meanwhile.

        Equal bit for bit, in shape, type and strides; detached. A tensor whose elements do not fill
        its memory (cut out of a larger one, or expanded) comes back contiguous if the store is enabled.

        Raises:
            RuntimeError: they were fetched before.
        """
        kept = handle.take()
        if kept.place is None:
            assert kept.tensors is not None
            return kept.tensors
        if kept.tensors is None:
            self.traffic.late_copies += 1
            self._call_back(kept)
        tensors, kept.tensors = kept.tensors, None
        # Also where they have not left yet: their memory must outlive the copy that reads it.
        (self._back if kept.is_back else self._out).wait(kept.moment)
        self._leave(kept)
        previous = kept.previous and kept.previous()
        if previous is not None and previous.tensors is None and previous.place is not None:
            self._call_back(previous)
        assert tensors is not None
        return tensors

    def clear(self) -> None:
        """Give all RAM up that no living handle uses."""
        self._free.clear()

    @property
    def ram_bytes(self) -> int:
        """RAM in use and waiting for use."""
        return sum(place.host.byte_count for place in self._places)

    @property
    def refusal(self) -> str:
        """Why RAM could not be pinned, if it could not; copies then hold the computation up."""
        return next((place.host.refusal for place in self._places if place.host.refusal), "")

    def _take_place(self, index: int, byte_count: int) -> _Place:
        """RAM that no handle uses; a place that is too small for the block is replaced for good."""
        free = self._free.get(index)
        place = free.pop() if free else None
        if place is None or place.host.byte_count < byte_count:
            place = _Place(HostBuffer(byte_count, pin=self._device.type == "cuda"))
            self._places.add(place)
        return place

    def _give_up(self, kept: _Kept) -> None:
        """Free device memory whose content is on its way to RAM.

        The computation waits for the copy first. What it allocates next may be the same memory, and
        needs no other protection.
        """
        if kept.tensors is not None:
            self._out.wait(kept.moment)
            kept.tensors = None

    def _call_back(self, kept: _Kept) -> None:
        """Begin to copy from RAM into new tensors."""
        assert kept.place is not None
        kept.tensors = [
            torch.empty_strided(one.shape, one.stride, dtype=one.dtype, device=self._device)
            for one in kept.layouts
        ]
        pairs = [
            (_in_memory_order(one), layout.within(kept.place.host.data_N))
            for layout, one in zip(kept.layouts, kept.tensors, strict=True)
        ]
        # After the mark: the new tensors' memory may be what kernels still to run are reading.
        moment = self._back.copy(pairs, after=[kept.moment, self._back.mark()])
        kept.moment = kept.place.read = moment
        kept.is_back = True
        self.traffic.bytes_back += sum(one.byte_count for one in kept.layouts)

    def _drop(self, kept: _Kept) -> None:
        """End of a handle; of one that was not fetched, wherever it happens: in any thread, on any stream."""
        for one in kept.tensors or ():
            # No waiting here: which stream is current is anybody's guess.
            (self._back if kept.is_back else self._out).guard(one)
        kept.tensors = None
        self._leave(kept)

    def _leave(self, kept: _Kept) -> None:
        """Let the place in RAM be used again, after the copies that were begun."""
        place, kept.place = kept.place, None
        if place is not None:
            self._free.setdefault(kept.index, []).append(place)


def is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill a stretch of memory without gaps and overlaps, in any order of dimensions."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True


def _in_memory_order(dense: Tensor) -> Tensor:
    """A dense tensor's elements as one row, for a plain copy of its memory."""
    return dense.as_strided((dense.numel(),), (1,), dense.storage_offset())


def _lay_out(tensors: Sequence[Tensor]) -> Iterator[_Layout]:
    """A place for each, one behind the other."""
    offset_bytes = 0
    for one in tensors:
        yield _Layout(one.shape, one.stride(), one.dtype, offset_bytes)
        offset_bytes += _padded(one.numel() * one.element_size())


def _padded(byte_count: int) -> int:
    return -(-byte_count // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
