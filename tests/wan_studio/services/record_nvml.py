"""Record what NVML answers on a real card; run by hand where there is one, with torch to make it work.

python tests/wan_studio/services/record_nvml.py FILE.json

The answers are kept as they come, idle and at work, so that tests replay a real card and not our idea of one.
"""

import ctypes
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pynvml

DEVICE_QUESTIONS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("nvmlDeviceGetName", ()),
    ("nvmlDeviceGetUUID", ()),
    ("nvmlDeviceGetBrand", ()),
    ("nvmlDeviceGetArchitecture", ()),
    ("nvmlDeviceGetCudaComputeCapability", ()),
    ("nvmlDeviceGetMemoryInfo", ()),
    ("nvmlDeviceGetMemoryInfo", (pynvml.nvmlMemory_v2,)),
    ("nvmlDeviceGetBAR1MemoryInfo", ()),
    ("nvmlDeviceGetUtilizationRates", ()),
    ("nvmlDeviceGetTemperature", (pynvml.NVML_TEMPERATURE_GPU,)),
    ("nvmlDeviceGetTemperatureThreshold", (pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN,)),
    ("nvmlDeviceGetTemperatureThreshold", (pynvml.NVML_TEMPERATURE_THRESHOLD_GPU_MAX,)),
    ("nvmlDeviceGetTemperatureThreshold", (pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN,)),
    ("nvmlDeviceGetPowerUsage", ()),
    ("nvmlDeviceGetEnforcedPowerLimit", ()),
    ("nvmlDeviceGetPowerManagementDefaultLimit", ()),
    ("nvmlDeviceGetCurrentClocksEventReasons", ()),
    ("nvmlDeviceGetCurrentClocksThrottleReasons", ()),
    ("nvmlDeviceGetClockInfo", (pynvml.NVML_CLOCK_SM,)),
    ("nvmlDeviceGetMaxClockInfo", (pynvml.NVML_CLOCK_SM,)),
    ("nvmlDeviceGetCurrPcieLinkGeneration", ()),
    ("nvmlDeviceGetCurrPcieLinkWidth", ()),
    ("nvmlDeviceGetMaxPcieLinkGeneration", ()),
    ("nvmlDeviceGetMaxPcieLinkWidth", ()),
    ("nvmlDeviceGetPcieThroughput", (pynvml.NVML_PCIE_UTIL_TX_BYTES,)),
    ("nvmlDeviceGetPcieThroughput", (pynvml.NVML_PCIE_UTIL_RX_BYTES,)),
    ("nvmlDeviceGetDisplayMode", ()),
    ("nvmlDeviceGetDisplayActive", ()),
    ("nvmlDeviceGetMigMode", ()),
    ("nvmlDeviceGetPersistenceMode", ()),
    ("nvmlDeviceGetCurrentDriverModel", ()),
    ("nvmlDeviceGetFanSpeed", ()),
    ("nvmlDeviceGetComputeRunningProcesses", ()),
    ("nvmlDeviceGetGraphicsRunningProcesses", ()),
    ("nvmlDeviceGetPciInfo", ()),
)
SYSTEM_QUESTIONS = (
    "nvmlSystemGetDriverVersion",
    "nvmlSystemGetCudaDriverVersion_v2",
    "nvmlSystemGetNVMLVersion",
)


def plain(value: Any) -> Any:
    """An answer of NVML as JSON has it: structures become objects."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, ctypes.Structure):
        names = [field[0] for field in value._fields_]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return {name: plain(one) for name, one in vars(value).items()}


def asked(name: str, *arguments: Any) -> dict[str, Any]:
    """One answer, or the error; and the milliseconds that it took."""
    began = time.perf_counter()
    try:
        answer: dict[str, Any] = {"value": plain(getattr(pynvml, name)(*arguments))}
    except pynvml.NVMLError as error:
        answer = {"error": error.value}
    except AttributeError:
        answer = {"missing": True}
    return {**answer, "milliseconds": round(1000 * (time.perf_counter() - began), 3)}


def moment() -> dict[str, Any]:
    """Every answer now."""
    found: dict[str, Any] = {name: asked(name) for name in SYSTEM_QUESTIONS}
    devices: list[dict[str, Any]] = []
    pids = {os.getpid()}
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        answers: dict[str, Any] = {}
        for name, arguments in DEVICE_QUESTIONS:
            key = "".join((name, *(f",{one}" for one in arguments)))
            answers[key] = asked(name, handle, *arguments)
            if name.endswith("RunningProcesses"):
                pids |= {one["pid"] for one in answers[key].get("value", [])}
        devices.append(answers)
    found["processes"] = {str(pid): asked("nvmlSystemGetProcessName", pid) for pid in sorted(pids)}
    return {**found, "devices": devices}


def work(until: threading.Event) -> None:
    """Keep the card busy."""
    import torch

    x = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    held = torch.zeros(4 * 2**30, dtype=torch.uint8, device="cuda")
    while not until.is_set():
        for _ in range(20):
            x = (x @ x).clamp(-1, 1)
        torch.cuda.synchronize()
    del held


def main() -> None:
    """Record both moments and write them."""
    pynvml.nvmlInit()
    moments = {"idle": moment()}
    stop = threading.Event()
    worker = threading.Thread(target=work, args=(stop,))
    worker.start()
    time.sleep(8.0)
    moments["at work"] = moment()
    stop.set()
    worker.join()
    Path(sys.argv[1]).write_text(json.dumps(moments, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
