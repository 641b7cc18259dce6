"""The app's test of a job with a real trainer: measured, cancelled in the middle, and short of memory."""

import pytest

from tests.media import make_video
from tests.processes import ROOT
from tests.wan_studio.conftest import use_trainer
from trainer.protocol.events import Phase
from wan_studio.bridge import rehearsal as rehearsal_bridge
from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.hardware import HardwareSnapshot, MachineState
from wan_studio.domain.project import Project
from wan_studio.services.clip_import import import_clips
from wan_studio.services.preset_store import settings_for
from wan_studio.services.project_store import ProjectStore
from wan_studio.services.rehearsal import last_verdict

pytestmark = pytest.mark.contract

MILLISECONDS = 180_000


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        make_video(folder / name, frames=40, fps=20, width=64, height=48)
    made = ProjectStore(tmp_path / "orbit")
    settings = settings_for("motion", "miniature").with_values({"datasets": {"num_frames": 9}})
    made.save(import_clips(Project(name="orbit", settings=settings), [folder]))
    return made


@pytest.fixture
def bench(qtbot, tmp_path, monkeypatch, store):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("WAN_STUDIO_HOME", str(tmp_path / "home"))
    machine = HardwareSnapshot((), 2**34, 2**33, state=MachineState.NO_DRIVER)
    monkeypatch.setattr(rehearsal_bridge, "look_at_gpus", lambda: machine)
    made = Workbench()
    made.session.open(store, store.load())
    yield made
    made.close()
    wait_for_background()


def leftovers(store) -> list:
    return [path for path in store.cache_folder.rglob("*") if "rehearsal" in path.parts and path.is_file()]


def test_the_miniature_is_tested_in_seconds_with_progress_and_a_verdict(qtbot, bench, store):
    rehearsal, calibrated, phases, shares = bench.rehearsal, [], [], []
    rehearsal.calibrated.connect(calibrated.append)
    rehearsal.changed.connect(lambda: phases.append(rehearsal.phase))
    rehearsal.changed.connect(lambda: shares.append(rehearsal.share))
    assert not rehearsal.why_not
    with qtbot.waitSignal(rehearsal.ended, timeout=MILLISECONDS):
        rehearsal.start()
        assert rehearsal.is_running
    assert rehearsal.problem == ("", "")
    verdict = rehearsal.verdict
    assert verdict.fits
    assert verdict.words.startswith("Both experts trained at ")
    assert ", 9 frames: " in verdict.words
    assert verdict.words.endswith(" s a step; a preview went through.")
    # On a CPU there is nothing to be learnt for a GPU.
    assert calibrated == [()]
    # It is looked at three times a second: some of the miniature's phases are over sooner.
    assert {phase for phase in phases if phase} & {Phase.LOADING, Phase.REHEARSING, Phase.PREVIEWING}
    assert shares == sorted(shares)
    assert last_verdict(store) == verdict
    assert not leftovers(store)
    assert not (store.cache_folder / "rehearsal").exists()


def test_cancelled_in_the_middle_it_ends_at_once_and_leaves_nothing(qtbot, bench, store):
    rehearsal = bench.rehearsal
    rehearsal.start()
    qtbot.waitUntil(lambda: rehearsal.phase is not None, timeout=MILLISECONDS)
    with qtbot.waitSignal(rehearsal.ended, timeout=15_000):
        rehearsal.cancel()
        assert rehearsal.is_cancelled
    assert rehearsal.verdict is None
    assert rehearsal.problem == ("", "")
    assert not leftovers(store)


def test_cancelled_before_the_trainer_has_said_a_word_it_ends_too(qtbot, bench, store):
    rehearsal = bench.rehearsal
    with qtbot.waitSignal(rehearsal.ended, timeout=60_000):
        rehearsal.start()
        rehearsal.cancel()
    assert not rehearsal.is_running
    assert not leftovers(store)


@pytest.mark.slow  # The same with a trainer that plays it is in tests of the bridge.
def test_where_memory_runs_out_the_verdict_has_the_next_plan(qtbot, bench, tmp_path, monkeypatch):
    use_trainer(monkeypatch, tmp_path, ROOT / "tests" / "trainer_short_of_memory.py")
    monkeypatch.setenv("SHORT_OF", "training.gradient_checkpointing=true")
    rehearsal = bench.rehearsal
    with qtbot.waitSignal(rehearsal.ended, timeout=MILLISECONDS):
        rehearsal.start()
    verdict = rehearsal.verdict
    assert not verdict.fits
    assert verdict.words.startswith("GPU memory ran out in the forward pass of the ")
    assert verdict.changes == {"training.gradient_checkpointing": True, "training.kept_blocks": 0}
    assert verdict.hint == "Next plan: Blocks computed twice instead of kept."
