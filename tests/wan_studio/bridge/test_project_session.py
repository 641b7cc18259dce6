import msgspec
import pytest

from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.project import Project, ProjectClip
from wan_studio.services.project_store import ProjectStore
from wan_studio.undo.edits import edit_project


@pytest.fixture
def session(qtbot, tmp_path):
    made = ProjectSession()
    clips = tuple(ProjectClip(id=i, source=f"/{i}.mp4", caption_file=f"/{i}.txt") for i in "abc")
    project = Project(name="p", clips=clips)
    store = ProjectStore(tmp_path / "p")
    store.save(project)
    made.open(store, project)
    return made


def rename(session, name, merge_key=""):
    edit_project(session, "Rename", msgspec.structs.replace(session.project, name=name), merge_key)


def test_an_edit_is_on_disk_soon_without_being_asked(qtbot, session):
    with qtbot.waitSignal(session.saved_changed, check_params_cb=lambda saved: saved, timeout=10_000):
        rename(session, "q")
    assert session.store.load().name == "q"


def test_edits_are_undone_and_redone_one_by_one(session):
    rename(session, "q")
    rename(session, "r")
    session.undo_stack.undo()
    assert session.project.name == "q"
    session.undo_stack.undo()
    assert session.project.name == "p"
    session.undo_stack.redo()
    assert session.project.name == "q"


def test_typing_is_one_step(session):
    for name in ("q", "qu", "que"):
        rename(session, name, merge_key="name")
    assert session.undo_stack.count() == 1
    session.undo_stack.undo()
    assert session.project.name == "p"


def test_an_edit_that_changes_nothing_is_no_step(session):
    rename(session, "p")
    assert session.undo_stack.count() == 0


def test_the_next_clip_passes_over_rejected_ones(session):
    changed = msgspec.structs.replace(session.project.clip("b"), rejected=True)
    edit_project(session, "Reject", session.project.with_clip(changed))
    assert session.clip_id == "a"
    assert session.select_neighbour(1)
    assert session.clip_id == "c"
    assert not session.select_neighbour(1)


def test_closing_writes_what_is_not_yet_written(session):
    rename(session, "q")
    session.save_now()
    assert session.store.load().name == "q"
    assert session.is_saved


def test_a_folder_that_cannot_be_written_is_told(qtbot, session):
    session.store.project_file.unlink()
    session.store.folder.rmdir()
    session.store.folder.write_text("a file in the way")
    with qtbot.waitSignal(session.save_failed):
        rename(session, "q")
    assert not session.is_saved
