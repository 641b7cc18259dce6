"""Undo and redo after the window was closed and opened again, with real files."""

import sqlite3
from pathlib import Path

import msgspec
import pytest

from tests.wan_studio.undo.sitting import make_project, sitting
from wan_studio.domain.clip import TrimRange
from wan_studio.domain.clip_ranges import split_clip
from wan_studio.services.project_store import ProjectStore
from wan_studio.services.undo_log import (
    DAMAGED_NAME,
    FILE_NAME,
    OUTDATED_NAME,
    UndoLogDamagedError,
    UndoLogInUseError,
    UndoLogOutdatedError,
)
from wan_studio.services.undo_steps import CaptionCopy
from wan_studio.undo.caption_edits import convert_caption, edit_captions
from wan_studio.undo.edits import edit_project, split_clips


@pytest.fixture
def store(tmp_path):
    return make_project(tmp_path)


def test_steps_and_the_place_among_them_survive_a_restart(qtbot, store):
    with sitting(qtbot, store) as first:
        for name in ("q", "r", "s"):
            first.rename(name)
        first.stack.undo()
    with sitting(qtbot, store) as second:
        assert second.names == ["Rename to q", "Rename to r", "Rename to s"]
        assert (second.stack.undoText(), second.stack.redoText()) == ("Rename to r", "Rename to s")
        assert second.session.project.name == "r"
        second.stack.redo()
        assert second.session.project.name == "s"
        for _ in range(3):
            second.stack.undo()
        assert second.session.project.name == "p"
        assert not second.stack.canUndo()
    with sitting(qtbot, store) as third:
        assert (third.stack.count(), third.stack.index()) == (3, 0)
        assert third.opened.problem is None
        third.rename("other")
        assert third.names == ["Rename to other"]
    with sitting(qtbot, store) as fourth:
        assert fourth.names == ["Rename to other"]


def test_what_is_typed_after_a_restart_is_a_step_of_its_own(qtbot, store):
    with sitting(qtbot, store) as first:
        for name in ("n", "na", "nam"):
            first.rename(name, merge_key="name")
    with sitting(qtbot, store) as second:
        assert second.stack.count() == 1
        second.rename("name", merge_key="name")
        assert second.stack.count() == 2
        second.stack.undo()
        second.stack.undo()
        assert second.session.project.name == "p"


def test_a_caption_is_brought_back_byte_for_byte_and_a_new_file_goes_again(qtbot, store, tmp_path):
    odd = "a\u00a0cat\r\nsits\nand\r\nwaits".encode("utf-8-sig")
    (tmp_path / "a.txt").write_bytes(odd)
    with sitting(qtbot, store) as first:
        after = {"a": "all anew", "b": "two, changed", "c": "there was no file"}
        edit_captions(first.session, first.desk, "Replace in 3 captions", after)
    with sitting(qtbot, store) as second:
        assert second.stack.undoText() == "Replace in 3 captions"
        second.stack.undo()
        second.written()
        assert (tmp_path / "a.txt").read_bytes() == odd
        assert (tmp_path / "b.txt").read_bytes() == b"two"
        assert not (tmp_path / "c.txt").exists()
        assert not second.refusals
    with sitting(qtbot, store) as third:
        third.stack.redo()
        third.written()
        assert third.desk.text_of("c") == "there was no file"
        assert (tmp_path / "c.txt").read_text() == "there was no file"


def test_a_file_that_was_changed_meanwhile_is_left_alone_with_a_sentence(qtbot, store, tmp_path):
    with sitting(qtbot, store) as first:
        edit_captions(first.session, first.desk, "Edit", {"a": "mine a", "b": "mine b"})
    (tmp_path / "a.txt").write_text("theirs")
    with sitting(qtbot, store) as second:
        second.stack.undo()
        second.written()
        assert (tmp_path / "a.txt").read_text() == "theirs"
        assert (tmp_path / "b.txt").read_text() == "two"
        assert second.desk.text_of("a") == "theirs"
        (refusal,) = second.refusals
        assert "a.txt was changed by another program" in str(refusal)
        second.stack.redo()
        second.written()
        assert (tmp_path / "a.txt").read_text() == "theirs"
        assert (tmp_path / "b.txt").read_text() == "mine b"


def test_a_conversion_is_undone_after_a_restart(qtbot, store, tmp_path):
    latin = "La caméra tourne".encode("latin-1")
    (tmp_path / "a.txt").write_bytes(latin)
    with sitting(qtbot, store) as first:
        convert_caption(first.session, first.desk, "Convert", "a", latin, "cp1252")
        first.written()
        assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "La caméra tourne"
    with sitting(qtbot, store) as second:
        second.stack.undo()
        second.written()
        assert (tmp_path / "a.txt").read_bytes() == latin
        qtbot.waitUntil(lambda: second.library.facts_of("a").caption_problem != "")


def split(made):
    project = made.session.project
    parts = split_clip(project, project.clip("a"), [TrimRange(0, 5), TrimRange(5, 9)], ["a2"])
    copies = [CaptionCopy(one.id, project.clip("a").caption_file, one.caption_file) for one in parts.added]
    split_clips(made.session, made.desk, "Split clip", parts.project, copies)
    return Path(parts.added[0].caption_file)


def test_the_caption_of_a_split_clip_comes_and_goes_with_it(qtbot, store):
    with sitting(qtbot, store) as first:
        copied = split(first)
        first.written()
        assert copied.read_text() == "one"
        qtbot.waitUntil(lambda: first.desk.text_of("a2") == "one")
        first.stack.undo()
        first.written()
        qtbot.waitUntil(lambda: not copied.exists())
        first.stack.redo()
        qtbot.waitUntil(copied.exists)
    with sitting(qtbot, store) as second:
        second.stack.undo()
        second.written()
        qtbot.waitUntil(lambda: not copied.exists())
        assert [clip.id for clip in second.session.project.clips] == ["a", "b", "c"]
    with sitting(qtbot, store) as third:
        third.stack.redo()
        qtbot.waitUntil(copied.exists)
        assert copied.read_text() == "one"


