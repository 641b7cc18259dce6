"""The machine as it is now: its GPUs, memory and disks, and what their states mean in words."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from wan_studio.domain.machine import Machine, PlannedGpu

# Per lane and direction: transfers a second less the line code (8b/10b, 128b/130b, from generation 6 on FLITs), PCI
# Express base specifications 1 to 6.
_LANE_BYTES_PER_SECOND = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9}
_USABLE_SHARE_OF_LINK = 0.8


class Words(NamedTuple):
    """A state for people.

    Attributes:
        text: What happened, in a sentence; empty where nothing did.
        hint: What to do about it.
    """

    text: str = ""
    hint: str = ""


class MachineState(StrEnum):
    """Whether NVIDIA's driver can be asked."""

    READY = "ready"
    NO_DRIVER = "no driver"
    DRIVER_NOT_LOADED = "driver not loaded"
    DRIVER_UPDATED = "driver updated"
    NO_PERMISSION = "no permission"
    NO_GPU = "no GPU"
    NO_ANSWER = "no answer"


class GpuState(StrEnum):
    """Whether a GPU can train; of all but the last two, few figures are known."""

    LOST = "lost"
    NEEDS_RESET = "needs reset"
    NO_PERMISSION = "no permission"
    NO_ANSWER = "no answer"
    SPLIT = "split by MIG"
    READY = "ready"


class ThrottleReason(StrEnum):
    """What holds a GPU's clock below its highest, as the driver names it."""

    IDLE = "nothing to do"
    CLOCK_SETTING = "clocks set by an application or a user"
    POWER_CAP = "power limit"
    HARDWARE_SLOWDOWN = "hardware slowdown"
    SYNC_BOOST = "kept in step with other GPUs"
    SOFTWARE_THERMAL = "heat, slowed by the driver"
    HARDWARE_THERMAL = "heat, slowed by the hardware"
    POWER_BRAKE = "power brake of the supply"
    DISPLAY_CLOCK = "clocks set by the display"


THERMAL_REASONS = frozenset({ThrottleReason.SOFTWARE_THERMAL, ThrottleReason.HARDWARE_THERMAL})
"""Heat. The power limit is none of these: at work every card is at it, and is meant to be."""


class DiskUse(StrEnum):
    """What a folder's disk is wanted for."""

    RUNS = "runs"
    CACHE = "cache"
    MODELS = "models"


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A program that uses a GPU.

    Attributes:
        pid: As the driver sees it; inside a container that may be the host's.
        name: Of its file, without folders; empty where nobody tells.
        vram_bytes: None where the driver does not tell, as Windows' display driver (WDDM) never does.
    """

    pid: int
    name: str
    vram_bytes: int | None

    @property
    def words(self) -> str:
        """Name and number, e.g. "blender (pid 4242)"."""
        return f"{self.name} (pid {self.pid})" if self.name else f"pid {self.pid}"


@dataclass(frozen=True, slots=True)
class GpuSnapshot:
    """One GPU now; a figure that the driver does not give is None.

    Attributes:
        index: In the driver's order, from 0.
        uuid: Stays the same when the order changes; empty for a GPU that was lost before it was ever asked.
        name: As the driver calls it; may be empty together with `uuid`.
        vram_used_bytes: By all programs; where the driver tells the two apart, without what it keeps for itself.
        vram_reserved_bytes: What the driver and the firmware keep; 0 where it counts as used.
        utilization_percent: Share of the last moments in which it computed, 0..100.
        power_limit_watts: The limit in force.
        slowdown_celsius: From here on the hardware slows itself down.
        throttle_reasons: Empty when nothing holds the clock.
        processes: Programs on it, the largest first; None when the driver does not list them.
        pcie_generation: Now; falls while the GPU is idle, as the width may.
        pcie_max_generation: The most that this card and this slot can do together.
        pcie_width: Lanes now, 1..16.
        capability: Compute capability, e.g. (8, 9).
        drives_display: Whether a desktop runs on it and holds memory.
        is_wddm: Whether Windows manages its memory; programs' shares are then not known.
    """

    index: int
    uuid: str
    name: str
    vram_total_bytes: int | None = None
    vram_used_bytes: int | None = None
    vram_reserved_bytes: int = 0
    utilization_percent: int | None = None
    temperature_celsius: int | None = None
    slowdown_celsius: int | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    throttle_reasons: frozenset[ThrottleReason] | None = None
    processes: tuple[GpuProcess, ...] | None = None
    pcie_generation: int | None = None
    pcie_max_generation: int | None = None
    pcie_width: int | None = None
    pcie_max_width: int | None = None
    capability: tuple[int, int] | None = None
    drives_display: bool | None = None
    is_wddm: bool = False
    state: GpuState = GpuState.READY

    @property
    def is_ready(self) -> bool:
        """Whether it can train."""
        return self.state is GpuState.READY

    @property
    def is_mig(self) -> bool:
        """Whether it is split into instances."""
        return self.state is GpuState.SPLIT

    @property
    def label(self) -> str:
        """Its name, or its number where there is none."""
        return self.name or f"GPU {self.index}"

    @property
    def vram_free_bytes(self) -> int | None:
        """What a program can still take."""
        if self.vram_total_bytes is None or self.vram_used_bytes is None:
            return None
        return max(0, self.vram_total_bytes - self.vram_used_bytes - self.vram_reserved_bytes)

    @property
    def vram_share(self) -> float:
        """How much of the memory is taken, the driver's share included, 0..1; 0 where it is not known."""
        free = self.vram_free_bytes
        return 0.0 if free is None or not self.vram_total_bytes else 1 - free / self.vram_total_bytes

    @property
    def link_bytes_per_second(self) -> float | None:
        """From RAM to the GPU at the link's best, one way; None where the driver does not tell.

        About 80 % of the nominal rate (PCI Express base specifications) is what copies from pinned memory reach:
        packet headers, acknowledgements and the memory controllers take the rest. That makes 12.6e9 for generation 3
        with 16 lanes, 25.2e9 for 4 and 50.4e9 for 5. The best, not what is now: an idle GPU lowers its link.
        """
        per_lane = _LANE_BYTES_PER_SECOND.get(self.pcie_max_generation or 0)
        if per_lane is None or self.pcie_max_width is None:
            return None
        return _USABLE_SHARE_OF_LINK * per_lane * self.pcie_max_width

    @property
    def words(self) -> Words:
        """What is the matter with it, and what to do; both empty when nothing is."""
        words = _GPU_WORDS.get(self.state)
        return Words() if words is None else Words(f"{self.label} {words.text}", words.hint)


