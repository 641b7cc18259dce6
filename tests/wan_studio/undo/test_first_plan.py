"""A new project fits its machine unasked, and nobody's settings are changed behind their back."""

import msgspec
import pytest

from tests.media import make_video
from tests.wan_studio.domain.machines import GIB, card, machine
from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.project import Project
from wan_studio.domain.recommend import Flavour
from wan_studio.services.clip_import import import_clips
from wan_studio.services.preset_store import settings_for
from wan_studio.services.project_store import ProjectStore
from wan_studio.undo.edits import edit_project
from wan_studio.undo.first_plan import USE_RECOMMENDED, FirstPlan

SNAPSHOT = machine(card(), ram_total_bytes=64 * GIB, ram_available_bytes=48 * GIB)


@pytest.fixture
def bench(qtbot, home):
    made = Workbench()
    FirstPlan(made.session, made.plans)
    yield made
    made.close()
    wait_for_background()


def open_with(bench, folder, settings):
    bench.session.open(ProjectStore(folder), Project(name="orbit", settings=settings))
    bench.hardware._latest = SNAPSHOT
    bench.hardware.snapshot_taken.emit(SNAPSHOT)


def follows(bench):
    return Flavour.BALANCED in bench.plans.flavours_now()


def test_untouched_settings_take_over_the_plan_in_one_step_that_can_be_undone(bench, qtbot, tmp_path):
    open_with(bench, tmp_path / "a", settings_for("motion", "/models/wan"))
    qtbot.waitUntil(lambda: follows(bench))
    assert bench.plans.judgement.fits
    assert bench.session.undo_stack.undoText() == USE_RECOMMENDED
    bench.session.undo_stack.undo()
    qtbot.waitUntil(lambda: set(bench.plans.plans) == set(Flavour))
    assert bench.session.project.settings == settings_for("motion", "/models/wan")


def test_settings_that_were_changed_by_hand_stay(bench, qtbot, tmp_path):
    mine = settings_for("motion", "/models/wan").with_values({"datasets": {"num_frames": 17}})
    open_with(bench, tmp_path / "a", mine)
    qtbot.waitUntil(lambda: set(bench.plans.plans) == set(Flavour))
    assert bench.session.project.settings == mine


def test_the_first_clips_are_planned_for_and_later_edits_are_left_alone(bench, qtbot, tmp_path):
    open_with(bench, tmp_path / "a", settings_for("motion", "/models/wan"))
    qtbot.waitUntil(lambda: follows(bench))
    (tmp_path / "clips").mkdir()
    make_video(tmp_path / "clips" / "short.mp4", frames=30, width=320, height=320)
    project = import_clips(bench.session.project, [tmp_path / "clips"], bench.session.store.captions_folder)
    edit_project(bench.session, "Add 1 clip", project)
    qtbot.waitUntil(lambda: bench.session.project.settings.datasets.num_frames < 41)
    changed = bench.session.project.settings.with_values({"datasets": {"num_frames": 9}})
    edit_project(
        bench.session, "Set frames", msgspec.structs.replace(bench.session.project, settings=changed)
    )
    bench.plans.recommended.emit()
    assert bench.session.project.settings == changed
