"""A plan's memory as bars: what others hold, what the run takes by kind, and where the limit is."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from wan_studio.domain.machine import Machine
from wan_studio.domain.recommend import Judgement
from wan_studio.domain.vram_plan import Part, PhaseMemory


class Kind(StrEnum):
    """What memory is for, in as many kinds as a bar can show."""

    WEIGHTS = "weights"
    TRAINED = "trained"
    ACTIVATIONS = "activations"
    OVERHEAD = "overhead"


_KINDS: Mapping[Part, Kind] = {
    Part.BLOCKS: Kind.WEIGHTS,
    Part.RING: Kind.WEIGHTS,
    Part.EMBEDDINGS: Kind.WEIGHTS,
    Part.TEXT_ENCODER: Kind.WEIGHTS,
    Part.VAE: Kind.WEIGHTS,
    Part.MASTERS: Kind.WEIGHTS,
    Part.LORA: Kind.TRAINED,
    Part.OPTIMIZER: Kind.TRAINED,
    Part.GRADIENTS: Kind.TRAINED,
    Part.KEPT: Kind.ACTIVATIONS,
    Part.WORK: Kind.ACTIVATIONS,
    Part.RESERVE: Kind.OVERHEAD,
    Part.CUDA: Kind.OVERHEAD,
    Part.PROCESS: Kind.OVERHEAD,
}


@dataclass(frozen=True, slots=True)
class Segment:
    """One kind of a bar.

    Attributes:
        parts: What it is made of, the largest first.
    """

    kind: Kind
    parts: tuple[tuple[Part, int], ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(size for _, size in self.parts)


@dataclass(frozen=True, slots=True)
class MemoryBar:
    """What a memory holds at a plan's peak, in bytes.

    Attributes:
        total: Of the memory.
        others: What other programs hold of it.
        limit: Up to where a plan may fill it; the rest is head-room.
        segments: What the run takes at its peak.
    """

    total: int
    others: int
    limit: int
    segments: tuple[Segment, ...]

    @property
    def taken(self) -> int:
        """By the run."""
        return sum(segment.size for segment in self.segments)

    @property
    def left(self) -> int:
        """What stays free up to the limit; below 0 where it does not suffice."""
        return self.limit - self.others - self.taken


def vram_bar(judgement: Judgement, machine: Machine) -> MemoryBar | None:
    """The GPU's memory in the phase that takes most of it; None without a GPU."""
    if machine.gpu is None or judgement.limits is None:
        return None
    others = machine.gpu.total_bytes - machine.gpu.free_bytes
    limit = others + judgement.limits.vram
    return MemoryBar(machine.gpu.total_bytes, others, limit, _segments(judgement.memory.peak))


def ram_bar(judgement: Judgement, machine: Machine) -> MemoryBar | None:
    """RAM in the phase that takes most of it; None without a GPU."""
    if judgement.limits is None:
        return None
    others = machine.ram_total_bytes - machine.ram_available_bytes
    limit = others + judgement.limits.ram
    return MemoryBar(machine.ram_total_bytes, others, limit, _segments(judgement.memory.ram))


def _segments(memory: PhaseMemory) -> tuple[Segment, ...]:
    made: list[Segment] = []
    for kind in Kind:
        parts = sorted((one for one in memory.parts if _KINDS[one[0]] is kind), key=lambda one: -one[1])
        if parts:
            made.append(Segment(kind, tuple(parts)))
    return tuple(made)
