import json

import msgspec

from wan_studio.domain.project import FORMAT_VERSION, Project, Settings
from wan_studio.services.project_store import ProjectStore
from wan_studio.services.project_upgrade import upgraded


def row(**changes) -> dict:
    return {"prompt": "p", "size": {"width": 64, "height": 64}, "num_frames": 5, **changes}


def clip(name: str, **changes) -> dict:
    return {"id": name, "source": name, "caption_file": name, **changes}


VERSION_1 = {
    "name": "old",
    "goal": "style",
    "trigger": "w",
    "clips": [clip("a", rejected=True), clip("b"), clip("c", trim={"start_frame": 1, "end_frame": 9})],
    "settings": {
        "datasets": {"num_frames": 17, "resolutions": [64], "sampling": "whole_range", "repeats": 2},
        "sample": {"rows": [row(clip=1), row(), row(clip=9)]},
    },
    "format_version": 1,
}


def test_a_project_of_version_1_is_todays_with_everything_in_the_main_data_set():
    project = msgspec.convert(upgraded(VERSION_1), Project)
    assert project.format_version == FORMAT_VERSION == 5
    assert [one.id for one in project.clips_of("")] == ["a", "b", "c"]
    assert project.settings.datasets.sampling == "whole_range"
    assert (project.name, project.goal, project.trigger) == ("old", "style", "w")
    # Clip 1 of those that are not rejected is c, and clip 0 is b.
    assert [one.clip for one in project.settings.sample.rows] == [2, 1, 9]
    assert VERSION_1["format_version"] == 1
    assert VERSION_1["settings"]["sample"]["rows"][0]["clip"] == 1


def test_a_file_without_a_version_is_of_version_1():
    assert upgraded({"name": "p"}) == {"name": "p", "format_version": FORMAT_VERSION}


def test_todays_project_stays_as_it_is():
    data = msgspec.to_builtins(Project(name="p"))
    assert upgraded(data) is data


def test_an_old_project_is_loaded_saved_as_new_and_kept_as_it_was(tmp_path):
    store = ProjectStore(tmp_path)
    content = json.dumps(VERSION_1).encode()
    store.project_file.write_bytes(content)
    project = store.load()
    assert store.project_file.read_bytes() == content
    store.save(project)
    assert json.loads(store.project_file.read_bytes())["format_version"] == FORMAT_VERSION
    assert store.load() == project
    (backup,) = store.backups()
    assert backup.read_bytes() == content
    assert store.restore(backup) == project


def test_a_project_of_before_quantization_has_the_jobs_own_defaults():
    old = {
        "name": "p",
        "format_version": 2,
        "settings": {"model": {"base": "/models/wan", "low_vram": False}},
    }
    project = msgspec.convert(upgraded(old), Project)
    assert project.settings.model.base == "/models/wan"
    assert project.settings.model.low_vram is False
    assert project.settings.quantization == Settings().quantization
    assert project.settings.job == Settings().job


def test_a_project_of_before_ratings_has_none():
    clip = {"id": "a", "source": "/clips/a.mp4", "caption_file": "/clips/a.txt"}
    project = msgspec.convert(upgraded({"name": "p", "format_version": 3, "clips": [clip]}), Project)
    assert project.clips[0].rating == 0
    assert project.format_version == FORMAT_VERSION
