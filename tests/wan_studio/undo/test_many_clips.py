"""Undo on a project of thousands of clips: what it costs the GUI thread, and the opening."""

import time

import msgspec
import pytest

from tests.wan_studio.undo.sitting import Sitting, sitting
from wan_studio.domain.project import Project, ProjectClip
from wan_studio.services.project_store import ProjectStore
from wan_studio.services.undo_log import FILE_NAME, open_log
from wan_studio.undo.edits import edit_project

CLIPS = 5000
PUSH_MILLISECONDS = 50.0
OPEN_MILLISECONDS = 100.0


@pytest.fixture
def big(tmp_path):
    clips = tuple(
        ProjectClip(id=f"{at:010x}", source=f"/clips/{at}.mp4", caption_file=str(tmp_path / f"{at}.txt"))
        for at in range(CLIPS)
    )
    store = ProjectStore(tmp_path / "project")
    store.save(Project(name="many", clips=clips))
    return store


@pytest.mark.parametrize("steps", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_steps_of_thousands_of_clips_hold_nothing_up_and_are_small(qtbot, big, monkeypatch, steps):
    pushes, restored = [], []
    with sitting(qtbot, big, waits=False) as first:
        session = first.session
        for number in range(steps):
            clip = session.project.clips[number * 7]
            changed = msgspec.structs.replace(clip, rating=1 + number % 5)
            began = time.thread_time()
            edit_project(session, "Rate", session.project.with_clip(changed))
            pushes.append(1000 * (time.thread_time() - began))
        last = session.project
    assert sorted(pushes)[-3] < PUSH_MILLISECONDS  # Python's garbage may be collected in one.
    assert (big.folder / FILE_NAME).stat().st_size < 1_000_000
    digest = big.load_with_digest()[1]
    began = time.thread_time()
    opened = open_log(big.folder, digest)
    reading = 1000 * (time.thread_time() - began)
    opened.log.close()
    take = "wan_studio.bridge.project_session.ProjectSession.take_restored"
    real = Sitting.__init__.__globals__["ProjectSession"].take_restored

    def timed(session, commands):
        began = time.thread_time()
        real(session, commands)
        restored.append(1000 * (time.thread_time() - began))

    monkeypatch.setattr(take, timed)
    with sitting(qtbot, big, waits=False) as second:
        assert second.stack.count() == steps
        assert second.session.project == last
        second.session.go_to_step(0)
        assert not any(clip.rating for clip in second.session.project.clips)
    assert reading + restored[0] < OPEN_MILLISECONDS
