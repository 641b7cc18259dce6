"""An expert whose blocks live in RAM and are on the GPU when their turn comes.

slots = BlockSlots.for_experts(device, [high_blocks, low_blocks], resident=10)
high, low = StreamedExpert(high_blocks, slots), StreamedExpert(low_blocks, slots)
for index in range(40):
    with high.block(index, 1):
        ...  # the forward pass of block `index`; the next ones are on their way
for index in reversed(range(40)):
    with high.block(index, -1):
        ...  # its backward pass
"""

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import torch

from trainer.model.frozen.packing import PackedBlock
from trainer.model.frozen.slots import BlockSlots, Slot

Direction = Literal[1, -1]
"""1 goes forward through the blocks, -1 back."""


class SlotsInUseError(RuntimeError):
    """More blocks are used inside each other than there are slots for them: a mistake of the program."""


class StreamedExpert:
    """One expert's blocks, served through slots that it may share with another expert.

    Which block comes next is foreseen from the direction. A wrong guess costs time, never a wrong result.
    The next copies are begun when a block's turn begins, and the program never waits for one.
    """

    def __init__(self, blocks: Sequence[PackedBlock], slots: BlockSlots, *, ahead: int = 2) -> None:
        """Serve an expert.

        Args:
            blocks: In forward order.
            slots: Where they compute from.
            ahead: How many blocks to look ahead. Slots that are in use, or hold what is needed sooner,
                limit it further: a ring of two always looks one ahead.

        Raises:
            ValueError: the slots cannot hold the blocks.
        """
        slots.check_fit(blocks)
        self.blocks = tuple(blocks)
        self.slots = slots
        self._ahead = ahead
        self._index_of = {block: index for index, block in enumerate(self.blocks)}

    @contextmanager
    def block(
        self, index: int, direction: Direction, *, backward_follows: bool | None = None
    ) -> Generator[None]:
        """Have a block on the device.

        Inside, its weights compute from device memory, in the current stream's order. Nothing that was
        taken from `stored` may be used after the end: autograd must not keep it for a later backward
        pass, which has to open the block again. Opening a block that is open already is allowed.

        Args:
            index: Of the block.
            direction: Where the pass is heading.
            backward_follows: Whether the backward pass begins after the last block of this forward pass,
                rather than a forward pass; None asks autograd. Say it inside autograd functions, where
                gradients are always off.

        Raises:
            SlotsInUseError: every slot that could take the block is in use by other blocks.
        """
        if backward_follows is None:
            backward_follows = torch.is_grad_enabled()
        order = visiting_order(len(self.blocks), index, direction, backward_follows=backward_follows)
        slot = self._have(index, order)
        user = self.slots.begin_use(slot)
        try:
            self._fetch_ahead(order)
            yield
        finally:
            self.slots.end_use(slot, user)

    def announce(self) -> None:
        """Begin to fetch the first blocks: a forward pass is near.

        Called after the other expert's last backward pass, it makes use of the time until then.
        """
        self._fetch_ahead(list(range(len(self.blocks))))

    def _have(self, index: int, order: Sequence[int]) -> Slot:
        """The slot that holds the block, or will shortly."""
        slot = self._slot_of(index)
        if slot is not None:
            return slot
        free = [one for one in self._slots_for(index) if not one.users]
        if not free:
            raise SlotsInUseError(f"no slot is free for block {index}")
        slot = max(free, key=lambda one: self._needed_in(one, order))
        self.slots.fill(slot, self.blocks[index])
        self.slots.traffic.late_copies += 1
        return slot

    def _fetch_ahead(self, order: Sequence[int]) -> None:
        """Begin to copy the next blocks into slots whose content is needed later than they are."""
        for needed_in, index in enumerate(islice(order, self._ahead)):
            if self._slot_of(index) is not None:
                continue
            free = [one for one in self._slots_for(index) if not one.users]
            slot = max(free, key=lambda one: self._needed_in(one, order), default=None)
            if slot is not None and self._needed_in(slot, order) > needed_in:
                self.slots.fill(slot, self.blocks[index])

    def _slots_for(self, index: int) -> Sequence[Slot]:
        """Those that can take the block."""
        resident = self.slots.resident
        return resident[index : index + 1] if index < len(resident) else self.slots.ring

    def _slot_of(self, index: int) -> Slot | None:
        """The one that has the block."""
        block = self.blocks[index]
        return next((one for one in self._slots_for(index) if one.holds is block), None)

    def _needed_in(self, slot: Slot, order: Sequence[int]) -> int:
        """Blocks until the slot's content is needed; what is nothing, or another expert's, is not."""
        index = None if slot.holds is None else self._index_of.get(slot.holds)
        if index is None:
            return len(order) + (2 if slot.holds is None else 1)
        return order.index(index) if index in order else len(order)


def visiting_order(
    block_count: int, index: int, direction: Direction, *, backward_follows: bool
) -> list[int]:
    """The blocks that come after one, as far as can be foreseen: to the pass's end and through the next pass.

    A forward pass is followed by the backward pass, which begins with the same last block, or by another
    forward pass. A backward pass is followed by a forward pass.
    """
    forward = list(range(block_count))
    if direction == 1:
        return forward[index + 1 :] + (forward[::-1] if backward_follows else forward)
    return forward[:index][::-1] + forward


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """Where the experts' blocks take memory, in bytes.

    Attributes:
        device_resident: Dedicated slots.
        device_ring: Slots through which the rest is streamed.
        ram_pinned: Master copies, pinned.
        ram_pageable: Master copies that could not be pinned, or need not be: without a GPU.
        refusal: Why pinning was refused, if it was; else empty.
    """

    device_resident: int
    device_ring: int
    ram_pinned: int
    ram_pageable: int
    refusal: str


def memory_report(experts: Iterable[StreamedExpert]) -> MemoryReport:
    """Where the blocks of all these experts take memory; slots that they share count once."""
    experts = list(experts)
    slots = {id(one.slots): one.slots for one in experts}.values()
    hosts = [block.host for one in experts for block in one.blocks]
    return MemoryReport(
        device_resident=sum(one.resident_bytes for one in slots),
        device_ring=sum(one.ring_bytes for one in slots),
        ram_pinned=sum(host.byte_count for host in hosts if host.pinned),
        ram_pageable=sum(host.byte_count for host in hosts if not host.pinned),
        refusal=next((host.refusal for host in hosts if host.refusal), ""),
    )
