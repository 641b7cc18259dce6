"""The card of the 90-second test: when it can be run, what it shows meanwhile, and what it has shown."""

import time

import pytest

from trainer.protocol.events import Phase
from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.hardware import HardwareSnapshot, MachineState
from wan_studio.domain.project import Project, ProjectClip
from wan_studio.domain.rehearsal_verdict import Verdict
from wan_studio.domain.run_state import Outcome, PhaseState, RunState
from wan_studio.services.preset_store import settings_for
from wan_studio.services.project_store import ProjectStore
from wan_studio.services.rehearsal import keep_verdict
from wan_studio.views.hardware.rehearsal_card import RehearsalCard

CLIP = ProjectClip(id="a", source="/clips/a.mp4", caption_file="/clips/a.txt")
FITS = Verdict(words="Both experts trained at 512 x 512, 41 frames: 18.4 of 22.8 GiB.", fits=True, time=1e9)
SHORT = Verdict(
    words="GPU memory ran out in the backward pass.",
    hint="Next plan: 30% of the blocks waiting in RAM.",
    changes={"model.layer_offloading": 0.3},
    time=time.time(),
)


@pytest.fixture
def bench(qtbot, home):
    made = Workbench()
    yield made
    made.close()
    wait_for_background()


@pytest.fixture
def card(qtbot, bench):
    made = RehearsalCard(bench)
    qtbot.addWidget(made)
    return made


def open_project(qtbot, bench, folder, base="miniature", clips=(CLIP,), verdict=None):
    store = ProjectStore(folder / "orbit")
    project = Project(name="orbit", settings=settings_for("motion", base), clips=clips)
    store.save(project)
    if verdict is not None:
        keep_verdict(store, verdict)
    bench.session.open(store, project)
    qtbot.wait(20)
    return store


def test_without_a_project_or_clips_it_says_what_is_missing(qtbot, bench, card, tmp_path):
    assert not card._run.isEnabled()
    assert card._why_not.text() == "Open a project first."
    open_project(qtbot, bench, tmp_path, clips=())
    assert card._why_not.text() == "Add clips first: the test takes their sizes."
    assert card._run.toolTip() == card._why_not.text()


def test_the_real_model_needs_a_gpu_and_the_miniature_does_not(qtbot, bench, card, tmp_path):
    machine = HardwareSnapshot((), 2**34, 2**33, state=MachineState.NO_DRIVER)
    bench.hardware._latest = machine
    open_project(qtbot, bench, tmp_path, base=str(tmp_path))
    assert card._why_not.text().startswith("The A14B model needs an NVIDIA GPU")
    open_project(qtbot, bench, tmp_path / "small")
    assert card._run.isEnabled()
    assert card._why_not.isHidden()


def test_without_a_trainer_the_reason_says_how_to_install_it(qtbot, bench, card, tmp_path, monkeypatch):
    monkeypatch.setenv("WAN_STUDIO_TRAINER_PYTHON", str(tmp_path / "none"))
    open_project(qtbot, bench, tmp_path)
    qtbot.waitUntil(lambda: "The trainer is not installed" in card._why_not.text())
    assert not card._run.isEnabled()


def test_while_a_run_trains_it_waits(qtbot, bench, card, tmp_path, monkeypatch):
    open_project(qtbot, bench, tmp_path)
    monkeypatch.setattr(type(bench.runs), "is_training", property(lambda _: True))
    bench.runs.state_changed.emit(None)
    assert card._why_not.text() == "A run is training: the test would take its memory."


def test_what_the_last_one_has_shown_is_there_again_with_its_day(qtbot, bench, card, tmp_path):
    open_project(qtbot, bench, tmp_path, verdict=FITS)
    qtbot.waitUntil(lambda: card._words.text() == FITS.words)
    assert not card._result.isHidden()
    assert card._when.text().startswith("Tested on 0")
    assert card._apply.isHidden()


def test_a_plan_that_should_fit_is_set_with_one_click_and_taken_back_with_one(qtbot, bench, card, tmp_path):
    open_project(qtbot, bench, tmp_path, verdict=SHORT)
    qtbot.waitUntil(lambda: card._hint.text() == SHORT.hint)
    assert card._when.text().startswith("Tested today at ")
    card._apply.click()
    assert bench.session.project.settings.model.layer_offloading == 0.3
    assert card._apply.isHidden()
    bench.session.undo_stack.undo()
    assert not card._apply.isHidden()


def test_meanwhile_there_are_progress_in_words_and_a_way_to_cancel(qtbot, bench, card, tmp_path):
    open_project(qtbot, bench, tmp_path, verdict=FITS)
    rehearsal = bench.rehearsal
    rehearsal._is_running, rehearsal._share = True, 0.72
    rehearsal._began_at = time.monotonic() - 34
    phase = PhaseState(Phase.REHEARSING, 2, 6, "steps", message="low-noise expert")
    rehearsal._state = RunState(outcome=Outcome.RUNNING, phases=(phase,))
    rehearsal.changed.emit()
    assert card._run.isHidden()
    assert not card._cancel.isHidden()
    assert card._bar.value() == 720
    assert card._phase.whole_text == "Testing training steps (low-noise expert), 34 s"
    assert card._result.isHidden()
    card._cancel.click()
    assert card._phase.whole_text.startswith("Stopping")
    assert not card._cancel.isEnabled()


def test_what_could_not_be_done_is_told_with_what_to_do(qtbot, bench, card, tmp_path):
    # The clip's file is not there.
    open_project(qtbot, bench, tmp_path)
    with qtbot.waitSignal(bench.rehearsal.ended, timeout=20_000):
        card._run.click()
    assert card._words.text().startswith("No clip can train.")
    assert card._hint.text()
    assert card._when.isHidden()
