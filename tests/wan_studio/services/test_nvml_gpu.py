"""One GPU's answers, replayed from a recording of a real card; a test that changes an answer names the change."""

import os

import psutil
import pytest

from tests.wan_studio.services.replayed_nvml import (
    GPU_IS_LOST,
    NO_PERMISSION,
    NOT_SUPPORTED,
    RESET_REQUIRED,
    UNKNOWN,
    ReplayedNvml,
    error,
    value,
)
from wan_studio.domain.hardware import GpuProcess, GpuState, ThrottleReason
from wan_studio.services.nvml_gpu import GpuReader


def read(nvml):
    return GpuReader(nvml, 0).read()


def processes(*pids_and_sizes):
    return value([{"pid": pid, "usedGpuMemory": size} for pid, size in pids_and_sizes])


@pytest.mark.parametrize("moment", ["idle", "at work"])
def test_a_real_card_is_told_in_full(moment):
    nvml = ReplayedNvml(moment)
    gpu = read(nvml)
    assert gpu.state is GpuState.READY
    assert gpu.name == nvml.recorded_value("nvmlDeviceGetName")
    assert "H200" in gpu.name
    assert gpu.uuid.startswith("GPU-")
    assert gpu.capability == (9, 0)
    second = nvml.recorded_value(f"nvmlDeviceGetMemoryInfo,{nvml.nvmlMemory_v2}")
    assert gpu.vram_total_bytes == second["total"]
    assert gpu.vram_free_bytes == pytest.approx(second["free"], abs=2**20)
    assert gpu.power_watts == nvml.recorded_value("nvmlDeviceGetPowerUsage") / 1000
    assert gpu.power_watts < gpu.power_limit_watts <= 700
    assert gpu.temperature_celsius < gpu.slowdown_celsius
    assert (gpu.pcie_max_generation, gpu.pcie_max_width) == (5, 16)
    assert gpu.link_bytes_per_second == pytest.approx(50e9, rel=0.02)
    assert not gpu.is_wddm


def test_a_program_at_work_on_a_real_card_is_named_with_its_memory():
    (process,) = read(ReplayedNvml("at work")).processes
    assert (process.name, process.vram_bytes) == ("python3", 5440012288)
    assert read(ReplayedNvml("idle")).processes == ()


def test_a_card_at_work_is_busier_warmer_and_fuller_than_an_idle_one():
    idle, busy = read(ReplayedNvml("idle")), read(ReplayedNvml("at work"))
    assert busy.utilization_percent > 90 > idle.utilization_percent
    assert busy.temperature_celsius > idle.temperature_celsius
    assert busy.power_watts > idle.power_watts
    assert busy.vram_used_bytes > idle.vram_used_bytes + 4 * 2**30
    assert ThrottleReason.IDLE not in busy.throttle_reasons


def test_what_never_changes_is_asked_once():
    nvml = ReplayedNvml()
    reader = GpuReader(nvml, 0)
    for _ in range(5):
        reader.read()
    assert nvml.asked["nvmlDeviceGetName"] == 1
    assert nvml.asked["nvmlDeviceGetMaxPcieLinkGeneration"] == 1
    assert nvml.asked["nvmlDeviceGetUtilizationRates"] == 5


QUESTIONS_THAT_MAY_BE_REFUSED = {
    "nvmlDeviceGetCudaComputeCapability": "capability",
    "nvmlDeviceGetUtilizationRates": "utilization_percent",
    "nvmlDeviceGetTemperature,0": "temperature_celsius",
    "nvmlDeviceGetTemperatureThreshold,1": "slowdown_celsius",
    "nvmlDeviceGetPowerUsage": "power_watts",
    "nvmlDeviceGetEnforcedPowerLimit": "power_limit_watts",
    "nvmlDeviceGetCurrPcieLinkWidth": "pcie_width",
    "nvmlDeviceGetMaxPcieLinkGeneration": "pcie_max_generation",
}


@pytest.mark.parametrize("question", QUESTIONS_THAT_MAY_BE_REFUSED)
@pytest.mark.parametrize("code", [NOT_SUPPORTED, NO_PERMISSION, UNKNOWN])
def test_a_question_that_is_refused_is_a_figure_that_is_missing(question, code):
    whole = read(ReplayedNvml())
    gpu = read(ReplayedNvml(changes={question: error(code)}))
    assert getattr(gpu, QUESTIONS_THAT_MAY_BE_REFUSED[question]) is None
    assert gpu.is_ready
    assert gpu.vram_total_bytes == whole.vram_total_bytes


def test_a_driver_before_510_tells_the_memory_in_the_old_way():
    second = f"nvmlDeviceGetMemoryInfo,{ReplayedNvml.nvmlMemory_v2}"
    nvml = ReplayedNvml(changes={second: {"missing": True}})
    gpu, first = read(nvml), nvml.recorded_value("nvmlDeviceGetMemoryInfo")
    assert (gpu.vram_total_bytes, gpu.vram_used_bytes) == (first["total"], first["used"])
    assert gpu.vram_free_bytes == pytest.approx(first["free"], abs=2**20)


