"""Asks NVIDIA's library (NVML) about one GPU; what the driver refuses is None, never an exception."""

from dataclasses import dataclass, replace
from pathlib import PureWindowsPath
from typing import Any

import psutil

from wan_studio.domain.hardware import GpuProcess, GpuSnapshot, GpuState, ThrottleReason

# Numbers of nvml.h. Its errors in Python differ from one release to the next; the numbers do not.
NO_PERMISSION, GPU_IS_LOST, RESET_REQUIRED, GPU_NOT_FOUND = 4, 15, 16, 28
_TEMPERATURE_OF_GPU = 0
_THRESHOLD_SLOWDOWN = 1
_DRIVER_MODEL_WDDM = 0

_REASON_BITS = {
    0x1: ThrottleReason.IDLE,
    0x2: ThrottleReason.CLOCK_SETTING,
    0x4: ThrottleReason.POWER_CAP,
    0x8: ThrottleReason.HARDWARE_SLOWDOWN,
    0x10: ThrottleReason.SYNC_BOOST,
    0x20: ThrottleReason.SOFTWARE_THERMAL,
    0x40: ThrottleReason.HARDWARE_THERMAL,
    0x80: ThrottleReason.POWER_BRAKE,
    0x100: ThrottleReason.DISPLAY_CLOCK,
}


@dataclass(frozen=True, slots=True)
class _Memory:
    total: int | None = None
    used: int | None = None
    reserved: int = 0


