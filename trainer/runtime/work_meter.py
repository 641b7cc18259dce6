"""What work takes on this machine, in seconds and bytes, told so that later runs can be forecast from it."""

import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import psutil
import torch

from trainer.protocol.events import WorkMeasured
from trainer.runtime.device import count_peaks_anew

RECENT = 200
"""Medians are of the latest so many."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one piece of work took; bytes are its peaks but for RAM, which is looked at when it ends.

    Attributes:
        decode_seconds: Of a preview's, what loading the VAE and decoding took.
    """

    seconds: float
    reserved_bytes: int = 0
    allocated_bytes: int = 0
    ram_bytes: int = 0
    decode_seconds: float = 0.0


class Stopwatch:
    """Times one piece of work, and the peaks of GPU memory meanwhile; one at a time, for peaks are the device's."""

    def __init__(self, device: torch.device) -> None:
        """Begin."""
        self._device = device
        count_peaks_anew(device)
        self._began = time.perf_counter()

    def stop(self) -> Cost:
        """What it took so far. Waits for nothing: call it where the device's results are there already."""
        seconds = time.perf_counter() - self._began
        on_gpu = self._device.type == "cuda"
        return Cost(
            seconds=seconds,
            reserved_bytes=torch.cuda.max_memory_reserved(self._device) if on_gpu else 0,
            allocated_bytes=torch.cuda.max_memory_allocated(self._device) if on_gpu else 0,
            ram_bytes=psutil.Process().memory_info().rss,
        )


@dataclass(slots=True)
class _Sums:
    """All that is known of one kind of work."""

    first: Cost
    least: int
    later: deque[Cost] = field(default_factory=lambda: deque(maxlen=RECENT))
    count: int = 0
    told: int = -1
    reserved_bytes: int = 0
    allocated_bytes: int = 0
    ram_bytes: int = 0

    def take(self, cost: Cost) -> None:
        self.reserved_bytes = max(self.reserved_bytes, cost.reserved_bytes)
        self.allocated_bytes = max(self.allocated_bytes, cost.allocated_bytes)
        self.ram_bytes = max(self.ram_bytes, cost.ram_bytes)


class WorkMeter:
    """Gathers costs by the work that they are of, and tells them."""

    def __init__(self, device: torch.device, say: Callable[[WorkMeasured], None]) -> None:
        """Know nothing yet.

        Args:
            device: That works.
            say: Told each measurement.
        """
        self._device = device
        self._say = say
        self._known: dict[WorkMeasured, _Sums] = {}

    def begin(self) -> Stopwatch:
        """Begin to measure; work that is measured must not be inside other work that is."""
        return Stopwatch(self._device)

    def add(self, work: WorkMeasured, cost: Cost, least: int = 0) -> None:
        """Take a cost in.

        Args:
            work: What it is of, by the fields that tell that.
            cost: The first of its kind is kept apart.
            least: How many after the first are needed before it is told, which then happens at once.
        """
        known = self._known.get(work)
        if known is None:
            known = self._known[work] = _Sums(cost, least)
        else:
            known.later.append(cost)
            known.count += 1
        known.take(cost)
        if least and known.count == least:
            self._tell(work, known)

    def tell_news(self, *, even_few: bool = False) -> None:
        """Tell what is new since it was told last.

        Args:
            even_few: Also that of which there are fewer than are needed, if any beside the first.
        """
        for work, known in self._known.items():
            least = min(known.least, 1) if even_few else known.least
            if known.count > known.told and known.count >= least:
                self._tell(work, known)

    def _tell(self, work: WorkMeasured, known: _Sums) -> None:
        known.told = known.count
        costs = known.later or [known.first]
        self._say(
            msgspec.structs.replace(
                work,
                count=max(1, known.count),
                seconds=statistics.median(one.seconds for one in costs),
                first_seconds=known.first.seconds,
                decode_seconds=statistics.median(one.decode_seconds for one in costs),
                reserved_bytes=known.reserved_bytes,
                allocated_bytes=known.allocated_bytes,
                ram_bytes=known.ram_bytes,
            )
        )
