"""The machine as a whole: this one, and one with the recorded card; a test that changes an answer names it."""

import time

import psutil
import pytest

from tests.wan_studio.services.replayed_nvml import (
    DRIVER_NOT_LOADED,
    GPU_IS_LOST,
    LIBRARY_NOT_FOUND,
    NO_PERMISSION,
    UNKNOWN,
    ReplayedNvml,
    error,
    value,
)
from wan_studio.domain.hardware import DiskUse, GpuState, MachineState
from wan_studio.services.container_memory import ContainerLimits
from wan_studio.services.hardware_probe import HardwareProbe, disk_free_bytes, is_wsl


def test_a_snapshot_has_memory_and_disk_and_says_why_there_is_no_gpu(tmp_path):
    probe = HardwareProbe()
    for _ in range(2):
        snapshot = probe.snapshot(tmp_path / "not" / "yet" / "there")
        assert snapshot.ram_total_bytes == (snapshot.container_limit_bytes or psutil.virtual_memory().total)
        assert 0 < snapshot.ram_available_bytes <= snapshot.ram_total_bytes
        assert snapshot.disk_free_bytes > 0
        # Either GPUs or the reason why there are none, never both.
        assert bool(snapshot.gpus) != bool(snapshot.gpu_problem)
        for gpu in snapshot.gpus:
            assert 0 <= (gpu.vram_used_bytes or 0) <= (gpu.vram_total_bytes or 0)


def test_free_space_is_asked_of_the_nearest_folder_that_exists(tmp_path):
    assert disk_free_bytes(tmp_path / "a" / "b") > 0


def test_each_folder_has_its_disk(tmp_path):
    folders = {use: tmp_path / use for use in DiskUse}
    snapshot = HardwareProbe(ReplayedNvml()).snapshot(folders)
    assert [(disk.use, disk.folder) for disk in snapshot.disks] == list(folders.items())
    assert all(0 < disk.free_bytes <= disk.total_bytes for disk in snapshot.disks)


def test_the_driver_and_the_cuda_that_it_serves_are_told(tmp_path):
    nvml = ReplayedNvml(gpus=2)
    snapshot = HardwareProbe(nvml).snapshot(tmp_path)
    assert snapshot.state is MachineState.READY
    assert snapshot.driver_version == nvml.recorded["nvmlSystemGetDriverVersion"]["value"]
    number = nvml.recorded["nvmlSystemGetCudaDriverVersion_v2"]["value"]
    assert snapshot.cuda_version == (number // 1000, number % 1000 // 10)
    assert [gpu.index for gpu in snapshot.gpus] == [0, 1]
    assert not snapshot.gpu_problem


@pytest.mark.parametrize(
    ("code", "state"),
    [
        (LIBRARY_NOT_FOUND, MachineState.NO_DRIVER),
        (DRIVER_NOT_LOADED, MachineState.DRIVER_NOT_LOADED),
        (NO_PERMISSION, MachineState.NO_PERMISSION),
        (18, MachineState.DRIVER_UPDATED),
        (UNKNOWN, MachineState.NO_ANSWER),
    ],
)
def test_a_driver_that_cannot_be_asked_is_a_state_with_words(tmp_path, code, state):
    snapshot = HardwareProbe(ReplayedNvml(init_error=code)).snapshot(tmp_path)
    assert (snapshot.state, snapshot.gpus) == (state, ())
    assert snapshot.words.text.endswith(".")
    assert snapshot.words.hint.endswith(".")
    # The rest is there.
    assert snapshot.ram_total_bytes > 0
    assert snapshot.disk_free_bytes > 0


def test_a_driver_without_gpus_says_so(tmp_path):
    snapshot = HardwareProbe(ReplayedNvml(gpus=0)).snapshot(tmp_path)
    assert snapshot.state is MachineState.NO_GPU
    assert "finds no GPU" in snapshot.gpu_problem


def test_a_driver_that_is_not_there_is_tried_now_and_then_and_found_when_it_comes(tmp_path):
    nvml = ReplayedNvml(init_error=DRIVER_NOT_LOADED)
    probe = HardwareProbe(nvml)
    for _ in range(31):
        assert not probe.snapshot(tmp_path).gpus
    assert nvml.asked["nvmlInit"] == 1
    nvml.init_error = 0
    assert probe.snapshot(tmp_path).state is MachineState.READY


def test_one_lost_gpu_leaves_the_other_one_usable(tmp_path):
    nvml = ReplayedNvml(gpus=2)
    probe = HardwareProbe(nvml)
    probe.snapshot(tmp_path)
    nvml.changes[1, "nvmlDeviceGetUtilizationRates"] = error(GPU_IS_LOST)
    assert [gpu.state for gpu in probe.snapshot(tmp_path).gpus] == [GpuState.READY, GpuState.LOST]


@pytest.mark.parametrize("count", [value(1), error(GPU_IS_LOST)])
def test_a_lost_gpu_does_not_vanish_when_the_driver_no_longer_counts_it(tmp_path, count):
    nvml = ReplayedNvml(gpus=2)
    probe = HardwareProbe(nvml)
    second = probe.snapshot(tmp_path).gpus[1]
    nvml.changes["nvmlDeviceGetCount"] = count
    nvml.changes[1, "nvmlDeviceGetHandleByIndex"] = error(GPU_IS_LOST)
    nvml.changes[1, "nvmlDeviceGetUtilizationRates"] = error(GPU_IS_LOST)
    for _ in range(2):
        kept, lost = probe.snapshot(tmp_path).gpus
        assert kept.is_ready
        assert (lost.state, lost.uuid, lost.index) == (GpuState.LOST, second.uuid, 1)


def test_a_containers_limit_is_the_machines_memory(tmp_path):
    group = tmp_path / "cgroup"
    group.mkdir()
    (group / "memory.max").write_text(f"{2**30}\n")
    (group / "memory.current").write_text(f"{2**28}\n")
    own = tmp_path / "own"
    own.write_text("0::/\n")
    snapshot = HardwareProbe(ReplayedNvml(), ContainerLimits(group, own)).snapshot(tmp_path)
    assert snapshot.container_limit_bytes == snapshot.ram_total_bytes == 2**30
    assert snapshot.ram_available_bytes == 2**30 - 2**28


def test_wsl_is_told_by_the_name_of_its_kernel():
    assert is_wsl("5.15.153.1-microsoft-standard-WSL2")
    assert not is_wsl("6.8.0-45-generic")


@pytest.mark.parametrize("moment", ["idle", "at work"])
def test_a_sample_costs_less_than_a_hundredth_of_a_second_of_the_processor(tmp_path, moment):
    nvml, folders = ReplayedNvml(moment), dict.fromkeys(DiskUse, tmp_path)
    probe = HardwareProbe(nvml)
    probe.snapshot(folders)
    nvml.milliseconds = 0.0
    began = time.process_time()
    for _ in range(50):
        probe.snapshot(folders)
    ours = 1000 * (time.process_time() - began) / 50
    # What the real card took to answer is waiting more than work, and counted as work here.
    answers = nvml.milliseconds / 50
    print(f"{ours:.2f} ms of our own and {answers:.2f} ms for the answers a sample, {moment}")
    assert ours + answers < 10