@dataclass(frozen=True, slots=True)
class FolderDisk:
    """The disk under a folder; the folder itself need not exist.

    Attributes:
        free_bytes: None where it cannot be told.
    """

    use: DiskUse
    folder: Path
    free_bytes: int | None
    total_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class HardwareSnapshot:
    """The machine now.

    Attributes:
        gpus: NVIDIA GPUs in the driver's order, also those that cannot train.
        ram_total_bytes: Or the container's limit, where that is lower.
        ram_available_bytes: What programs can still take, within that limit.
        disks: One for each folder that was asked for.
        state: Whether the driver can be asked.
        driver_version: Empty where there is none.
        cuda_version: The newest that this driver serves, e.g. (12, 8).
        container_limit_bytes: None where no container limits the memory.
        swap_total_bytes: Swap, or Windows' page file; 0 where there is none, None where it is not known.
        is_windows: Whether this is Windows itself.
        is_wsl: Whether this is Linux inside Windows.
        error: The driver's own words, where it gave an unexpected answer.
    """

    gpus: tuple[GpuSnapshot, ...]
    ram_total_bytes: int
    ram_available_bytes: int
    disks: tuple[FolderDisk, ...] = ()
    state: MachineState = MachineState.READY
    driver_version: str = ""
    cuda_version: tuple[int, int] | None = None
    container_limit_bytes: int | None = None
    swap_total_bytes: int | None = None
    swap_free_bytes: int | None = None
    is_windows: bool = False
    is_wsl: bool = False
    error: str = ""

    @property
    def gpu_problem(self) -> str:
        """Why there are no GPUs, in a sentence; empty when there are."""
        return self.words.text

    @property
    def words(self) -> Words:
        """What is the matter with the driver, and what to do; both empty when nothing is."""
        words = _MACHINE_WORDS[self.state]
        if self.state is MachineState.NO_DRIVER and self.is_wsl:
            return Words(
                words.text, "In WSL the driver is Windows': install NVIDIA's for Windows, and none in Linux."
            )
        if self.state is MachineState.NO_ANSWER and self.error:
            return Words(f"The NVIDIA driver does not answer ({self.error}).", words.hint)
        return words

    @property
    def disk_free_bytes(self) -> int:
        """Free space where runs lie; 0 where it is not known."""
        return self.free_bytes_for(DiskUse.RUNS) or 0

    def free_bytes_for(self, use: DiskUse) -> int | None:
        """Free space for one use; None where it is not known or was not asked for."""
        return next((disk.free_bytes for disk in self.disks if disk.use is use), None)

    def gpu(self, index: int) -> GpuSnapshot | None:
        """The GPU with this number in the driver's order."""
        return next((gpu for gpu in self.gpus if gpu.index == index), None)

    def gpu_or_first(self, index: int) -> GpuSnapshot | None:
        """The GPU with this number, or the first one; None where there are none."""
        return self.gpu(index) or (self.gpus[0] if self.gpus else None)


