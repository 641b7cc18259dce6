import re
import shutil
from dataclasses import replace

import msgspec
import pytest

from tests.media import make_video
from wan_studio.domain.checks import Level, Step
from wan_studio.domain.machine import GIB, Machine, PlannedGpu
from wan_studio.domain.project import Project
from wan_studio.domain.recommend import Planner
from wan_studio.paths import resource
from wan_studio.services.clip_import import import_clips
from wan_studio.services.preflight import plan_check, run_preflight
from wan_studio.services.preset_store import settings_for
from wan_studio.services.project_store import ProjectStore

pytestmark = pytest.mark.media


@pytest.fixture
def project(tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    make_video(clips / "a.mp4", frames=40, fps=20, width=64, height=48)
    (clips / "a.txt").write_text("an orbit")
    (clips / "b.mp4").write_bytes(b"no video at all")
    return import_clips(Project(name="p", settings=settings_for("motion")), [clips])


def test_it_says_what_trains_and_what_does_not(project, tmp_path, stand_in_trainer):
    outcome = run_preflight(project, ProjectStore(tmp_path / "p"))
    assert outcome.can_start
    texts = [check.text for check in outcome.checks]
    assert "1 of 2 clips train." in texts
    assert any("b.mp4" in text for text in texts)


def test_mirrored_copies_are_not_counted_as_clips(project, tmp_path, stand_in_trainer):
    settings = project.settings.with_text("datasets.flip_horizontal=true")
    outcome = run_preflight(msgspec.structs.replace(project, settings=settings), ProjectStore(tmp_path / "p"))
    assert len(outcome.built.job.clips) == 2
    assert "1 of 2 clips train." in [check.text for check in outcome.checks]


def test_a_model_folder_that_lacks_a_part_stands_in_the_way(project, tmp_path, stand_in_trainer):
    base = tmp_path / "model"
    (base / "transformer").mkdir(parents=True)
    settings = project.settings.with_values({"model": {"base": str(base)}})
    from msgspec.structs import replace

    outcome = run_preflight(replace(project, settings=settings), ProjectStore(tmp_path / "p"))
    assert not outcome.can_start
    assert "transformer_2" in outcome.blockers[0].text
    assert str(base) in outcome.blockers[0].text


def test_a_missing_miniature_stands_in_the_way(project, tmp_path, stand_in_trainer, monkeypatch):
    presets = resource("presets")
    (tmp_path / "resources").mkdir()
    shutil.copytree(presets, tmp_path / "resources" / "presets")
    monkeypatch.setenv("WAN_STUDIO_RESOURCES", str(tmp_path / "resources"))
    outcome = run_preflight(project, ProjectStore(tmp_path / "p"))
    assert not outcome.can_start
    assert any("miniature" in check.text for check in outcome.blockers)


def test_every_caption_that_cannot_be_read_is_told_at_once(project, tmp_path, stand_in_trainer):
    folder = tmp_path / "clips"
    for name in ("a", "c"):
        (folder / f"{name}.txt").write_bytes("été".encode("latin-1"))
    make_video(folder / "c.mp4", frames=40, fps=20, width=64, height=48)
    outcome = run_preflight(import_clips(project, [folder]), ProjectStore(tmp_path / "p"))
    assert sorted(check.text.count("a.txt") - check.text.count("c.txt") for check in outcome.blockers) == [
        -1,
        1,
    ]


def test_a_missing_trainer_stands_in_the_way(project, tmp_path, monkeypatch):
    monkeypatch.setenv("WAN_STUDIO_TRAINER_PYTHON", str(tmp_path / "nowhere"))
    outcome = run_preflight(project, ProjectStore(tmp_path / "p"))
    assert not outcome.can_start
    assert "trainer is not installed" in outcome.blockers[0].text


def test_no_clip_at_all_stands_in_the_way(tmp_path, stand_in_trainer):
    outcome = run_preflight(Project(name="p"), ProjectStore(tmp_path / "p"))
    assert outcome.built is None
    assert not outcome.can_start


def test_files_that_settings_name_and_that_are_gone_stand_in_the_way(project, tmp_path, stand_in_trainer):
    from msgspec.structs import replace

    gone = str(tmp_path / "gone.safetensors")
    row = {
        "prompt": "p",
        "image": str(tmp_path / "gone.png"),
        "size": {"width": 64, "height": 48},
        "num_frames": 9,
    }
    values = {"target": {"start_high": gone, "start_low": gone}, "multistage": {"stages": "low"}}
    settings = project.settings.with_values({**values, "sample": {"rows": [row]}})
    blockers = run_preflight(replace(project, settings=settings), ProjectStore(tmp_path / "p")).blockers
    assert len(blockers) == 2, "the high noise expert does not train"
    assert gone in blockers[0].text
    assert "gone.png" in blockers[1].text
    quiet = settings.with_values({"sample": {"every": 0}, "target": {"start_low": ""}})
    assert run_preflight(replace(project, settings=quiet), ProjectStore(tmp_path / "p")).can_start


def test_the_forecast_is_a_line_and_warns_where_it_does_not_fit():
    settings = settings_for("motion", "/models/wan")
    card = PlannedGpu("NVIDIA GeForce RTX 4090", 24 * GIB, 23 * GIB, (8, 9))
    machine = Machine(card, 64 * GIB, 48 * GIB, 200 * GIB)
    planner = Planner(machine)
    too_much = plan_check(planner.judge(settings), machine)
    assert too_much.level is Level.WARNING
    assert "GiB of VRAM" in too_much.hint
    assert too_much.page is Step.HARDWARE
    fitting = plan_check(planner.judge(planner.recommend(settings).settings), machine)
    assert fitting.level is None
    assert re.fullmatch(r"Peak \d+\.\d of 23\.0 GiB VRAM, about \d+ h\.", fitting.text)
    without = replace(machine, gpu=None)
    assert "needs an NVIDIA GPU" in plan_check(Planner(without).judge(settings), without).text
