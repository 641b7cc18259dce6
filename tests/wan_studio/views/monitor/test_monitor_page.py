"""What the monitor draws of a run's state, and what it asks of a trainer at work."""

import pytest
from PySide6.QtTest import QTest

from tests.wan_studio.a14b_job import a14b_job, failed, report
from trainer.protocol.commands import SetLearningRate
from trainer.protocol.events import CheckpointSaved, CommandObeyed, Hello, RunFailed, StepDone, ValidationDone
from trainer.protocol.job import Expert
from trainer.protocol.run_folder import EventWriter, RunFolder
from trainer.protocol.wire import write_json
from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.run_watcher import WatchedRun
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.fallback_ladder import Rung
from wan_studio.domain.project import Project
from wan_studio.domain.run_state import RunState, apply_all
from wan_studio.services.fallback import Attempt
from wan_studio.services.preset_store import settings_for
from wan_studio.services.project_store import ProjectStore
from wan_studio.views.monitor.page import MonitorPage

HELLO = Hello(protocol_version=1, trainer_version="1", pid=1, device="cuda", total_steps=100)


def step(number, expert, timesteps, losses, preservation=None):
    return StepDone(
        step=number,
        expert=expert,
        loss=sum(losses) / len(losses),
        timesteps=timesteps,
        item_losses=losses,
        preservation_loss=preservation,
        learning_rate=1e-4,
        grad_norm=1.0,
        seconds=1.0,
    )


EVENTS = (
    HELLO,
    step(1, Expert.HIGH, (950.0,), (0.2,)),
    step(2, Expert.LOW, (100.0, 800.0), (0.1, 0.5), preservation=0.01),
    ValidationDone(step=2, expert=Expert.LOW, loss=0.25, timesteps=(500.0,), timestep_losses=(0.25,)),
)


@pytest.fixture
def page(qtbot, home, tmp_path, machine_without_gpu):
    bench = Workbench()
    made = MonitorPage(bench)
    qtbot.addWidget(made)
    run = RunFolder(tmp_path / "run")
    watched = WatchedRun(run, apply_all(RunState(), EVENTS), is_read=True)
    bench.runs._watcher._watched = watched
    made._show(watched)
    yield made
    bench.close()
    wait_for_background()


def test_each_expert_the_held_out_clips_and_preservation_have_a_line(page):
    legend = {entry.name: (round(entry.value, 6), entry.mark) for entry in page._losses.plot.legend}
    assert legend == {
        "High noise": (0.2, "●"),
        "Low noise": (0.3, "●"),
        "Held out, low noise": (0.25, "◆"),
        "Preservation": (0.01, "●"),
    }


def test_by_timestep_there_is_a_line_for_each_band_that_was_drawn(page):
    page._losses.view.setCurrentIndex(1)
    legend = {entry.name: round(entry.value, 6) for entry in page._losses.plot.legend}
    assert legend == {"0 to 225": 0.1, "675 to 900": 0.5, "900 to 1000": 0.2}
    colours = [entry.colour.name() for entry in page._losses.plot.legend]
    assert len(set(colours)) == 3


def test_another_learning_rate_is_asked_for_only_when_it_is_one(qtbot, page):
    page._rate.open_button.click()
    line = page._rate.line
    assert line.text() == "0.0001", "begins with what is used now"
    line.selectAll()
    QTest.keyClicks(line, "3")
    page._rate._apply_button.click()
    assert "at most 1" in page._rate._problem.text()
    assert not line.isHidden()
    line.selectAll()
    QTest.keyClicks(line, "5e-5\r")
    assert line.isHidden()
    assert "5e-05" in page._answer.text()
    run = page._watched.run
    qtbot.waitUntil(lambda: bool(run.waiting_commands()))
    ((_, command),) = run.waiting_commands()
    assert command == SetLearningRate(learning_rate=5e-5)
    answer = CommandObeyed(command_id="1", command="set_learning_rate", message="From step 3 on.")
    page._show(WatchedRun(run, apply_all(RunState(), (*EVENTS, answer)), is_read=True))
    assert page._answer.text() == "From step 3 on."


def test_buttons_are_there_while_a_trainer_is_at_work(page):
    for made in (page._rate, page._save, page._preview, page._pause, page._stop):
        assert not made.isHidden()
    page._show(None)
    assert page._rate.isHidden()


