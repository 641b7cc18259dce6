"""The file of the undo steps: its limits, and what a crash at any line of a save leaves behind."""

import os
import sys

import msgspec
import pytest

from wan_studio.bridge.project_keeper import ProjectKeeper
from wan_studio.domain.project import Project, ProjectClip
from wan_studio.domain.project_delta import delta_between, with_delta
from wan_studio.services import undo_log
from wan_studio.services.caption_batch import CaptionWrite
from wan_studio.services.caption_files import open_with_steps, write_step
from wan_studio.services.caption_history import CaptionHistory
from wan_studio.services.project_store import ProjectStore
from wan_studio.services.undo_log import CaptionTask, LogChange, StepRow, open_log
from wan_studio.services.undo_steps import CaptionStep, ProjectStep, packed, unpacked


def step(before, after):
    return packed(ProjectStep(delta_between(before, after), delta_between(after, before)))


def row(content, name="step", kind="project"):
    return StepRow(kind, name, lambda: content)


@pytest.fixture
def log(tmp_path):
    opened = open_log(tmp_path, "at first")
    yield opened.log
    opened.log.close()


def reopened(log, digest):
    log.close()
    opened = open_log(log.path.parent, digest)
    opened.log.close()
    return opened


def test_the_oldest_steps_go_beyond_the_limit_and_the_rest_can_be_undone(log, monkeypatch):
    monkeypatch.setattr(undo_log, "MOST_STEPS", 5)
    for serial in range(1, 9):
        log.write(LogChange({serial: row(b"x", f"step {serial}")}, head=serial), f"digest {serial}")
    opened = reopened(log, "digest 8")
    assert [one.name for one in opened.steps] == [f"step {serial}" for serial in range(4, 9)]
    assert (opened.index, opened.base) == (5, 3)


def test_the_file_stays_within_its_bytes(log, monkeypatch):
    monkeypatch.setattr(undo_log, "MOST_BYTES", 100_000)
    for serial in range(1, 30):
        log.write(LogChange({serial: row(os.urandom(20_000))}, head=serial), f"digest {serial}")
    assert log.path.stat().st_size < 300_000
    assert [one.serial for one in reopened(log, "digest 29").steps] == [25, 26, 27, 28, 29]


def test_undone_beyond_what_is_kept_there_is_nothing_to_do_again(log, monkeypatch):
    monkeypatch.setattr(undo_log, "MOST_STEPS", 3)
    for serial in range(1, 7):
        log.write(LogChange({serial: row(b"x")}, head=serial), f"digest {serial}")
    log.write(LogChange(head=1), "digest 1")
    log.write(LogChange({9: row(b"x", "new")}, head=9), "digest 9")
    opened = reopened(log, "digest 9")
    assert ([one.name for one in opened.steps], opened.index) == (["new"], 1)


def test_steps_of_captions_leave_the_project_file_where_it_was(log):
    log.write(LogChange({1: row(b"x")}, head=1), "one")
    log.write(LogChange({2: row(b"y", kind="captions")}, head=2), None)
    log.write(LogChange({3: row(b"z", kind="captions")}, head=3), None)
    assert reopened(log, "one").index == 3


def test_a_change_that_cannot_be_kept_is_kept_with_the_next_one(tmp_path):
    store = ProjectStore(tmp_path)
    projects = [Project(name=name) for name in "pqr"]
    store.save(projects[0])
    opened = open_with_steps(store)[1]
    keeper = ProjectKeeper()
    opened.log._connection.execute(
        "CREATE TRIGGER full BEFORE INSERT ON steps BEGIN SELECT RAISE(ABORT, 'full'); END"
    )
    keeper.wish(store, opened.log, projects[1], LogChange({1: row(step(*projects[:2]))}, head=1))
    (kept,) = keeper.work()
    assert "cannot be kept" in str(kept.log_error)
    assert kept.error is None
    assert store.load().name == "q"
    opened.log._connection.execute("DROP TRIGGER full")
    keeper.wish(store, opened.log, projects[2], LogChange({2: row(step(*projects[1:]))}, head=2))
    assert keeper.work()[0].log_error is None
    opened.log.close()
    project, again = open_with_steps(store)
    again.log.close()
    assert (project.name, len(again.steps), again.index) == ("r", 2, 2)