class GpuReader:
    """One GPU, by its number in the driver's order; what never changes of it is asked once."""

    def __init__(self, nvml: Any, index: int) -> None:
        self._nvml = nvml
        self._index = index
        self._handle: Any = None
        self._fixed: GpuSnapshot | None = None
        self._names: dict[int, str] = {}
        self._fault = 0
        self._refusal = 0

    def read(self) -> GpuSnapshot:
        """The GPU now; about twenty questions to the driver."""
        self._fault = 0
        known = self._fixed or GpuSnapshot(self._index, "", "")
        if self._handle is None:
            try:
                self._handle = self._nvml.nvmlDeviceGetHandleByIndex(self._index)
            except self._nvml.NVMLError as error:
                return without_figures(known, _state_of(int(error.value)))
        if self._fixed is None:
            known = self._ask_fixed()
            if known.name and not self._fault:
                self._fixed = known
        shot = self._ask_moving(known)
        if self._fault:
            # Its other answers are of no use, and a handle of a GPU that is gone stays bad.
            self._handle = None
            return without_figures(known, _state_of(self._fault))
        if not shot.name and shot.vram_total_bytes is None:
            return without_figures(known, _state_of(self._refusal))
        return shot

    def _ask_fixed(self) -> GpuSnapshot:
        capability = self._ask("nvmlDeviceGetCudaComputeCapability")
        return GpuSnapshot(
            index=self._index,
            uuid=_text(self._ask("nvmlDeviceGetUUID")) or f"GPU {self._index}",
            name=_text(self._ask("nvmlDeviceGetName")),
            capability=None if capability is None else (int(capability[0]), int(capability[1])),
            slowdown_celsius=_whole(self._ask("nvmlDeviceGetTemperatureThreshold", _THRESHOLD_SLOWDOWN)),
            pcie_max_generation=_whole(self._ask("nvmlDeviceGetMaxPcieLinkGeneration")),
            pcie_max_width=_whole(self._ask("nvmlDeviceGetMaxPcieLinkWidth")),
            is_wddm=self._ask("nvmlDeviceGetCurrentDriverModel") == _DRIVER_MODEL_WDDM,
        )

    def _ask_moving(self, fixed: GpuSnapshot) -> GpuSnapshot:
        memory = self._ask_memory()
        utilization = self._ask("nvmlDeviceGetUtilizationRates")
        mig = self._ask("nvmlDeviceGetMigMode")
        return replace(
            fixed,
            vram_total_bytes=memory.total,
            vram_used_bytes=memory.used,
            vram_reserved_bytes=memory.reserved,
            utilization_percent=None if utilization is None else int(utilization.gpu),
            temperature_celsius=_whole(self._ask("nvmlDeviceGetTemperature", _TEMPERATURE_OF_GPU)),
            power_watts=_watts(self._ask("nvmlDeviceGetPowerUsage")),
            power_limit_watts=_watts(self._ask("nvmlDeviceGetEnforcedPowerLimit")),
            throttle_reasons=self._ask_reasons(),
            processes=self._ask_processes(),
            pcie_generation=_whole(self._ask("nvmlDeviceGetCurrPcieLinkGeneration")),
            pcie_width=_whole(self._ask("nvmlDeviceGetCurrPcieLinkWidth")),
            drives_display=self._ask_display(),
            state=GpuState.SPLIT if mig is not None and int(mig[0]) == 1 else GpuState.READY,
        )

    def _ask_memory(self) -> _Memory:
        # The second version tells the driver's own share apart; drivers before 510 do not have it.
        second = self._ask("nvmlDeviceGetMemoryInfo", getattr(self._nvml, "nvmlMemory_v2", None))
        if second is not None:
            reserved = int(getattr(second, "reserved", 0))
            return _Memory(int(second.total), int(second.used), reserved)
        first = self._ask("nvmlDeviceGetMemoryInfo")
        return _Memory() if first is None else _Memory(int(first.total), int(first.used))

    def _ask_reasons(self) -> frozenset[ThrottleReason] | None:
        bits = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if bits is None:
            # The same answer under the name that drivers before 535 know.
            bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        if bits is None:
            return None
        return frozenset(reason for bit, reason in _REASON_BITS.items() if int(bits) & bit)

    def _ask_display(self) -> bool | None:
        # Not nvmlDeviceGetDisplayMode, "is a monitor connected": an H200, which has no connector, says yes.
        active = self._ask("nvmlDeviceGetDisplayActive")
        return None if active is None else bool(active)

    def _ask_processes(self) -> tuple[GpuProcess, ...] | None:
        lists = (
            self._ask("nvmlDeviceGetComputeRunningProcesses"),
            self._ask("nvmlDeviceGetGraphicsRunningProcesses"),
        )
        if all(one is None for one in lists):
            return None
        sizes: dict[int, int | None] = {}
        for entry in (entry for one in lists for entry in one or ()):
            # A program that draws and computes stands in both lists with the same memory.
            told = [size for size in (sizes.get(entry.pid), entry.usedGpuMemory) if size is not None]
            sizes[int(entry.pid)] = max(told, default=None)
        # A number may soon be another program's: names are kept only while their program is there.
        self._names = {pid: self._names.get(pid) or self._name_of(pid) for pid in sizes}
        found = [GpuProcess(pid, self._names[pid], size) for pid, size in sizes.items()]
        return tuple(sorted(found, key=lambda one: (-(one.vram_bytes or 0), one.pid)))

    def _name_of(self, pid: int) -> str:
        """The file's name without folders; empty where neither the driver nor the system tells."""
        try:
            path = _text(self._nvml.nvmlSystemGetProcessName(pid))
        except (self._nvml.NVMLError, UnicodeDecodeError):
            path = ""
        if not path:
            try:
                path = psutil.Process(pid).name()
            except (psutil.Error, OSError):
                return ""
        # Programs that rewrite their command line, as browsers do, give it with all options; and a Windows path
        # takes both kinds of slashes.
        return PureWindowsPath(path.split(" -")[0]).name

    def _ask(self, question: str, *arguments: Any) -> Any:
        """The answer; None where driver or library do not know, or the GPU is gone (noted in `_fault`)."""
        if self._fault or None in arguments:
            return None
        ask = getattr(self._nvml, question, None)
        if ask is None:
            return None
        try:
            return ask(self._handle, *arguments)
        except self._nvml.NVMLError as error:
            if error.value in (GPU_IS_LOST, RESET_REQUIRED, GPU_NOT_FOUND):
                self._fault = int(error.value)
            self._refusal = int(error.value)
            return None


def without_figures(gpu: GpuSnapshot, state: GpuState) -> GpuSnapshot:
    """What is known of a GPU that gives no figures: only what never changes."""
    return GpuSnapshot(
        index=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        vram_total_bytes=gpu.vram_total_bytes,
        slowdown_celsius=gpu.slowdown_celsius,
        pcie_max_generation=gpu.pcie_max_generation,
        pcie_max_width=gpu.pcie_max_width,
        capability=gpu.capability,
        is_wddm=gpu.is_wddm,
        state=state,
    )


def _state_of(error: int) -> GpuState:
    states = {
        GPU_IS_LOST: GpuState.LOST,
        GPU_NOT_FOUND: GpuState.LOST,
        RESET_REQUIRED: GpuState.NEEDS_RESET,
        NO_PERMISSION: GpuState.NO_PERMISSION,
    }
    return states.get(error, GpuState.NO_ANSWER)


def _text(value: Any) -> str:
    """Older releases of the library give bytes."""
    if value is None:
        return ""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _watts(milliwatts: Any) -> float | None:
    return None if milliwatts is None else float(milliwatts) / 1000