def test_a_run_that_ran_out_of_memory_offers_the_setting_to_go_on_with(page, monkeypatch):
    asked = []
    monkeypatch.setattr(page.bench.runs, "resume", lambda memory=(): asked.append(memory))
    assert page._trouble.resume_so.isHidden()
    failed = RunFailed(
        kind="out_of_memory", message="Full.", hint="Do.", step=2, remedy="model.layer_offloading=0.6"
    )
    page._show(WatchedRun(page._watched.run, apply_all(RunState(), (*EVENTS, failed)), is_read=True))
    assert not page._trouble.resume_so.isHidden()
    assert page._trouble.resume_so.text() == "Resume with model.layer_offloading = 0.6"
    page._trouble.resume_so.click()
    page._trouble.resume.click()
    assert asked == [("model.layer_offloading=0.6",), ()]
    page._show(WatchedRun(page._watched.run, apply_all(RunState(), (*EVENTS, failed, HELLO)), is_read=True))
    assert page._watched.state.remedy == ""


def offered(page, qtbot, *, sides=(512,), tried=()):
    """The page of a run that ran out of memory, with what it is offered."""
    run = RunFolder(page._watched.run.path.parent / "runs" / "orbit-001")
    run.create(a14b_job(sides=sides, model={"checkpoint_offloading": False}))
    if tried:
        attempt = Attempt(rungs=tried, changes={}, words="this", step=2, time=1.0)
        write_json(run.path / "ladder.json", (attempt,))
    run.checkpoint(2).mkdir(parents=True)
    writer = EventWriter(run.events_file)
    saved = CheckpointSaved(step=2, path="checkpoints/step_000002")
    for event in (*EVENTS, saved, failed(report("backward"), step=2)):
        writer.write(event)
    writer.close()
    page.bench.runs.show(run)
    qtbot.waitUntil(lambda: page.bench.fallback.offer is not None, timeout=10_000)
    return page._trouble


def test_a_lack_of_memory_is_told_with_what_is_saved_and_one_button_goes_on(qtbot, page, monkeypatch):
    taken = []
    monkeypatch.setattr(page.bench.runs, "go_on", lambda offer, by_itself: taken.append((offer, by_itself)))
    card = offered(page, qtbot)
    assert card.title.text() == "Out of GPU memory at step 2"
    assert "in the backward pass of the high-noise expert at 512 x 512, 41 frames" in card.text.text()
    assert "2.50 GiB more" in card.text.text()
    assert card.hint.text() == "The state after step 2 is saved."
    assert card.plan.text() == "Next plan: What the backward pass needs waiting in RAM."
    assert card.go_on.text() == "Resume with this"
    assert card.resume.property("role") == "plain"
    card.go_on.click()
    assert taken == [(page.bench.fallback.offer, False)]


def test_a_plan_that_changes_the_result_says_that_a_new_run_starts(qtbot, page):
    card = offered(
        page, qtbot, sides=(512, 768), tried=("checkpoints", "blocks", "chunks", "kept activations")
    )
    assert card.go_on.text() == "Start a new run with this"
    assert card.plan.text() == (
        "Next plan: The size 768 left out. A new run starts from the last checkpoint's LoRA."
    )
    assert page._went_on.text() == "Resumed from step 2 with this."


def test_where_no_change_is_left_the_card_says_so_and_what_helps(qtbot, page):
    card = offered(page, qtbot, tried=tuple(Rung))
    assert card.go_on.isHidden()
    assert card.plan.text().startswith("No change is left that would let it go on. ")


def test_the_plan_becomes_the_projects_own_in_one_step(qtbot, page, tmp_path, monkeypatch):
    monkeypatch.setattr(page.bench.runs, "go_on", lambda *_, **__: None)
    store = ProjectStore(page._watched.run.path.parent)
    project = Project(name="orbit", settings=settings_for("motion", str(tmp_path)))
    store.save(project)
    page.bench.session.open(store, project)
    page._show(WatchedRun(RunFolder(tmp_path / "run")))
    offered(page, qtbot).go_on.click()
    assert page.session.project.settings.model.checkpoint_offloading
    page.session.undo_stack.undo()
    assert page.session.project == project


def test_continuing_by_itself_is_a_switch_that_is_off_and_remembered(page):
    assert not page._by_itself.isChecked()
    page._by_itself.click()
    assert page.bench.fallback.continues_by_itself
    assert page.bench.settings.values["continue_by_itself"] == "yes"
