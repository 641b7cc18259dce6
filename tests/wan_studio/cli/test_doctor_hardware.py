"""What the doctor says of machines: the recorded card, and small made ones."""

import pytest

from tests.wan_studio.domain.machines import GIB, card, machine, program
from tests.wan_studio.services.replayed_nvml import ReplayedNvml, value
from wan_studio.cli.doctor_hardware import hardware_findings
from wan_studio.cli.finding import Verdict
from wan_studio.domain.hardware import DiskUse, FolderDisk, GpuState, MachineState, ThrottleReason
from wan_studio.services.hardware_probe import HardwareProbe


def report(snapshot):
    return [*hardware_findings(snapshot)]


def words(snapshot, topic):
    return " ".join(f"{one.text} {one.hint}" for one in report(snapshot) if one.topic == topic)


def test_a_real_card_is_told_in_words(tmp_path):
    snapshot = HardwareProbe(ReplayedNvml("at work")).snapshot(tmp_path)
    assert words(snapshot, "NVIDIA driver").startswith("580.159.04, serves CUDA up to 13.0")
    told = words(snapshot, "GPU 0")
    assert "NVIDIA H200, 140.4 GiB VRAM, 134.7 GiB free" in told
    assert "compute capability 9.0: bf16 and products in 8 bits" in told
    assert "99 % busy, 53 °C (slows down at 89 °C), 629 of 700 W, clock held by: power limit" in told
    assert "PCIe generation 5 with 16 lanes at most, about 50 GB/s" in told
    assert "it drives no display" in told
    assert "VRAM is used by python3 (pid 441) 5.1 GiB" in told
    assert all(one.verdict is Verdict.OK for one in report(snapshot) if one.topic == "GPU 0")


def test_a_real_card_that_is_split_by_mig_is_refused(tmp_path):
    nvml = ReplayedNvml(changes={"nvmlDeviceGetMigMode": value([1, 1])})
    (finding,) = (one for one in report(HardwareProbe(nvml).snapshot(tmp_path)) if one.topic == "GPU 0")
    assert finding.verdict is Verdict.WARNING
    assert "training on an instance is not supported" in finding.text
    assert "-mig 0" in finding.hint


@pytest.mark.parametrize(
    ("capability", "verdict", "lacks"),
    [
        ((7, 5), Verdict.WARNING, "no bf16 (from 8.0) and no products in 8 bits (from 8.9)"),
        ((8, 6), Verdict.OK, "no products in 8 bits (from 8.9)"),
        ((8, 9), Verdict.OK, "bf16 and products in 8 bits"),
        (None, Verdict.WARNING, "does not tell its compute capability"),
    ],
)
def test_it_says_what_a_card_of_a_generation_lacks(capability, verdict, lacks):
    finding = next(one for one in report(machine(card(capability=capability))) if "capability" in one.text)
    assert finding.verdict is verdict
    assert lacks in finding.text


def test_a_link_that_is_narrower_than_the_card_can_is_a_warning_and_an_idle_one_is_not():
    narrow = next(one for one in report(machine(card(pcie_width=4))) if "PCIe" in one.text)
    assert narrow.verdict is Verdict.WARNING
    assert "16 lanes at most, about 25 GB/s; 4 lanes now, narrower than this card can." in narrow.text
    idle = next(one for one in report(machine(card())) if "PCIe" in one.text)
    assert idle.verdict is Verdict.OK
    assert "generation 1 now, as idle cards do" in idle.text


def test_programs_without_a_share_are_listed_and_it_says_why():
    programs = tuple(program(pid, f"program{pid}", None) for pid in range(10))
    told = words(machine(card(processes=programs, is_wddm=True)), "GPU 0")
    assert "program0 (pid 0), program1 (pid 1)" in told
    assert "and 2 more; Windows does not tell how much each of them holds" in told
    assert "does not tell which programs" in words(machine(card(processes=None)), "GPU 0")


def test_alerts_are_warnings_of_the_doctor_too():
    braked = card(throttle_reasons=frozenset({ThrottleReason.POWER_BRAKE}))
    finding = next(one for one in report(machine(braked)) if "power supply" in one.text and one.hint)
    assert finding.verdict is Verdict.WARNING


def test_a_lost_gpu_is_told_once():
    (finding,) = (one for one in report(machine(card(state=GpuState.LOST))) if one.topic == "GPU 0")
    assert "fallen off the bus" in finding.text


def test_a_machine_without_a_driver_says_what_to_do():
    finding = report(machine(state=MachineState.NO_DRIVER))[0]
    assert (finding.topic, finding.verdict) == ("GPU", Verdict.WARNING)
    assert finding.hint
    assert not finding.stops_training


def test_memory_swap_container_and_wsl_are_told():
    plain = machine(swap_total_bytes=8 * GIB, swap_free_bytes=6 * GIB)
    assert words(plain, "Memory").strip() == "20.0 of 32.0 GiB available"
    assert words(plain, "Swap").strip() == "6.0 of 8.0 GiB free"
    assert "a program is ended" in words(machine(swap_total_bytes=0, swap_free_bytes=0), "Swap")
    assert "does not tell" in words(machine(is_windows=True), "Page file")
    assert "container" in words(machine(container_limit_bytes=32 * GIB), "Memory")
    assert ".wslconfig" in words(machine(is_wsl=True), "WSL")
    assert not words(plain, "WSL")


def test_only_a_full_disk_of_runs_stops_training(tmp_path):
    def disks(runs, models):
        return machine(
            disks=(
                FolderDisk(DiskUse.RUNS, tmp_path / "a", runs),
                FolderDisk(DiskUse.CACHE, tmp_path / "a", runs),
                FolderDisk(DiskUse.MODELS, tmp_path / "b", models),
            )
        )

    assert "for runs and cache" in words(disks(100 * GIB, 5), "Disk")
    assert "0.0 GiB free" in words(disks(100 * GIB, 5), "Disk for models")
    assert not any(one.stops_training for one in report(disks(100 * GIB, 5)))
    assert any(one.stops_training for one in report(disks(GIB // 2, 100 * GIB)))
    assert "cannot be told" in words(disks(None, 100 * GIB), "Disk")
