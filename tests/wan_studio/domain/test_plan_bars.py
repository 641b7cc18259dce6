import pytest

from wan_studio.domain.machine import GIB, Machine, PlannedGpu
from wan_studio.domain.plan_bars import _KINDS, Kind, ram_bar, vram_bar
from wan_studio.domain.recommend import Planner
from wan_studio.domain.vram_plan import Part
from wan_studio.services.preset_store import settings_for

MACHINE = Machine(PlannedGpu("", 24 * GIB, 22 * GIB, (8, 9)), 64 * GIB, 48 * GIB, 200 * GIB)
SETTINGS = settings_for("motion", "/models/wan")


def test_every_part_has_its_kind():
    assert set(_KINDS) == set(Part)


@pytest.mark.parametrize("mode", ["none", "float8_compute", "nf4"])
def test_a_bars_parts_sum_to_the_peak(mode):
    settings = SETTINGS.with_values({"quantization": {"transformer": mode}})
    judged = Planner(MACHINE).judge(settings)
    for bar, peak in (
        (vram_bar(judged, MACHINE), judged.memory.peak),
        (ram_bar(judged, MACHINE), judged.memory.ram),
    ):
        assert bar.taken == peak.total
        assert sum(size for segment in bar.segments for _, size in segment.parts) == peak.total


def test_what_others_hold_and_the_head_room_are_no_room_for_the_plan():
    judged = Planner(MACHINE).judge(SETTINGS)
    bar = vram_bar(judged, MACHINE)
    assert bar.others == 2 * GIB
    assert bar.limit == bar.others + judged.limits.vram < bar.total
    assert bar.left == -judged.missing.vram < 0
    assert next(iter(bar.segments)).kind is Kind.WEIGHTS


def test_without_a_gpu_there_is_no_bar():
    machine = Machine(None, 64 * GIB, 48 * GIB)
    judged = Planner(machine).judge(SETTINGS)
    assert vram_bar(judged, machine) is None
    assert ram_bar(judged, machine) is None
