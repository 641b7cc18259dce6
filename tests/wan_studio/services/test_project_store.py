import json
from datetime import datetime, timedelta

import msgspec
import pytest

from wan_studio.domain.project import FORMAT_VERSION, Project
from wan_studio.services.project_store import BACKUPS_KEPT, ProjectFileError, ProjectStore


@pytest.fixture
def store(tmp_path) -> ProjectStore:
    return ProjectStore(tmp_path / "my project")


def test_a_project_is_loaded_as_it_was_saved(store):
    assert not store.exists
    project = Project(name="p", trigger="猫")
    store.save(project)
    assert store.exists
    assert store.load() == project
    assert [path.name for path in store.folder.iterdir()] == ["project.json"]


def test_a_missing_project_is_a_sentence(store):
    with pytest.raises(ProjectFileError, match="does not exist"):
        store.load()


def test_saving_keeps_what_was_there_as_the_days_backup(store):
    for name in ("one", "two", "three"):
        store.save(Project(name=name))
    (backup,) = store.backups()
    assert msgspec.json.decode(backup.read_bytes(), type=Project).name == "two"
    assert datetime.now().astimezone().strftime("%Y-%m-%d") in backup.name


def test_old_backups_are_pruned(store):
    store.save(Project(name="p"))
    store.backups_folder.mkdir()
    today = datetime.now().astimezone()
    for days in range(1, 20):
        (store.backups_folder / f"project-{today - timedelta(days):%Y-%m-%d}.json").write_bytes(b"{}")
    store.save(Project(name="q"))
    assert len(store.backups()) == BACKUPS_KEPT
    assert store.backups()[0].name == f"project-{today:%Y-%m-%d}.json"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"name": "p", "trigge": 1}',
        b'{"name": 5}',
        b"[]",
        b'{"name": "p", "clips": 5}',
        b'{"name": "p", "clips": [5]}',
        b'{"name": "p", "settings": {"sample": {"rows": [5]}}}',
        b'{"name": "p", "settings": {"sample": {"rows": [{"clip": "x"}]}}}',
        b'{"name": "p", "settings": {"sample": {"rows": 7}}}',
        b'{"name": "p", "settings": []}',
        b'{"name": "p", "format_version": 0}',
        b'{"name": "p", "format_version": "x"}',
        b'{"name": "p", "extra_datasets": [{"name": "r", "role": "regularization", "changes": {"x": 1}}]}',
        b'{"name": "p", "clips": [{"id": "a", "source": "a", "caption_file": "a", "dataset": "r"}]}',
    ],
)
def test_a_damaged_project_names_its_file_and_the_last_good_copy(store, content):
    store.save(Project(name="good"))
    store.save(Project(name="newer"))
    store.project_file.write_bytes(content)
    with pytest.raises(ProjectFileError) as raised:
        store.load()
    assert str(store.project_file) in raised.value.message
    assert raised.value.backup == store.backups()[0]
    assert str(store.backups()[0]) in raised.value.hint
    assert store.restore(store.backups()[0]).name == "good"
    assert store.load().name == "good"
    # The damaged file stands aside, and did not become a backup.
    assert (store.folder / "project.damaged.json").read_bytes() == content
    assert msgspec.json.decode(store.backups()[0].read_bytes(), type=Project).name == "good"


def test_an_impossible_trim_in_the_file_is_damage_not_a_crash(store):
    store.save(Project(name="p"))
    data = json.loads(store.project_file.read_text())
    data["clips"] = [
        {"id": "a", "source": "a", "caption_file": "a", "trim": {"start_frame": 9, "end_frame": 3}}
    ]
    store.project_file.write_text(json.dumps(data))
    with pytest.raises(ProjectFileError, match="damaged"):
        store.load()


def test_a_newer_versions_project_is_neither_read_nor_overwritten(store):
    store.save(Project(name="p"))
    content = json.dumps({"format_version": FORMAT_VERSION + 1, "name": "p", "unheard_of": 1}).encode()
    store.project_file.write_bytes(content)
    for action in (store.load, lambda: store.save(Project(name="mine"))):
        with pytest.raises(ProjectFileError, match="newer Wan Studio"):
            action()
    assert store.project_file.read_bytes() == content


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ProjectFileError, match="cannot be written"):
        ProjectStore(tmp_path / "file" / "project").save(Project(name="p"))
