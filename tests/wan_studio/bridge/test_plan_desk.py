"""The planner beside the project: judged at once, recommended in the background, the latest question wins."""

import time
from dataclasses import replace

import msgspec
import pytest

from tests.media import make_video
from tests.wan_studio.domain.machines import GIB, card, machine, program
from trainer.protocol.job import Expert
from wan_studio.bridge import plan_desk
from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.calibration import CalibrationRecord
from wan_studio.domain.manual_card import ManualCard
from wan_studio.domain.plan_space import PLANNED
from wan_studio.domain.project import Project
from wan_studio.domain.recommend import Flavour
from wan_studio.domain.step_plan import step_plan
from wan_studio.services.calibration_store import add_record
from wan_studio.services.clip_import import import_clips
from wan_studio.services.preset_store import settings_for
from wan_studio.services.project_store import ProjectStore
from wan_studio.undo.edits import edit_project

SNAPSHOT = machine(card(), ram_total_bytes=64 * GIB, ram_available_bytes=48 * GIB)


@pytest.fixture
def bench(qtbot, home, tmp_path):
    made = Workbench()
    store = ProjectStore(tmp_path / "orbit")
    made.session.open(store, Project(name="orbit", settings=settings_for("motion", "/models/wan")))
    yield made
    made.close()
    wait_for_background()


def look(bench, snapshot=SNAPSHOT):
    """As the monitor does once a second."""
    bench.hardware._latest = snapshot
    bench.hardware.snapshot_taken.emit(snapshot)


def wait_for_plans(qtbot, bench):
    qtbot.waitUntil(lambda: set(bench.plans.plans) == set(Flavour))


def change(bench, section, **values):
    settings = bench.session.project.settings.with_values({section: values})
    edit_project(bench.session, "Change", msgspec.structs.replace(bench.session.project, settings=settings))


def test_an_edit_is_judged_before_the_next_event(bench):
    look(bench)
    before = bench.plans.judgement.memory.peak.total
    began = time.perf_counter()
    change(bench, "datasets", num_frames=81)
    assert time.perf_counter() - began < 0.1
    assert bench.plans.judgement.memory.peak.total > before


def test_three_recommendations_come_and_the_project_follows_none_of_them_yet(bench, qtbot):
    look(bench)
    wait_for_plans(qtbot, bench)
    assert bench.plans.flavours_now() == ()
    settings = bench.plans.recommended_for(bench.session.project.settings, Flavour.SAFEST)
    edit_project(bench.session, "Use", msgspec.structs.replace(bench.session.project, settings=settings))
    assert Flavour.SAFEST in bench.plans.flavours_now()
    assert bench.plans.judgement.fits


def test_all_that_a_plan_sets_but_the_rank_is_known_to_be_its_own(bench, qtbot):
    look(bench)
    wait_for_plans(qtbot, bench)
    changes = bench.plans.plans[Flavour.BALANCED].recommendation.changes
    assert set(changes) == {*PLANNED, "target.rank"}


def test_what_a_plan_sets_by_itself_asks_for_no_new_recommendation(bench, qtbot):
    look(bench)
    wait_for_plans(qtbot, bench)
    asked = bench.plans._asked
    change(bench, "training", batch_size=4)
    change(bench, "model", low_vram=False)
    assert bench.plans._asked is asked
    change(bench, "target", rank=64)
    assert bench.plans._asked is not asked