def test_a_gpu_that_does_not_tell_its_memory_is_there_all_the_same():
    # As where GPU and CPU share their memory.
    refused = error(NOT_SUPPORTED)
    changes = {
        "nvmlDeviceGetMemoryInfo": refused,
        f"nvmlDeviceGetMemoryInfo,{ReplayedNvml.nvmlMemory_v2}": refused,
    }
    gpu = read(ReplayedNvml(changes=changes))
    assert gpu.is_ready
    assert gpu.vram_total_bytes is None
    assert gpu.vram_free_bytes is None
    assert gpu.vram_share == 0.0


@pytest.mark.parametrize("question", ["nvmlDeviceGetHandleByIndex", "nvmlDeviceGetPowerUsage"])
def test_a_gpu_that_falls_off_the_bus_says_so_and_is_tried_again(question):
    nvml = ReplayedNvml()
    reader = GpuReader(nvml, 0)
    before = reader.read()
    nvml.changes[question] = error(GPU_IS_LOST)
    # Its old handle is bad as well, whatever is asked first.
    nvml.changes["nvmlDeviceGetUtilizationRates"] = error(GPU_IS_LOST)
    for _ in range(2):
        gpu = reader.read()
        assert gpu.state is GpuState.LOST
        assert (gpu.name, gpu.uuid) == (before.name, before.uuid)
        assert gpu.temperature_celsius is None
        assert "fallen off the bus" in gpu.words.text
        assert gpu.words.hint
    nvml.changes.clear()
    assert reader.read().is_ready


def test_other_states_of_a_gpu_have_words_too():
    needs_reset = read(ReplayedNvml(changes={"nvmlDeviceGetUtilizationRates": error(RESET_REQUIRED)}))
    assert needs_reset.state is GpuState.NEEDS_RESET
    forbidden = read(ReplayedNvml(changes={"nvmlDeviceGetHandleByIndex": error(NO_PERMISSION)}))
    assert forbidden.state is GpuState.NO_PERMISSION
    silent = read(ReplayedNvml(changes={"nvmlDeviceGetHandleByIndex": error(UNKNOWN)}))
    assert silent.state is GpuState.NO_ANSWER
    assert all(gpu.words.text and gpu.words.hint for gpu in (needs_reset, forbidden, silent))


def test_a_gpu_that_is_split_by_mig_is_seen_and_refused_in_a_sentence():
    gpu = read(ReplayedNvml(changes={"nvmlDeviceGetMigMode": value([1, 1])}))
    assert gpu.is_mig
    assert not gpu.is_ready
    assert "MIG" in gpu.words.text
    assert "not supported" in gpu.words.text


def test_throttle_reasons_are_read_bit_by_bit_and_also_under_their_old_name():
    bits = value(0x40 | 0x8 | 0x4)
    reasons = {ThrottleReason.HARDWARE_THERMAL, ThrottleReason.HARDWARE_SLOWDOWN, ThrottleReason.POWER_CAP}
    new, old = "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"
    assert read(ReplayedNvml(changes={new: bits})).throttle_reasons == reasons
    assert read(ReplayedNvml(changes={new: {"missing": True}, old: bits})).throttle_reasons == reasons
    neither = {new: {"missing": True}, old: {"missing": True}}
    assert read(ReplayedNvml(changes=neither)).throttle_reasons is None


def test_a_program_that_draws_and_computes_is_listed_once_and_the_largest_stands_first():
    own = os.getpid()
    gpu = read(
        ReplayedNvml(
            changes={
                "nvmlDeviceGetComputeRunningProcesses": processes((own, 10), (4_000_001, 7 * 2**30)),
                "nvmlDeviceGetGraphicsRunningProcesses": processes((own, 30), (4_000_002, None)),
                (4_000_001, "nvmlSystemGetProcessName"): value(r"C:\Program Files\Blender\blender.exe"),
                (4_000_002, "nvmlSystemGetProcessName"): value(
                    "/opt/chrome/chrome --type=gpu-process --a=/b"
                ),
            }
        )
    )
    assert gpu.processes == (
        GpuProcess(4_000_001, "blender.exe", 7 * 2**30),
        # Not in the recording: named by the system.
        GpuProcess(own, psutil.Process().name(), 30),
        GpuProcess(4_000_002, "chrome", None),
    )


def test_a_process_that_nobody_can_name_has_an_empty_name():
    gpu = read(ReplayedNvml(changes={"nvmlDeviceGetComputeRunningProcesses": processes((2**31 - 2, 5))}))
    (process,) = gpu.processes
    assert (process.name, process.words) == ("", f"pid {2**31 - 2}")


def test_on_windows_the_display_driver_does_not_tell_a_programs_share():
    gpu = read(
        ReplayedNvml(
            changes={
                "nvmlDeviceGetCurrentDriverModel": value(0),
                "nvmlDeviceGetComputeRunningProcesses": processes((os.getpid(), None)),
            }
        )
    )
    assert gpu.is_wddm
    assert gpu.processes[0].vram_bytes is None


def test_a_display_is_told_by_what_is_active_and_not_by_what_could_be_connected():
    # The recorded card has no connector and says "enabled" to the other question.
    assert ReplayedNvml().recorded_value("nvmlDeviceGetDisplayMode") == 1
    assert read(ReplayedNvml()).drives_display is False
    assert read(ReplayedNvml(changes={"nvmlDeviceGetDisplayActive": value(1)})).drives_display is True
    assert read(ReplayedNvml(changes={"nvmlDeviceGetDisplayActive": error(3)})).drives_display is None
