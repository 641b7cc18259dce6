"""What the machine has: GPUs by NVML, memory and disk. Never fails; what is missing is said in words."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pynvml  # pyright: ignore[reportMissingTypeStubs]

# NVML comes without types; its own errors are the only thing that it raises.
_nvml: Any = pynvml


@dataclass(frozen=True, slots=True)
class GpuSnapshot:
    """One GPU now; a figure that the driver does not give is None."""

    index: int
    uuid: str
    name: str
    vram_total_bytes: int
    vram_used_bytes: int
    utilization_percent: int | None = None
    temperature_celsius: int | None = None
    power_watts: float | None = None


@dataclass(frozen=True, slots=True)
class HardwareSnapshot:
    """The machine now.

    Attributes:
        gpus: NVIDIA GPUs in the driver's order.
        gpu_problem: Why there are none, in a sentence; empty when there are.
        disk_free_bytes: Free space where the folder asked for is or would be made.
    """

    gpus: tuple[GpuSnapshot, ...]
    gpu_problem: str
    ram_total_bytes: int
    ram_available_bytes: int
    disk_free_bytes: int


class HardwareProbe:
    """Asks the driver and the operating system; keep one and call `snapshot` as often as wanted."""

    def __init__(self) -> None:
        self._is_ready = False
        self.driver_version = ""

    def snapshot(self, folder: Path) -> HardwareSnapshot:
        """The machine now, a few milliseconds; `folder` need not exist."""
        gpus, problem = self._gpus()
        memory = psutil.virtual_memory()
        return HardwareSnapshot(gpus, problem, memory.total, memory.available, disk_free_bytes(folder))

    def _gpus(self) -> tuple[tuple[GpuSnapshot, ...], str]:
        try:
            if not self._is_ready:
                _nvml.nvmlInit()
                self._is_ready = True
                self.driver_version = str(_nvml.nvmlSystemGetDriverVersion())
            count = int(_nvml.nvmlDeviceGetCount())
            gpus = tuple(_gpu(index) for index in range(count))
        except _nvml.NVMLError as error:
            self._is_ready = False
            return (), _worded(error)
        if not gpus:
            return (), "The NVIDIA driver is there, but it finds no GPU."
        return gpus, ""


def disk_free_bytes(folder: Path) -> int:
    """Free space of the disk that holds the folder, or its nearest parent that exists; 0 if not known."""
    for place in (folder.absolute(), *folder.absolute().parents):
        try:
            return shutil.disk_usage(place).free
        except OSError:
            continue
    return 0


def _gpu(index: int) -> GpuSnapshot:
    handle = _nvml.nvmlDeviceGetHandleByIndex(index)
    memory = _nvml.nvmlDeviceGetMemoryInfo(handle)
    utilization = _asked(_nvml.nvmlDeviceGetUtilizationRates, handle)
    temperature = _asked(_nvml.nvmlDeviceGetTemperature, handle, _nvml.NVML_TEMPERATURE_GPU)
    milliwatts = _asked(_nvml.nvmlDeviceGetPowerUsage, handle)
    return GpuSnapshot(
        index=index,
        uuid=str(_nvml.nvmlDeviceGetUUID(handle)),
        name=str(_nvml.nvmlDeviceGetName(handle)),
        vram_total_bytes=int(memory.total),
        vram_used_bytes=int(memory.used),
        utilization_percent=None if utilization is None else int(utilization.gpu),
        temperature_celsius=None if temperature is None else int(temperature),
        power_watts=None if milliwatts is None else float(milliwatts) / 1000,
    )


def _asked(question: Any, *arguments: Any) -> Any:
    """The answer, or None where the GPU does not know (virtual and laptop GPUs leave some out)."""
    try:
        return question(*arguments)
    except _nvml.NVMLError:
        return None


def _worded(error: Exception) -> str:
    missing = (_nvml.NVMLError_LibraryNotFound, _nvml.NVMLError_DriverNotLoaded)
    if isinstance(error, missing):
        return "No NVIDIA driver was found. Training runs on the CPU, which suits the miniature only."
    return f"The NVIDIA driver does not answer ({error}). Restart the computer, or install the driver again."