def test_the_flicker_of_a_desktop_is_no_news_and_a_program_that_starts_is(bench):
    look(bench)
    judged = bench.plans.judgement
    look(
        bench,
        machine(
            card(vram_used_bytes=GIB // 2 + GIB // 8), ram_total_bytes=64 * GIB, ram_available_bytes=48 * GIB
        ),
    )
    assert bench.plans.judgement is judged
    look(
        bench, machine(card(vram_used_bytes=8 * GIB), ram_total_bytes=64 * GIB, ram_available_bytes=48 * GIB)
    )
    assert bench.plans.judgement is not judged
    assert bench.plans.machine.gpu.free_bytes == 16 * GIB


def test_memory_that_comes_and_goes_asks_for_few_recommendations(bench, qtbot):
    look(bench)
    wait_for_plans(qtbot, bench)
    for used in (8, 1, 8, 1):
        look(bench, replace(SNAPSHOT, gpus=(card(vram_used_bytes=used * GIB),)))
        assert bench.plans.judgement.limits.vram < (24 - used) * GIB
    assert bench.plans._recommend_timer.remainingTime() > 1000
    change(bench, "target", rank=64)
    assert bench.plans._recommend_timer.remainingTime() < 200


def test_what_our_own_trainer_holds_counts_as_free(bench):
    bench.hardware._own_pids = frozenset({7})
    look(bench, machine(card(vram_used_bytes=12 * GIB, processes=(program(7, "python", 11),))))
    assert bench.plans.machine.gpu.free_bytes == 23 * GIB


def test_a_card_that_is_named_is_planned_for_and_remembered(bench, qtbot):
    look(bench, machine())
    assert bench.plans.machine.gpu is None
    assert not bench.plans.judgement.fits
    bench.plans.set_manual_card(ManualCard(12, (8, 6)))
    assert bench.plans.machine.gpu.total_bytes == 12 * GIB
    wait_for_plans(qtbot, bench)
    assert bench.plans.plans[Flavour.BALANCED].reasons
    assert Workbench().plans.manual_card == ManualCard(12, (8, 6))
    bench.plans.set_manual_card(None)
    assert bench.plans.machine.gpu is None
    assert not bench.plans.plans


def test_another_project_starts_without_the_last_ones_plans(bench, qtbot, tmp_path):
    look(bench)
    wait_for_plans(qtbot, bench)
    other = Project(name="other", goal="character", settings=settings_for("character", "/models/wan"))
    bench.session.open(ProjectStore(tmp_path / "other"), other)
    assert not bench.plans.plans
    wait_for_plans(qtbot, bench)
    assert bench.plans._asked.planner.goal == "character"


def test_the_miniature_is_neither_judged_nor_planned(bench, qtbot):
    look(bench)
    wait_for_plans(qtbot, bench)
    settings = settings_for("motion", "miniature")
    edit_project(bench.session, "Change", msgspec.structs.replace(bench.session.project, settings=settings))
    assert bench.plans.judgement is None
    assert not bench.plans.plans


def test_clips_count_once_their_files_were_looked_at(bench, qtbot, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    make_video(folder / "a.mp4", frames=40, fps=20, width=640, height=480)
    look(bench)
    assert bench.plans.judgement.workload.is_assumed
    edit_project(bench.session, "Add", import_clips(bench.session.project, [folder]))
    qtbot.waitUntil(lambda: not bench.plans.judgement.workload.is_assumed)
    assert bench.plans.judgement.workload.buckets[0].clips == 1


def test_when_nothing_fits_there_are_ways_out_and_no_values(bench, qtbot):
    look(bench, machine(card(vram_used_bytes=20 * GIB), ram_available_bytes=5 * GIB))
    wait_for_plans(qtbot, bench)
    plan = bench.plans.plans[Flavour.BALANCED]
    assert plan.ways_out
    assert not plan.recommendation.changes
    settings = bench.session.project.settings
    assert bench.plans.recommended_for(settings) is settings


def test_measurements_are_read_in_the_background_and_change_the_judgement(bench, qtbot):
    look(bench)
    judged = bench.plans.judgement
    assert not judged.memory.is_measured
    measured = CalibrationRecord(
        gpu_uuid="GPU-0",
        gpu_name=card().name,
        date="2026-11-24",
        trainer_version="0.1.0",
        plan=step_plan(judged.settings, Expert.HIGH),
        width=512,
        height=512,
        frames=41,
        seconds=3.5,
        reserved_bytes=20 * GIB,
    )
    add_record(measured)
    bench.calibration.load()
    qtbot.waitUntil(lambda: bench.plans.judgement.memory.is_measured)
    assert bench.plans.judgement.time.told == "Measured on this machine."


def test_a_machine_whose_disk_or_driver_changes_is_news(bench):
    look(bench)
    now = bench.plans.machine
    assert plan_desk._is_news(now, replace(now, gpu=None))
    assert plan_desk._is_news(now, replace(now, disk_free_bytes=200 * GIB))
    assert plan_desk._is_news(now, replace(now, ram_available_bytes=now.ram_available_bytes - 2 * GIB))
    assert not plan_desk._is_news(now, replace(now, ram_available_bytes=now.ram_available_bytes - GIB // 2))
