"""Device memory for the blocks of experts that live in RAM: filled beside the computation, never during use."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainer.model.frozen.packing import Bindings, PackedBlock
from trainer.runtime.copy_stream import CopyStream, Moment, copy_stream


@dataclass(slots=True, eq=False)
class Slot:
    """Device memory for one block at a time.

    Attributes:
        buffer_N: uint8.
        holds: The block whose content is here or on its way.
        bindings: That block's tensors in the buffer.
        arrived: When the content is complete.
        last_used: When the computation had done with the content; what comes next must wait for it.
        users: One for each context in which the content is in use.
    """

    buffer_N: Tensor
    last_used: Moment
    holds: PackedBlock | None = None
    bindings: Bindings = ()
    arrived: Moment = None
    users: set[object] = field(default_factory=set)


@dataclass(slots=True)
class Traffic:
    """What was copied to the device so far.

    Attributes:
        bytes_moved: In all.
        copies: Blocks, counted each time.
        late_copies: Those that began only when the block was to be used: the computation stood still
            meanwhile. The first block of a run is one; an order that was not foreseen makes others.
    """

    bytes_moved: int = 0
    copies: int = 0
    late_copies: int = 0


class BlockSlots:
    """The slots that one or more experts share: what one of them leaves unused costs nothing.

    Attributes:
        device: Where they are.
        resident: Slot i serves block i alone, of whichever expert used it last.
        ring: They serve all other blocks in turn.
        traffic: Counts.
    """

    def __init__(
        self,
        device: torch.device,
        slot_bytes: int,
        resident: int,
        ring: int = 2,
        copies: CopyStream | None = None,
    ) -> None:
        """Take all the memory at once.

        Args:
            device: For the CPU everything works alike, without a gain.
            slot_bytes: At least the largest block.
            resident: Dedicated slots, from block 0 on.
            ring: Slots for the rest. With 2 the next block arrives while one computes; with 1 nothing
                overlaps; 0 is for experts whose blocks are all resident.
            copies: What the copies run on; None takes a new stream of the device.
        """
        self.device = device
        self._slot_bytes = slot_bytes
        self._copies = copies or copy_stream(device)
        slots = [Slot(self._buffer(), None) for _ in range(resident + ring)]
        # The memory may have had another owner, whose last kernels are still to run.
        taken = self._copies.mark()
        for slot in slots:
            slot.last_used = taken
        self.resident, self.ring = slots[:resident], slots[resident:]
        self.traffic = Traffic()

    def _buffer(self) -> Tensor:
        buffer_N = torch.empty(self._slot_bytes, dtype=torch.uint8, device=self.device)
        # Should the slot be given up in the middle of a copy.
        self._copies.guard(buffer_N)
        return buffer_N

    @contextmanager
    def vacated(self) -> Generator[None]:
        """Have the memory free for something else; afterwards blocks are copied anew as they are needed.

        Raises:
            RuntimeError: a slot's content is in use, or the memory is not there any more afterwards.
        """
        slots = (*self.resident, *self.ring)
        if any(slot.users for slot in slots):
            raise RuntimeError("the slots' content is in use")
        for slot in slots:
            # What computes in this memory next must not be written over by a copy that is still under way.
            self._copies.wait(slot.arrived)
            slot.holds, slot.bindings, slot.arrived = None, (), None
            slot.buffer_N = torch.empty(0, dtype=torch.uint8, device=self.device)
        try:
            yield
        finally:
            for slot in slots:
                slot.buffer_N = self._buffer()
            taken = self._copies.mark()
            for slot in slots:
                slot.last_used = taken

    @classmethod
    def for_experts(
        cls,
        device: torch.device,
        experts: Sequence[Sequence[PackedBlock]],
        resident: int,
        ring: int = 2,
        copies: CopyStream | None = None,
    ) -> "BlockSlots":
        """As many and as large as the experts' blocks can use, and no more."""
        most_blocks = max(len(blocks) for blocks in experts)
        resident = min(resident, most_blocks)
        slot_bytes = max(block.byte_count for blocks in experts for block in blocks)
        return cls(device, slot_bytes, resident, min(ring, most_blocks - resident), copies)

    @property
    def resident_bytes(self) -> int:
        """Device memory of the dedicated slots."""
        return len(self.resident) * self._slot_bytes

    @property
    def ring_bytes(self) -> int:
        """Device memory of the shared slots."""
        return len(self.ring) * self._slot_bytes

    def check_fit(self, blocks: Sequence[PackedBlock]) -> None:
        """Make sure that an expert can be served.

        Raises:
            ValueError: a block is larger than a slot, or some have no slot at all.
        """
        if any(block.byte_count > self._slot_bytes for block in blocks):
            raise ValueError(f"a block is larger than a slot of {self._slot_bytes} bytes")
        if len(blocks) > len(self.resident) and not self.ring:
            raise ValueError(f"{len(blocks)} blocks, {len(self.resident)} slots and no ring for the rest")

    def fill(self, slot: Slot, block: PackedBlock) -> None:
        """Begin to copy a block into a slot that nobody uses."""
        assert not slot.users, "the slot's content is in use"
        # Empty until the copy is under way: should that fail, nobody takes the slot for filled.
        slot.holds, slot.bindings = None, ()
        target_N = slot.buffer_N[: block.byte_count]
        slot.arrived = self._copies.copy([(target_N, block.host.data_N)], after=[slot.last_used])
        slot.holds, slot.bindings = block, block.views(slot.buffer_N)
        self.traffic.copies += 1
        self.traffic.bytes_moved += block.byte_count

    def begin_use(self, slot: Slot) -> object:
        """Bind the block that the slot holds to it, for computation from here on; `end_use` takes the result."""
        assert slot.holds is not None, "the slot is empty"
        self._copies.wait(slot.arrived)
        user = object()
        slot.users.add(user)
        slot.holds.bind(slot.bindings)
        return user

    def end_use(self, slot: Slot, user: object) -> None:
        """Say that nothing more will be launched for this user; without users the block is bound to RAM.

        Another content can then not be taken for this one.
        """
        if user not in slot.users:
            return  # a context that `abandon` has ended already
        slot.users.discard(user)
        if not slot.users and slot.holds is not None:
            slot.holds.bind_to_ram()
        slot.last_used = self._copies.mark()

    def abandon(self) -> None:
        """End every use, after a step that broke off; contexts that are still open end without effect."""
        for slot in (*self.resident, *self.ring):
            for user in tuple(slot.users):
                self.end_use(slot, user)
