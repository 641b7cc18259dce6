"""What is known of clips: probed by workers, judged in slices, and broken files told one by one."""

import os
import sys

import msgspec
import pytest

from tests.media import make_video
from wan_studio.bridge.clip_index import ClipIndex
from wan_studio.bridge.clip_library import ClipLibrary
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.project import Project, ProjectClip
from wan_studio.services.media_pool import MediaPool
from wan_studio.services.project_store import ProjectStore
from wan_studio.undo.edits import edit_project

pytestmark = pytest.mark.media

CRASHING = """
import os
from wan_studio.services import media_worker
real = media_worker.answer
media_worker.answer = lambda request: os.abort() if "/crash." in request.path else real(request)
media_worker.main()
"""


def clip(path):
    return ProjectClip(id=path.stem, source=str(path), caption_file=str(path.with_suffix(".txt")))


@pytest.fixture
def pool():
    made = MediaPool(1, [sys.executable, "-c", CRASHING])
    yield made
    made.close()


@pytest.fixture
def session(qtbot, tmp_path):
    return ProjectSession()


def opened(session, tmp_path, paths):
    project = Project(name="p", clips=tuple(clip(path) for path in paths))
    session.open(ProjectStore(tmp_path / "project"), project)


def test_a_decoder_that_crashes_costs_its_clip_a_card_and_no_other_clip_anything(
    qtbot, session, pool, tmp_path
):
    library = ClipLibrary(session, tmp_path / "cache", pool)
    index = ClipIndex(session, library)
    paths = [make_video(tmp_path / f"{name}.mp4", frames=20) for name in ("a", "crash", "b")]
    opened(session, tmp_path, paths)
    qtbot.waitUntil(lambda: library.waiting == 0, timeout=20_000)
    qtbot.waitUntil(lambda: index.is_settled)
    assert "brought the decoder down" in library.facts_of("crash").unreadable
    assert index.record("crash").findings == {"unreadable"}
    assert index.problems_of("crash")[0].short == "Unreadable"
    assert library.source_of("a").frame_count == library.source_of("b").frame_count == 20


def test_rows_are_there_before_anything_is_looked_at_and_posters_come_when_asked(
    qtbot, session, pool, tmp_path
):
    library = ClipLibrary(session, tmp_path / "cache", pool)
    index = ClipIndex(session, library)
    opened(session, tmp_path, [make_video(tmp_path / "a.mp4", frames=20)])
    assert [record.name for record in index.records] == ["a.mp4"]
    assert library.waiting == 1
    assert library.poster_of("a") is None
    qtbot.waitUntil(lambda: library.poster_of("a") is not None, timeout=20_000)


def test_an_edit_judges_its_clip_at_once_and_a_setting_all_of_them(qtbot, session, pool, tmp_path):
    library = ClipLibrary(session, tmp_path / "cache", pool)
    index = ClipIndex(session, library)
    opened(session, tmp_path, [make_video(tmp_path / f"{name}.mp4", frames=20) for name in "ab"])
    qtbot.waitUntil(lambda: library.waiting == 0 and index.is_settled, timeout=20_000)
    told = []
    index.records_changed.connect(told.append)
    project = session.project
    edit_project(session, "Rate", project.with_clip(msgspec.structs.replace(project.clips[0], rating=5)))
    assert index.record("a").rating == 5
    assert told == [frozenset({"a"})]
    settings = project.settings.with_values({"datasets": {"num_frames": 9}})
    edit_project(session, "Frames", msgspec.structs.replace(session.project, settings=settings))
    assert [record.trains for record in index.records] == [9, 9]


def test_a_file_that_changes_is_probed_again_and_one_that_did_not_comes_from_the_disk(
    qtbot, session, pool, tmp_path
):
    path = make_video(tmp_path / "a.mp4", frames=20)
    library = ClipLibrary(session, tmp_path / "cache", pool)
    opened(session, tmp_path, [path])
    qtbot.waitUntil(lambda: library.source_of("a") is not None, timeout=20_000)
    make_video(path, frames=30)
    os.utime(path, ns=(1, 1))
    library.look_again(["a"])
    qtbot.waitUntil(lambda: library.source_of("a").frame_count == 30, timeout=20_000)
