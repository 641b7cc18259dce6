"""`train` plans for this machine, and keeps what was given on the command line."""

import msgspec
import pytest

from tests.media import make_video
from tests.wan_studio.domain.machines import GIB, card, machine
from wan_studio.cli import train_plan
from wan_studio.cli.train_plan import with_plan
from wan_studio.domain.project import Project
from wan_studio.domain.recommend import Flavour
from wan_studio.services.clip_import import import_clips
from wan_studio.services.preset_store import settings_for
from wan_studio.services.project_store import ProjectStore

SMALL = machine(card(vram_total_bytes=12 * GIB), ram_total_bytes=64 * GIB, ram_available_bytes=60 * GIB)


@pytest.fixture
def looked_at(monkeypatch):
    """What the probe sees; a list whose only item can be changed."""
    seen = [SMALL]
    monkeypatch.setattr(train_plan.HardwareProbe, "snapshot", lambda self, folders: seen[0])
    return seen


@pytest.fixture
def store(tmp_path, monkeypatch) -> ProjectStore:
    monkeypatch.setenv("WAN_STUDIO_HOME", str(tmp_path / "home"))
    return ProjectStore(tmp_path / "project")


@pytest.fixture
def project(tmp_path, store) -> Project:
    (tmp_path / "clips").mkdir()
    make_video(tmp_path / "clips" / "one.mp4", frames=30, width=320, height=320)
    made = Project(name="orbit", settings=settings_for("motion", "/models/wan"))
    return import_clips(made, [tmp_path / "clips"], store.captions_folder)


def test_the_plan_for_this_card_and_these_clips_is_taken(project, store, looked_at, capsys):
    settings = with_plan(project, store, Flavour.BALANCED, ()).settings
    assert settings.model.low_vram
    assert settings.quantization.transformer != "none"
    assert settings.datasets.num_frames < 41, "30 frames at 16 a second are no more than 29"
    assert capsys.readouterr().out.startswith("Planned for")


def test_what_was_given_stays(project, store, looked_at):
    given = project.settings.with_values({"quantization": {"transformer": "nf4"}})
    project = msgspec.structs.replace(project, settings=given)
    settings = with_plan(project, store, Flavour.BALANCED, ("quantization.transformer",)).settings
    assert settings.quantization.transformer == "nf4"
    assert settings.model.low_vram


def test_what_was_given_and_does_not_fit_is_told_with_what_is_missing(project, store, looked_at, capsys):
    given = project.settings.with_values(
        {"quantization": {"transformer": "none"}, "model": {"low_vram": False}}
    )
    project = msgspec.structs.replace(project, settings=given)
    fields = ("quantization.transformer", "model.low_vram", "model.layer_offloading", "model.resident_blocks")
    with_plan(project, store, Flavour.BALANCED, fields)
    assert "GiB of VRAM" in capsys.readouterr().out


def test_where_no_plan_fits_ways_out_are_told_and_nothing_is_changed(project, store, looked_at, capsys):
    looked_at[0] = machine(
        card(vram_total_bytes=4 * GIB), ram_total_bytes=8 * GIB, ram_available_bytes=5 * GIB
    )
    assert with_plan(project, store, Flavour.BALANCED, ()) is project
    assert "no plan fits this machine" in capsys.readouterr().out


def test_without_a_card_and_for_the_miniature_nothing_is_planned(project, store, looked_at):
    looked_at[0] = machine()
    assert with_plan(project, store, Flavour.BALANCED, ()) is project
    small = msgspec.structs.replace(project, settings=settings_for("motion"))
    looked_at[0] = SMALL
    assert with_plan(small, store, Flavour.BALANCED, ()) is small
