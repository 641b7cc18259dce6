from fractions import Fraction

import pytest

from trainer.protocol.job import CropBox
from wan_studio.bridge.clip_index import ClipIndex
from wan_studio.bridge.clip_library import ClipLibrary
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.checks import ClipFacts
from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.domain.clip_look import ClipLook
from wan_studio.domain.clip_record import DuplicateMark
from wan_studio.domain.project import Project, ProjectClip
from wan_studio.services.media_pool import MediaPool
from wan_studio.services.project_store import ProjectStore
from wan_studio.views.clips.edits import ClipEdits

BOX = CropBox(left=0, top=60, width=640, height=360)


@pytest.fixture
def edits(qtbot, tmp_path):
    """Three clips of 100 frames at 20 fps, with looks; nothing is decoded."""
    session = ProjectSession()
    library = ClipLibrary(session, tmp_path, MediaPool(0))
    index = ClipIndex(session, library)
    clips = tuple(
        ProjectClip(id=name, source=f"/clips/{name}.mp4", caption_file=f"/clips/{name}.txt") for name in "abc"
    )
    session.open(ProjectStore(tmp_path / "p"), Project(name="p", clips=clips))
    source = SourceVideo("/clips/a.mp4", 1, 1, 640, 480, tuple(range(100)), Fraction(1, 20), "h264")
    looks = {
        "a": ClipLook(still_head_seconds=1.0, still_tail_seconds=0.6),
        "b": ClipLook(picture=BOX),
        "c": ClipLook(),
    }
    for name, look in looks.items():
        library._facts[name] = ClipFacts(source=source, caption="x", look=look)
    library.tell(set(looks))
    yield ClipEdits(session, library, index)
    session._timer.stop()


def test_still_ends_are_trimmed_off_and_clips_that_move_are_left_alone(edits):
    edits.cut_still(["a", "b", "c"])
    trims = [clip.trim for clip in edits.session.project.clips]
    # From 0.9 s; to 5 s less 0.6 s and a tenth of a second more.
    assert trims == [TrimRange(18, 91), None, None]
    assert edits.session.undo_stack.undoText() == "Trim 1 clip to the motion"
    edits.session.undo_stack.undo()
    assert edits.session.project.clips[0].trim is None


def test_black_bars_are_cropped_where_there_are_some(edits):
    edits.crop_bars(["a", "b", "c"])
    assert [clip.crop for clip in edits.session.project.clips] == [None, BOX, None]


def test_the_best_of_each_group_stays_also_when_only_one_of_it_is_shown(edits):
    marks = {
        "a": DuplicateMark(0, is_exact=True, is_best=False),
        "b": DuplicateMark(0, is_exact=True, is_best=True),
    }
    edits.index.set_marks(marks)
    assert "duplicate" in edits.index.record("b").findings
    edits.keep_best(["b"])
    assert [clip.rejected for clip in edits.session.project.clips] == [True, False, False]


def test_an_edit_of_nothing_is_no_step(edits):
    edits.reject([])
    edits.crop_bars(["a"])
    edits.remove([])
    assert not edits.session.undo_stack.canUndo()