def machine_of(
    snapshot: HardwareSnapshot,
    gpu_index: int = 0,
    manual_vram_bytes: int | None = None,
    own_pids: Collection[int] = (),
) -> Machine:
    """The machine as a plan sees it.

    Args:
        snapshot: The machine now.
        gpu_index: The GPU that will train.
        manual_vram_bytes: What the user says that the GPU has; counts only where the driver does not tell.
        own_pids: Our trainers' processes: what they hold will be free for the next.
    """
    used_for_runs = (snapshot.free_bytes_for(DiskUse.RUNS), snapshot.free_bytes_for(DiskUse.CACHE))
    known = [size for size in used_for_runs if size is not None]
    return Machine(
        gpu=_planned_gpu(snapshot.gpu(gpu_index), manual_vram_bytes, own_pids),
        ram_total_bytes=snapshot.ram_total_bytes,
        ram_available_bytes=snapshot.ram_available_bytes,
        disk_free_bytes=min(known, default=None),
        is_windows=snapshot.is_windows,
    )


def _planned_gpu(
    gpu: GpuSnapshot | None, manual_vram_bytes: int | None, own_pids: Collection[int]
) -> PlannedGpu | None:
    if gpu is None or not gpu.is_ready:
        return PlannedGpu("", manual_vram_bytes, manual_vram_bytes) if manual_vram_bytes else None
    total, free = gpu.vram_total_bytes, gpu.vram_free_bytes
    if total is None or free is None:
        # Where GPU and CPU share their memory, the driver does not say how much of it is the GPU's.
        if not manual_vram_bytes:
            return None
        total = free = manual_vram_bytes
    else:
        own = sum(one.vram_bytes or 0 for one in gpu.processes or () if one.pid in own_pids)
        free = min(free + own, total)
    return PlannedGpu(
        name=gpu.name,
        total_bytes=total,
        free_bytes=free,
        capability=gpu.capability,
        link_bytes_per_second=gpu.link_bytes_per_second,
        drives_display=bool(gpu.drives_display),
    )


_RESTART = "Restart the computer, or install the driver again."

_MACHINE_WORDS = {
    MachineState.READY: Words(),
    MachineState.NO_DRIVER: Words(
        "No NVIDIA driver was found. Training runs on the CPU, which suits the miniature only.",
        "Where there is an NVIDIA card, install its driver from nvidia.com or by the system's package manager.",
    ),
    MachineState.DRIVER_NOT_LOADED: Words(
        "The NVIDIA driver is installed but not loaded. Training runs on the CPU, which suits the miniature only.",
        "Restart the computer. Where that does not help, Secure Boot may have refused the driver: sign it or install "
        "it again; in a container, start it with access to the GPU.",
    ),
    MachineState.DRIVER_UPDATED: Words(
        "The NVIDIA driver was updated, and its loaded part is still the old one.", "Restart the computer."
    ),
    MachineState.NO_PERMISSION: Words(
        "The NVIDIA driver is there, but this user may not use it.",
        "Check who may read /dev/nvidia*, often the group video or render; in a container, give it the GPU.",
    ),
    MachineState.NO_GPU: Words(
        "The NVIDIA driver is there, but it finds no GPU.",
        "Check that the card sits firmly and has its power cables; in a container, give it the GPU.",
    ),
    MachineState.NO_ANSWER: Words("The NVIDIA driver does not answer.", _RESTART),
}

_GPU_WORDS = {
    GpuState.LOST: Words(
        "has fallen off the bus: the driver no longer reaches it.",
        "Restart the computer; a run goes on from its last checkpoint. Where it happens again, look at power cables, "
        "heat and the slot.",
    ),
    GpuState.NEEDS_RESET: Words(
        "has met a fault and must be reset before it computes again.", "Restart the computer."
    ),
    GpuState.NO_PERMISSION: Words(
        "may not be used by this user.",
        "Check who may read /dev/nvidia*, often the group video or render; in a container, give it the GPU.",
    ),
    GpuState.NO_ANSWER: Words("does not answer the driver.", _RESTART),
    GpuState.SPLIT: Words(
        "is split into instances (MIG), and training on an instance is not supported.",
        "Turn MIG off (needs an administrator: nvidia-smi -i NUMBER -mig 0), or choose another GPU.",
    ),
}