def test_words_that_others_wrote_for_a_split_clip_are_not_taken_away(qtbot, store):
    with sitting(qtbot, store) as made:
        copied = split(made)
        made.written()
        qtbot.waitUntil(copied.exists)
        copied.write_text("typed elsewhere")
        made.stack.undo()
        made.written()
        made.desk.save_now()
        assert copied.read_text() == "typed elsewhere"
        made.stack.redo()
        made.written()
        assert copied.read_text() == "typed elsewhere"


def test_a_project_that_something_else_changed_is_kept_and_that_is_said_once(qtbot, store):
    with sitting(qtbot, store) as first:
        first.rename("q")
    other = ProjectStore(store.folder)
    other.save(msgspec.structs.replace(other.load(), trigger="theirs"))
    with sitting(qtbot, store) as second:
        assert isinstance(second.opened.problem, UndoLogOutdatedError)
        assert (second.session.project.name, second.session.project.trigger) == ("q", "theirs")
        assert not second.stack.canUndo()
        assert (store.folder / OUTDATED_NAME).is_file()
        second.rename("r")
    with sitting(qtbot, store) as third:
        assert third.opened.problem is None
        assert third.names == ["Rename to r"]


def test_a_restored_backup_is_found_among_the_steps(qtbot, store):
    with sitting(qtbot, store) as first:
        first.rename("q")
        first.session.save_now()
        older = store.project_file.read_bytes()
        first.rename("r")
    store.project_file.write_bytes(older)
    with sitting(qtbot, store) as second:
        assert second.opened.problem is None
        assert (second.session.project.name, second.stack.undoText()) == ("q", "Rename to q")
        second.stack.redo()
        assert second.session.project.name == "r"


@pytest.mark.parametrize("damage", [b"no database at all" * 100, b"", None])
def test_a_damaged_log_is_set_aside_and_the_project_opens(qtbot, store, damage):
    with sitting(qtbot, store) as first:
        first.rename("q")
    log = store.folder / FILE_NAME
    if damage is None:
        with sqlite3.connect(log) as connection:
            connection.execute("UPDATE state SET value = 'x' WHERE name = 'head'")
        connection.close()
    else:
        log.write_bytes(damage)
    with sitting(qtbot, store) as second:
        assert second.session.project.name == "q"
        assert not second.stack.canUndo()
        if damage != b"":
            assert isinstance(second.opened.problem, UndoLogDamagedError)
            assert (store.folder / DAMAGED_NAME).is_file()
        second.rename("r")
    with sitting(qtbot, store) as third:
        assert third.names == ["Rename to r"]


def test_a_damaged_step_gives_the_steps_up_and_leaves_the_project_alone(qtbot, store):
    with sitting(qtbot, store) as first:
        first.rename("q")
        first.rename("r")
    with sqlite3.connect(store.folder / FILE_NAME) as connection:
        connection.execute("UPDATE steps SET content = x'00' WHERE name = 'Rename to r'")
    connection.close()
    with sitting(qtbot, store) as second:
        with qtbot.waitSignal(second.session.step_failed) as failed:
            second.stack.undo()
        assert "cannot be read" in str(failed.args[0])
        assert second.session.project.name == "r"
        assert second.stack.count() == 0
    with sitting(qtbot, store) as third:
        assert (third.session.project.name, third.stack.count()) == ("r", 0)
        assert third.opened.problem is None


def test_a_second_window_on_the_project_works_and_says_that_its_steps_are_not_kept(qtbot, store):
    with sitting(qtbot, store) as first:
        first.rename("q")
        first.session.save_now()
        with sitting(qtbot, store) as second:
            assert isinstance(second.opened.problem, UndoLogInUseError)
            second.rename("second")
            second.stack.undo()
            assert second.session.project.name == "q"
        assert first.names == ["Rename to q"]


def test_going_far_in_the_history_tells_the_pages_once(qtbot, store):
    with sitting(qtbot, store) as made:
        for number in range(20):
            made.rename(f"n{number}")
        told = []
        made.session.project_changed.connect(lambda: told.append(made.session.project.name))
        made.session.go_to_step(3)
        assert told == ["n2"]
        assert made.stack.redoText() == "Rename to n3"


def test_every_kind_of_edit_in_turn_is_undone_after_a_restart_to_the_first_state(qtbot, store, tmp_path):
    with sitting(qtbot, store) as first:
        at_first = first.session.project
        edit_captions(first.session, first.desk, "Edit caption", {"a": "typed"}, is_typing=True)
        split(first)
        qtbot.waitUntil(lambda: first.desk.text_of("a2") == "typed")
        edit_captions(first.session, first.desk, "Edit caption", {"a2": "of the second half"})
        edit_project(first.session, "Remove", first.session.project.without_clips({"b"}))
        first.rename("renamed")
        first.stack.undo()
        first.rename("renamed otherwise")
    with sitting(qtbot, store) as second:
        assert second.names == [
            "Edit caption",
            "Split clip",
            "Edit caption",
            "Remove",
            "Rename to renamed otherwise",
        ]
        second.session.go_to_step(0)
        second.written()
        assert second.session.project == at_first
        second.desk.save_now()
        assert sorted(path.name for path in tmp_path.glob("*.txt")) == ["a.txt", "b.txt"]
        assert (tmp_path / "a.txt").read_text() == "one"
        assert not second.refusals
