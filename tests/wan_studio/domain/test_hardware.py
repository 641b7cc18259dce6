from pathlib import Path

import pytest

from tests.wan_studio.domain.machines import CARD, GIB, card, machine, program
from wan_studio.domain.hardware import DiskUse, FolderDisk, GpuState, MachineState, machine_of
from wan_studio.domain.machine import PlannedGpu


def test_every_state_but_ready_has_words_and_a_way_out():
    for state in MachineState:
        words = machine(state=state).words
        assert bool(words.text) == bool(words.hint) == (state is not MachineState.READY)
    for state in GpuState:
        words = card(state=state).words
        assert bool(words.text) == bool(words.hint) == (state is not GpuState.READY)
        assert not words.text or words.text.startswith(CARD.name)


def test_inside_wsl_the_driver_is_windows():
    words = machine(state=MachineState.NO_DRIVER, is_wsl=True).words
    assert "Windows" in words.hint
    assert words.text == machine(state=MachineState.NO_DRIVER).words.text


def test_an_unexpected_answer_of_the_driver_is_quoted():
    assert "Unknown Error" in machine(state=MachineState.NO_ANSWER, error="Unknown Error").gpu_problem


def test_free_vram_is_without_what_the_driver_keeps():
    gpu = card(vram_used_bytes=10 * GIB, vram_reserved_bytes=GIB)
    assert gpu.vram_free_bytes == 13 * GIB
    assert gpu.vram_share == pytest.approx(11 / 24)
    assert card(vram_used_bytes=None).vram_free_bytes is None


@pytest.mark.parametrize(
    ("generation", "lanes", "gigabytes"), [(3, 16, 12.5), (4, 16, 25), (5, 16, 50), (3, 4, 3.1)]
)
def test_the_link_carries_four_fifths_of_what_is_printed_on_it(generation, lanes, gigabytes):
    gpu = card(pcie_max_generation=generation, pcie_max_width=lanes)
    assert gpu.link_bytes_per_second == pytest.approx(gigabytes * 1e9, rel=0.02)


def test_a_link_that_nobody_tells_of_has_no_speed():
    assert card(pcie_max_width=None).link_bytes_per_second is None
    assert card(pcie_max_generation=None).link_bytes_per_second is None


def test_a_plan_sees_what_others_leave_and_what_our_own_trainers_will_free():
    gpu = card(
        vram_used_bytes=20 * GIB, processes=(program(7, "python", 15), program(8, "blender", 4)), index=1
    )
    disks = (
        FolderDisk(DiskUse.RUNS, Path("runs"), 50),
        FolderDisk(DiskUse.CACHE, Path("cache"), 30),
        FolderDisk(DiskUse.MODELS, Path("models"), 10),
    )
    snapshot = machine(CARD, gpu, disks=disks, is_windows=True)
    seen = machine_of(snapshot, 1, own_pids={7})
    assert seen.gpu == PlannedGpu(
        name=gpu.name,
        total_bytes=24 * GIB,
        free_bytes=19 * GIB,
        capability=(8, 9),
        link_bytes_per_second=gpu.link_bytes_per_second,
        drives_display=True,
    )
    assert (seen.ram_total_bytes, seen.ram_available_bytes) == (32 * GIB, 20 * GIB)
    assert (seen.disk_free_bytes, seen.is_windows) == (30, True)
    assert machine_of(snapshot, 1).gpu.free_bytes == 4 * GIB


def test_a_manual_figure_counts_only_where_there_is_no_gpu_or_it_does_not_tell():
    manual = 12 * GIB
    assert machine_of(machine()).gpu is None
    assert machine_of(machine(), manual_vram_bytes=manual).gpu == PlannedGpu("", manual, manual)
    assert machine_of(machine(CARD), manual_vram_bytes=manual).gpu.total_bytes == 24 * GIB
    silent = machine(card(vram_total_bytes=None, vram_used_bytes=None))
    assert machine_of(silent).gpu is None
    told = machine_of(silent, manual_vram_bytes=manual).gpu
    assert (told.name, told.total_bytes, told.capability) == (CARD.name, manual, (8, 9))


@pytest.mark.parametrize("state", [GpuState.LOST, GpuState.SPLIT])
def test_a_gpu_that_cannot_train_is_none_for_a_plan(state):
    assert machine_of(machine(card(state=state))).gpu is None


def test_a_machine_without_the_wanted_gpu_shows_its_first():
    snapshot = machine(CARD, card(index=1, name="Second"))
    assert snapshot.gpu_or_first(1).name == "Second"
    assert snapshot.gpu_or_first(5) is CARD
    assert machine().gpu_or_first(0) is None
