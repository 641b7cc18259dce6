"""Automatic captions of the open project: followed, cancelled, kept, and behind a training where that is wanted."""

import pytest

from tests.media import make_video
from tests.wan_studio.conftest import STAND_IN_CAPTIONER, use_trainer
from wan_studio.bridge.auto_captions import AutoCaptions
from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.auto_caption import CaptionOptions
from wan_studio.domain.project import Project
from wan_studio.services.auto_captions import load_proposals
from wan_studio.services.clip_import import import_clips
from wan_studio.services.preset_store import settings_for
from wan_studio.services.project_store import ProjectStore

pytestmark = pytest.mark.media

OPTIONS = CaptionOptions(model="tiny", frames=4, gpu=None)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "clips"
    made.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        make_video(made / name, frames=40, fps=20, width=64, height=48)
    return made


@pytest.fixture
def bench(qtbot, home, tmp_path, monkeypatch, folder):
    use_trainer(monkeypatch, tmp_path, STAND_IN_CAPTIONER)
    store = ProjectStore(tmp_path / "orbit")
    store.save(import_clips(Project(name="orbit", settings=settings_for("motion")), [folder]))
    made = Workbench()
    made.session.open(store, store.load())
    qtbot.waitUntil(lambda: made.library.waiting == 0)
    yield made
    made.close()
    wait_for_background()


def ids(bench):
    return [clip.id for clip in bench.session.project.clips]


def texts(bench):
    return [one.text for one in bench.auto_captions.proposals.values()]


def described(qtbot, bench, options=OPTIONS):
    with qtbot.waitSignal(bench.auto_captions.ended, timeout=15_000):
        bench.auto_captions.start(ids(bench), options)


def test_clips_are_described_with_progress_kept_in_the_project_and_nothing_is_written(qtbot, bench, folder):
    seen = []
    bench.auto_captions.changed.connect(lambda: seen.append(bench.auto_captions.is_running))
    described(qtbot, bench)
    assert seen[0]
    assert not seen[-1]
    assert texts(bench)[0] == "A slow orbit around a, seen in 4 frames."
    assert bench.auto_captions.problem == ("", "")
    assert not list(folder.glob("*.txt"))
    assert not bench.session.undo_stack.count()
    store = bench.session.store
    qtbot.waitUntil(
        lambda: load_proposals(store, bench.session.project).proposals == bench.auto_captions.proposals
    )
    other = AutoCaptions(bench.session, bench.library, bench.runs)
    other._on_project_opened()
    qtbot.waitUntil(lambda: other.proposals == bench.auto_captions.proposals)


def test_a_second_start_does_only_what_is_left_and_can_make_all_anew(qtbot, bench, monkeypatch):
    monkeypatch.setenv("STAND_IN_CAPTION_SECONDS", "0.4")
    desk = bench.auto_captions
    desk.start(ids(bench), OPTIONS)
    qtbot.waitUntil(lambda: len(desk.proposals) >= 1, timeout=15_000)
    with qtbot.waitSignal(desk.ended, timeout=3000):
        desk.cancel()
        assert desk.is_cancelled
    made = len(desk.proposals)
    assert made < 3
    assert desk.problem == ("", "")
    monkeypatch.setenv("STAND_IN_CAPTION_SECONDS", "0")
    desk.skip(ids(bench)[:1])
    described(qtbot, bench)
    assert len(desk.proposals) == 3
    assert desk.note.startswith(f"{made} clip")
    assert desk.settled == tuple(ids(bench)[:1])
    described(qtbot, bench)
    assert desk.note.startswith("3 clips had a caption proposed in the same way already.")
    assert desk.can_start_anew
    with qtbot.waitSignal(desk.ended, timeout=15_000):
        desk.start_anew()
    assert not desk.settled


def test_a_model_that_cannot_describe_is_told_in_its_own_words(qtbot, bench):
    described(qtbot, bench, CaptionOptions(model="foreign", gpu=None))
    assert bench.auto_captions.problem == ("foreign cannot describe clips.", "Choose another.")


def test_it_waits_for_a_training_to_end_and_needs_not(qtbot, bench, monkeypatch):
    desk, is_training = bench.auto_captions, [True]
    monkeypatch.setattr(AutoCaptions, "is_training", property(lambda _: is_training[0]))
    desk.start(ids(bench), OPTIONS, after_training=True)
    assert desk.is_waiting
    assert not desk.is_running
    desk.cancel()
    assert not desk.is_waiting
    desk.start(ids(bench), OPTIONS, after_training=True)
    bench.runs.state_changed.emit(None)
    assert not desk.is_running
    is_training[0] = False
    with qtbot.waitSignal(desk.ended, timeout=15_000):
        bench.runs.state_changed.emit(None)
    assert len(texts(bench)) == 3


def test_settled_ones_come_back_and_edits_stay(qtbot, bench):
    desk = bench.auto_captions
    described(qtbot, bench)
    first, second, _ = ids(bench)
    desk.edit(first, "mine")
    desk.accept([first])
    desk.skip([second])
    assert desk.settled == (first, second)
    desk.bring_back()
    assert not desk.settled
    assert desk.proposals[first].text == "mine"
    desk.forget([first])
    assert first not in desk.proposals
