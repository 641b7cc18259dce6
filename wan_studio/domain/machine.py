"""The machine as a plan sees it: what one GPU, the memory and the disk can take."""

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True, slots=True)
class PlannedGpu:
    """The GPU that a plan is for.

    Attributes:
        name: As the driver or the user calls it; empty where only its memory is known.
        total_bytes: Its memory.
        free_bytes: What other programs and the desktop leave of it.
        capability: Compute capability, (8, 9) for an RTX 4090; None where it is not known.
        link_bytes_per_second: From RAM to the GPU, one way; None where it is not known.
        drives_display: Whether a screen hangs on it.
    """

    name: str
    total_bytes: int
    free_bytes: int
    capability: tuple[int, int] | None = None
    link_bytes_per_second: float | None = None
    drives_display: bool = False

    @property
    def has_bfloat16(self) -> bool:
        """Whether it computes in bf16; what is not known is taken to be able."""
        return self.capability is None or self.capability >= (8, 0)

    @property
    def has_float8(self) -> bool:
        """Whether it multiplies in 8 bits; what is not known is taken not to be able."""
        return self.capability is not None and self.capability >= (8, 9)


@dataclass(frozen=True, slots=True)
class Machine:
    """What a plan may use.

    Attributes:
        gpu: None where there is none.
        ram_total_bytes: Or the limit of the container, where that is lower.
        ram_available_bytes: What other programs leave of it.
        disk_free_bytes: Where caches and runs lie; None where it is not known.
        is_windows: Windows lends the GPU at most half of the RAM for pinned memory, and takes more for itself.
    """

    gpu: PlannedGpu | None
    ram_total_bytes: int
    ram_available_bytes: int
    disk_free_bytes: int | None = None
    is_windows: bool = False
