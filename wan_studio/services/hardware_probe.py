"""What the machine has: GPUs by NVML, memory and disk. Never fails; what is missing is said in words."""

import contextlib
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pynvml  # pyright: ignore[reportMissingTypeStubs]

from wan_studio.domain.hardware import (
    DiskUse,
    FolderDisk,
    GpuSnapshot,
    GpuState,
    HardwareSnapshot,
    MachineState,
)
from wan_studio.services.container_memory import ContainerLimits
from wan_studio.services.nvml_gpu import GPU_IS_LOST, GpuReader, without_figures

# NVML comes without types; its own errors are the only thing that it raises.
_nvml: Any = pynvml

_SNAPSHOTS_BETWEEN_TRIES = 30
"""Starting a driver that is not there may run a program of the system's: not once a second."""

_STATES = {
    4: MachineState.NO_PERMISSION,  # NVML_ERROR_NO_PERMISSION
    9: MachineState.DRIVER_NOT_LOADED,  # NVML_ERROR_DRIVER_NOT_LOADED
    12: MachineState.NO_DRIVER,  # NVML_ERROR_LIBRARY_NOT_FOUND
    18: MachineState.DRIVER_UPDATED,  # NVML_ERROR_LIB_RM_VERSION_MISMATCH
}


@dataclass(frozen=True, slots=True)
class _Driver:
    """What the driver said."""

    state: MachineState
    gpus: tuple[GpuSnapshot, ...] = ()
    version: str = ""
    cuda: tuple[int, int] | None = None
    error: str = ""


class HardwareProbe:
    """Asks the driver and the operating system; keep one and call `snapshot` as often as wanted.

    Args:
        nvml: The module that is asked about GPUs.
        limits: Where a container's limit of memory is read.
    """

    def __init__(self, nvml: Any = _nvml, limits: ContainerLimits | None = None) -> None:
        self._nvml = nvml
        self._limits = limits or ContainerLimits()
        self._readers: list[GpuReader] = []
        self._known: dict[str, GpuSnapshot] = {}
        self._is_ready = False
        self._wait = 0
        self._failed = _Driver(MachineState.NO_ANSWER)
        self._version = ""
        self._cuda: tuple[int, int] | None = None

    def snapshot(self, folders: Path | Mapping[DiskUse, Path]) -> HardwareSnapshot:
        """The machine now, a few milliseconds.

        Args:
            folders: Whose disks' free space is meant, or the folder of runs alone; they need not exist.
        """
        driver = self._ask_driver()
        memory = psutil.virtual_memory()
        container = self._limits.read(memory.total)
        total, available = memory.total, memory.available
        if container is not None:
            total, available = container.limit_bytes, min(available, container.available_bytes)
        swap_total, swap_free = _swap()
        uses = folders if isinstance(folders, Mapping) else {DiskUse.RUNS: folders}
        return HardwareSnapshot(
            gpus=driver.gpus,
            ram_total_bytes=total,
            ram_available_bytes=available,
            disks=tuple(disk_of(use, folder) for use, folder in uses.items()),
            state=driver.state,
            driver_version=driver.version,
            cuda_version=driver.cuda,
            container_limit_bytes=None if container is None else container.limit_bytes,
            swap_total_bytes=swap_total,
            swap_free_bytes=swap_free,
            is_windows=sys.platform == "win32",
            is_wsl=is_wsl(),
            error=driver.error,
        )

    def _ask_driver(self) -> _Driver:
        if not self._is_ready and self._wait > 0:
            self._wait -= 1
            return self._failed
        try:
            if not self._is_ready:
                self._start()
            count = int(self._nvml.nvmlDeviceGetCount())
        except self._nvml.NVMLError as error:
            return self._after(error)
        if count != len(self._readers):
            self._readers = [GpuReader(self._nvml, index) for index in range(count)]
        gpus = self._read_all()
        state = MachineState.READY if gpus else MachineState.NO_GPU
        return _Driver(state, gpus, self._version, self._cuda)

    def _read_all(self) -> tuple[GpuSnapshot, ...]:
        gpus = [reader.read() for reader in self._readers]
        self._known |= {gpu.uuid: gpu for gpu in gpus if gpu.is_ready}
        there = {gpu.uuid for gpu in gpus}
        # Some drivers no longer count a GPU that has fallen off the bus: it must not vanish without a word.
        gone = (gpu for uuid, gpu in self._known.items() if uuid not in there)
        gpus += [without_figures(gpu, GpuState.LOST) for gpu in gone]
        return tuple(gpus)

    def _start(self) -> None:
        self._nvml.nvmlInit()
        self._is_ready = True
        version = self._asked("nvmlSystemGetDriverVersion")
        self._version = version.decode(errors="replace") if isinstance(version, bytes) else str(version or "")
        cuda = self._asked("nvmlSystemGetCudaDriverVersion_v2") or self._asked(
            "nvmlSystemGetCudaDriverVersion"
        )
        # 12080 is 12.8.
        self._cuda = (int(cuda) // 1000, int(cuda) % 1000 // 10) if cuda else None

    def _after(self, error: Any) -> _Driver:
        """What the driver's refusal means; it is started anew after a while."""
        code = int(error.value)
        if code == GPU_IS_LOST and self._readers:
            # It does not even count its GPUs any more; each of them says so, and others may go on.
            return _Driver(MachineState.READY, self._read_all(), self._version, self._cuda)
        if self._is_ready:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
        self._is_ready, self._readers = False, []
        self._wait = _SNAPSHOTS_BETWEEN_TRIES
        self._failed = _Driver(_STATES.get(code, MachineState.NO_ANSWER), error=str(error))
        return self._failed

    def _asked(self, question: str) -> Any:
        """The answer of the driver as a whole; None where it has none."""
        ask = getattr(self._nvml, question, None)
        try:
            return None if ask is None else ask()
        except self._nvml.NVMLError:
            return None


def disk_of(use: DiskUse, folder: Path) -> FolderDisk:
    """The disk that holds the folder, or its nearest parent that exists."""
    for place in (folder.absolute(), *folder.absolute().parents):
        try:
            usage = shutil.disk_usage(place)
        except OSError:
            continue
        return FolderDisk(use, folder, usage.free, usage.total)
    return FolderDisk(use, folder, None)


def disk_free_bytes(folder: Path) -> int:
    """Free space of the disk that holds the folder, or its nearest parent that exists; 0 if not known."""
    return disk_of(DiskUse.RUNS, folder).free_bytes or 0


def is_wsl(kernel: str = "") -> bool:
    """Whether this is Linux inside Windows, told by the kernel's name; `kernel` replaces this machine's."""
    return sys.platform.startswith("linux") and "microsoft" in (kernel or platform.release()).casefold()


def _swap() -> tuple[int | None, int | None]:
    """Swap or page file: total and free bytes; None where the system does not tell."""
    try:
        swap = psutil.swap_memory()
    except (psutil.Error, OSError, RuntimeError):
        return None, None
    return swap.total, swap.free
