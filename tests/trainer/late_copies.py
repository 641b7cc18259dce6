"""A GPU's streams on the CPU: copies as late, or as early, as they may be, and an error for every race.

Computation runs at once, as on any CPU; `Streams` watches which memory it touches. A copy is run only
when something waits for it ("late"), or as it is begun ("early"). In either case who has waited for
whom is kept book of, as vector clocks: an access to memory that another stream may still be writing,
or a write to what it may still be reading, raises `RaceError`, whether or not it went well this time.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from trainer.runtime.copy_stream import CopyStream

COMPUTATION = "computation"
Clock = dict[str, int]


class RaceError(AssertionError):
    """Two streams touch the same memory, one writes, and neither waits for the other."""


@dataclass
class Copy:
    """A copy that was begun."""

    stream: str
    tick: int
    pairs: list[tuple[Tensor, Tensor]]
    device_memory: list[StorageWeakRef]


def merged(*clocks: Clock) -> Clock:
    return {who: max(one.get(who, 0) for one in clocks) for who in set().union(*clocks)}


def stretch(tensor: Tensor) -> tuple[int, int]:
    """First byte that the tensor touches, and the one after its last."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start = tensor.data_ptr()
    return start, start + (last + 1) * tensor.element_size()


def memory(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())


class Streams(TorchDispatchMode):
    """All orders of work of one device; computation inside `with streams:` is watched."""

    def __init__(self, *, late: bool) -> None:
        super().__init__()
        self.late = late
        self.ticks: Clock = {COMPUTATION: 0}
        self.known: dict[str, Clock] = {COMPUTATION: {}}
        self.accesses: dict[StorageWeakRef, dict[tuple, int]] = {}
        self.begun: list[Copy] = []
        self.guarded: set[StorageWeakRef] = set()
        self.out_of_reach: dict[StorageWeakRef, str] = {}

    def keep_from_computation(self, tensor: Tensor, name: str) -> None:
        """Memory that kernels cannot read: RAM."""
        self.out_of_reach[memory(tensor)] = name

    def access(self, who: str, tensor: Tensor, *, writes: bool) -> None:
        if tensor.numel() == 0:
            return
        if who == COMPUTATION and memory(tensor) in self.out_of_reach:
            raise RaceError(f"computation touches {self.out_of_reach[memory(tensor)]}")
        start, end = stretch(tensor)
        earlier = self.accesses.setdefault(memory(tensor), {})
        for (other_start, other_end, other, other_writes), tick in earlier.items():
            overlaps = start < other_end and other_start < end
            has_waited = other == who or self.known[who].get(other, 0) >= tick
            if overlaps and (writes or other_writes) and not has_waited:
                raise RaceError(f"{who} does not wait for {other}")
        earlier[start, end, who, writes] = self.ticks[who]

    def check_that_nothing_was_freed(self) -> None:
        """Memory on the device goes to the computation's next tensor: no copy may still be using it."""
        for copy in self.begun:
            waited_for = self.known[COMPUTATION].get(copy.stream, 0) >= copy.tick
            freed = [one for one in copy.device_memory if one.expired() and one not in self.guarded]
            if freed and not waited_for:
                raise RaceError(f"memory was freed during a copy of {copy.stream}")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.is_view:
            return func(*args, **kwargs)
        self.ticks[COMPUTATION] += 1
        self.check_that_nothing_was_freed()
        for argument, value in [
            *zip(func._schema.arguments, args, strict=False),
            *((one, kwargs[one.name]) for one in func._schema.arguments if one.name in kwargs),
        ]:
            is_written = argument.alias_info is not None and argument.alias_info.is_write
            for one in tensors_in(value):
                self.access(COMPUTATION, one, writes=is_written)
        result = func(*args, **kwargs)
        for one in tensors_in(result):
            # Also of `empty`: what lay there before may still be read by the computation.
            self.access(COMPUTATION, one, writes=True)
        return result

    def begin(self, copy: Copy) -> None:
        with _disable_current_modes():
            targets = {memory(target) for target, _ in copy.pairs}
            clock = self.known[copy.stream]
            self.run(lambda one: clock.get(one.stream, 0) >= one.tick and touches(one, targets))
            if self.late:
                for target, _ in copy.pairs:
                    target.view(torch.uint8).fill_(255)
            self.begun.append(copy)
            if not self.late:
                self.run(lambda one: one is copy)

    def run(self, is_due) -> None:
        with _disable_current_modes(), torch.no_grad():
            for copy in self.begun:
                if copy.pairs and is_due(copy):
                    for target, source in copy.pairs:
                        target.copy_(source)
                    copy.pairs = []

    def wait(self, clock: Clock) -> None:
        self.known[COMPUTATION] = merged(self.known[COMPUTATION], clock)
        self.run(lambda copy: clock.get(copy.stream, 0) >= copy.tick)
        self.begun = [one for one in self.begun if self.known[COMPUTATION].get(one.stream, 0) < one.tick]


def touches(copy: Copy, memories: set[StorageWeakRef]) -> bool:
    return any(memory(one) in memories for pair in copy.pairs for one in pair)


def tensors_in(value) -> Iterator[Tensor]:
    return (one for one in tree_leaves(value) if isinstance(one, Tensor))


class WatchedCopies(CopyStream):
    """A copy stream of `Streams`, which copies to the device, or to RAM."""

    def __init__(self, streams: Streams, name: str, *, to_device: bool) -> None:
        self.streams, self.name, self.to_device = streams, name, to_device
        streams.ticks[name] = 0
        streams.known[name] = {}

    def copy(self, pairs, after):
        pairs, streams = list(pairs), self.streams
        streams.known[self.name] = merged(streams.known[self.name], *(one for one in after if one))
        streams.ticks[self.name] += 1
        device_side = [target if self.to_device else source for target, source in pairs]
        copy = Copy(self.name, streams.ticks[self.name], pairs, [memory(one) for one in device_side])
        for target, source in pairs:
            streams.access(self.name, target, writes=True)
            streams.access(self.name, source, writes=False)
        streams.begin(copy)
        return merged(streams.known[self.name], {self.name: copy.tick})

    def mark(self):
        return merged(self.streams.known[COMPUTATION], {COMPUTATION: self.streams.ticks[COMPUTATION]})

    def wait(self, moment):
        if moment is not None:
            self.streams.wait(moment)

    def guard(self, tensor):
        self.streams.guarded.add(memory(tensor))


class CopiesThatDoNotWait(WatchedCopies):
    """A mistake: copies begin whatever the computation is doing."""

    def copy(self, pairs, after):
        return super().copy(pairs, ())


class CopiesNobodyWaitsFor(WatchedCopies):
    """A mistake: the computation goes on before its data has arrived."""

    def wait(self, moment):
        pass


class CopiesThatGuardNothing(WatchedCopies):
    """A mistake: memory is freed in the middle of a copy."""

    def guard(self, tensor):
        pass
