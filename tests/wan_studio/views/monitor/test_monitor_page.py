"""What the monitor draws of a run's state, and what it asks of a trainer at work."""

import pytest
from PySide6.QtTest import QTest

from trainer.protocol.commands import SetLearningRate
from trainer.protocol.events import CommandObeyed, Hello, RunFailed, StepDone, ValidationDone
from trainer.protocol.job import Expert
from trainer.protocol.run_folder import RunFolder
from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.run_watcher import WatchedRun
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.run_state import RunState, apply_all
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
def page(qtbot, home, tmp_path):
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
    assert page._resume_so.isHidden()
    failed = RunFailed(
        kind="out_of_memory", message="Full.", hint="Do.", step=2, remedy="model.layer_offloading=0.6"
    )
    page._show(WatchedRun(page._watched.run, apply_all(RunState(), (*EVENTS, failed)), is_read=True))
    assert not page._resume_so.isHidden()
    assert page._resume_so.text() == "Resume with model.layer_offloading = 0.6"
    page._resume_so.click()
    page._resume.click()
    assert asked == [("model.layer_offloading=0.6",), ()]
    page._show(WatchedRun(page._watched.run, apply_all(RunState(), (*EVENTS, failed, HELLO)), is_read=True))
    assert page._watched.state.remedy == ""