def states(tmp_path):
    """The project in three states, and captions in two."""
    names = "abc"
    clips = tuple(
        ProjectClip(id=one, source=f"/{one}.mp4", caption_file=str(tmp_path / f"{one}.txt")) for one in names
    )
    first = Project(name="first", clips=clips)
    second = msgspec.structs.replace(first, name="second")
    merged = msgspec.structs.replace(second, trigger="merged")
    before = {one: f"before {one}" for one in names}
    after = {one: f"after {one}" for one in names}
    return first, second, merged, before, after


def save_all(store, log, tmp_path):
    """One step of the project, a merge into it, a step of captions, and an undo of both: as the app does."""
    first, second, merged, before, after = states(tmp_path)
    history, keeper = CaptionHistory(store.folder), ProjectKeeper()
    captions = packed(CaptionStep(before, after, "Replace"))

    def save(project, change, texts=None):
        keeper.wish(store, log, project, change)
        assert all(one.error is None and one.log_error is None for one in keeper.work())
        if texts is not None:
            expected = tuple({*before.values(), *after.values()})
            writes = [CaptionWrite(one, tmp_path / f"{one}.txt", expected, texts[one]) for one in texts]
            write_step(writes, {}, history, "Replace")
            log.confirm(change.tasks[0])

    save(second, LogChange({1: row(step(first, second))}, head=1))
    save(merged, LogChange({1: row(step(first, merged))}, head=1))
    forward, back = CaptionTask(2, is_forward=True), CaptionTask(2, is_forward=False)
    save(None, LogChange({2: row(captions, kind="captions")}, head=2, tasks=[forward]), after)
    save(first, LogChange(head=0, tasks=[back]), before)


def opened_after_the_crash(store, tmp_path):
    """What the next opening finds; project, log and captions have to agree."""
    first, second, merged, before, after = states(tmp_path)
    project, opened = open_with_steps(ProjectStore(store.folder))
    assert opened.log is not None
    assert opened.problem is None, opened.problem
    opened.log.close()
    # As far as the steps are done, the project is: applied to it, they lead to each end.
    assert project in (first, second, merged)
    for kept in reversed(opened.steps[: opened.index]):
        if kept.kind == "project":
            project = with_delta(project, unpacked(kept.content).back)
    assert project == first
    texts = {one: (tmp_path / f"{one}.txt").read_text() for one in before}
    assert texts == (after if opened.index == 2 else before)
    return opened.index


def run_to_line(work, line_to_die_at):
    """Run in a child that is gone at a line, without any clean-up; whether it came to its end."""
    child = os.fork()
    if child:
        return os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 0
    lines = 0

    def on_line(frame, event, _):
        nonlocal lines
        if "wan_studio" not in frame.f_code.co_filename and "wire.py" not in frame.f_code.co_filename:
            return None
        if event == "line":
            lines += 1
            if lines == line_to_die_at:
                os._exit(9)
        return on_line

    try:
        sys.settrace(on_line)
        work()
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a child that dies at a line")
@pytest.mark.parametrize("stride", [139, pytest.param(3, marks=pytest.mark.slow)])
def test_whatever_line_a_crash_comes_at_project_captions_and_steps_agree(tmp_path, stride):
    first, _, _, before, _ = states(tmp_path)
    found, line, has_ended = set(), 1, False
    while not has_ended:
        place = tmp_path / f"{line}"
        place.mkdir()
        for one, text in before.items():
            (tmp_path / f"{one}.txt").write_text(text)
        store = ProjectStore(place / "project")
        store.save(first)

        def work(store=store):
            save_all(store, open_with_steps(store)[1].log, tmp_path)

        has_ended = run_to_line(work, line)
        found.add(opened_after_the_crash(store, tmp_path))
        line += stride
    assert line > 1000
    assert found == {0, 1, 2}
