"""What each GPU did in the last hour, to be drawn: a ring of samples that never grows."""

from array import array
from dataclasses import dataclass
from enum import StrEnum
from math import nan

from wan_studio.domain.hardware import GpuSnapshot, HardwareSnapshot

SAMPLES_KEPT = 3600
"""One hour at one sample a second."""


class Quantity(StrEnum):
    """What is kept of a GPU, with its unit."""

    VRAM_USED = "VRAM used, bytes"
    UTILIZATION = "utilization, percent"
    TEMPERATURE = "temperature, degrees Celsius"
    POWER = "power, watts"


@dataclass(frozen=True, slots=True)
class Series:
    """One quantity over time, oldest first; what was not known at a time is NaN, a gap in the plot."""

    seconds: list[float]
    values: list[float]


class HardwareHistory:
    """The last samples of each GPU by its UUID; adding one costs microseconds, an hour of one GPU 144 kB."""

    def __init__(self, samples_kept: int = SAMPLES_KEPT) -> None:
        self._samples_kept = samples_kept
        self._rings: dict[str, _Ring] = {}

    @property
    def uuids(self) -> tuple[str, ...]:
        """GPUs that were ever seen."""
        return tuple(self._rings)

    def add(self, seconds: float, snapshot: HardwareSnapshot) -> None:
        """Keep what the snapshot says of each GPU.

        Args:
            seconds: When it was taken, by a clock that never goes back.
            snapshot: The machine then.
        """
        for gpu in snapshot.gpus:
            if gpu.uuid:
                ring = self._rings.setdefault(gpu.uuid, _Ring(self._samples_kept))
                ring.add(seconds, _values_of(gpu))

    def series(self, uuid: str, quantity: Quantity) -> Series:
        """One quantity of one GPU; empty for a GPU that was never seen."""
        ring = self._rings.get(uuid)
        return Series([], []) if ring is None else ring.series(_COLUMN[quantity])


class _Ring:
    """Columns of numbers; once full, a new row takes the oldest one's place."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._next = 0
        self._columns = tuple(array("d") for _ in range(len(Quantity) + 1))

    def add(self, seconds: float, values: tuple[float, ...]) -> None:
        row = (seconds, *values)
        if len(self._columns[0]) < self._size:
            for column, value in zip(self._columns, row, strict=True):
                column.append(value)
            return
        for column, value in zip(self._columns, row, strict=True):
            column[self._next] = value
        self._next = (self._next + 1) % self._size

    def series(self, column: int) -> Series:
        return Series(self._in_order(0), self._in_order(column))

    def _in_order(self, column: int) -> list[float]:
        values = self._columns[column]
        return (values[self._next :] + values[: self._next]).tolist()


_COLUMN = {quantity: at for at, quantity in enumerate(Quantity, start=1)}


def _values_of(gpu: GpuSnapshot) -> tuple[float, ...]:
    """In the order of `Quantity`."""
    told = (gpu.vram_used_bytes, gpu.utilization_percent, gpu.temperature_celsius, gpu.power_watts)
    return tuple(nan if value is None else float(value) for value in told)
