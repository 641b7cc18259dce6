"""Captions on their way to disk, with real files and the real undo stack."""

import os

import pytest

from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.caption_desk import CaptionDesk
from wan_studio.bridge.clip_library import ClipLibrary
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.project import Project, ProjectClip
from wan_studio.services.caption_batch import Finished
from wan_studio.services.caption_history import CaptionHistory, Kept
from wan_studio.services.project_store import ProjectStore
from wan_studio.undo.caption_edits import edit_captions


@pytest.fixture
def bench(qtbot, tmp_path):
    """Session, library and desk on three clips whose captions are "one", "two" and no file."""
    session = ProjectSession()
    library = ClipLibrary(session, tmp_path / "posters")
    desk = CaptionDesk(session, library)
    clips = tuple(
        ProjectClip(id=i, source=str(tmp_path / f"{i}.mp4"), caption_file=str(tmp_path / f"{i}.txt"))
        for i in "abc"
    )
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("two")
    session.open(ProjectStore(tmp_path / "project"), Project(name="p", clips=clips))
    qtbot.waitUntil(lambda: library.waiting == 0)
    yield session, library, desk
    wait_for_background()


def test_a_change_is_seen_at_once_and_on_disk_a_little_later(qtbot, bench, tmp_path):
    session, library, desk = bench
    edit_captions(session, desk, "Edit", {"a": "1", "c": "new"})
    assert library.facts_of("a").caption == "1"
    assert not desk.is_saved
    qtbot.waitUntil(lambda: desk.is_saved)
    assert (tmp_path / "a.txt").read_text() == "1"
    assert (tmp_path / "c.txt").read_text() == "new"


def test_a_batch_is_one_undo_step_that_brings_every_byte_back(qtbot, bench, tmp_path):
    session, _, desk = bench
    (tmp_path / "b.txt").write_bytes(b"two")
    assert edit_captions(session, desk, "Replace in 2 captions", {"a": "x", "b": "y", "gone": "z"}) == 2
    assert session.undo_stack.undoText() == "Replace in 2 captions"
    session.undo_stack.undo()
    qtbot.waitUntil(lambda: desk.is_saved)
    assert ((tmp_path / "a.txt").read_bytes(), (tmp_path / "b.txt").read_bytes()) == (b"one", b"two")
    session.undo_stack.redo()
    qtbot.waitUntil(lambda: desk.is_saved)
    assert (tmp_path / "b.txt").read_text() == "y"


def test_typing_merges_into_one_step_and_another_clip_begins_a_new_one(qtbot, bench):
    session, _, desk = bench
    for text in ("o", "or", "orb"):
        edit_captions(session, desk, "Edit caption of a", {"a": text}, is_typing=True)
    edit_captions(session, desk, "Edit caption of b", {"b": "x"}, is_typing=True)
    assert session.undo_stack.count() == 2
    session.undo_stack.undo()
    session.undo_stack.undo()
    assert (desk.text_of("a"), desk.text_of("b")) == ("one", "two")
    qtbot.waitUntil(lambda: desk.is_saved)
    assert not session.undo_stack.canUndo()


def test_a_file_that_was_changed_outside_is_left_alone_until_the_user_says(qtbot, bench, tmp_path):
    session, _, desk = bench
    (tmp_path / "a.txt").write_text("theirs")
    with qtbot.waitSignal(desk.changed_outside):
        edit_captions(session, desk, "Edit", {"a": "mine"})
    assert (tmp_path / "a.txt").read_text() == "theirs"
    assert (desk.theirs("a"), desk.text_of("a")) == ("theirs", "mine")
    desk.settle("a")
    desk.change({"a": "mine"})
    qtbot.waitUntil(lambda: desk.is_saved)
    assert (tmp_path / "a.txt").read_text() == "mine"
    assert desk.theirs("a") is None


def test_a_look_takes_other_clips_over_and_asks_about_the_one_in_view(qtbot, bench, tmp_path):
    _, library, desk = bench
    (tmp_path / "a.txt").write_text("theirs a")
    (tmp_path / "b.txt").write_text("theirs b")
    with qtbot.waitSignal(desk.changed_outside, check_params_cb=lambda clip_id: clip_id == "a"):
        desk.look_again(("a",))
    assert library.facts_of("a").caption == "one"
    qtbot.waitUntil(lambda: not desk._is_looking)
    desk.look_again()
    qtbot.waitUntil(lambda: library.facts_of("b").caption == "theirs b")


def test_what_waits_is_written_when_the_window_closes(qtbot, bench, tmp_path):
    session, _, desk = bench
    for number in range(20):
        desk.change({"a": f"text {number}"})
    desk.save_now()
    assert (tmp_path / "a.txt").read_text() == "text 19"
    qtbot.waitUntil(lambda: desk.is_saved)
    assert session.is_open


def test_a_batch_that_was_interrupted_is_finished_when_the_project_opens(qtbot, bench, tmp_path):
    session, library, desk = bench
    store = ProjectStore(tmp_path / "project")
    noted = [Kept(tmp_path / "a.txt", b"one", b"1"), Kept(tmp_path / "b.txt", b"not two", b"2")]
    CaptionHistory(store.folder).keep(noted, "Replace in 2 captions", is_noted=True)
    with qtbot.waitSignal(desk.batch_finished) as told:
        session.open(store, session.project)
    assert told.args[0] == Finished((tmp_path / "a.txt",), (tmp_path / "b.txt",))
    assert ((tmp_path / "a.txt").read_text(), (tmp_path / "b.txt").read_text()) == ("1", "two")
    qtbot.waitUntil(lambda: library.facts_of("a").caption == "1")


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_a_caption_that_cannot_be_written_says_so_and_is_written_once_it_can(qtbot, bench, tmp_path):
    session, _, desk = bench
    (tmp_path / "c.txt").mkdir()
    with qtbot.waitSignal(desk.write_failed) as failed:
        edit_captions(session, desk, "Edit", {"c": "words"})
    assert "c.txt cannot be" in str(failed.args[1])
    (tmp_path / "c.txt").rmdir()
    desk.change({"c": desk.text_of("c")})
    qtbot.waitUntil(lambda: (tmp_path / "c.txt").is_file())
    assert (tmp_path / "c.txt").read_text() == "words"
