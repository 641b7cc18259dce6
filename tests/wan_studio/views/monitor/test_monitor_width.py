"""What the trainer says never makes the Monitor page wider or higher than the smallest window."""

from trainer.protocol.events import Phase
from trainer.protocol.run_folder import RunFolder
from wan_studio.bridge.run_watcher import WatchedRun
from wan_studio.domain.checks import Step
from wan_studio.domain.run_state import Outcome, PhaseState, RunState


def test_a_long_caption_in_the_phase_is_shortened_and_says_how_long_it_takes(qtbot, open_window, tmp_path):
    open_window.resize(1024, 640)
    open_window.go_to(Step.MONITOR)
    page = open_window.page(Step.MONITOR)
    phase = PhaseState(Phase.CACHING_TEXT, 1, 9, "prompts", 7.0, "many words " * 60)
    state = RunState(outcome=Outcome.RUNNING, total_steps=100, phases=(phase,))
    page._show(WatchedRun(RunFolder(tmp_path), state, is_read=True))
    qtbot.wait(20)
    assert page._phase.whole_text.endswith("7 s left")
    assert page._phase.width() > 200
    smallest = open_window.minimumSizeHint()
    assert (smallest.width() <= 1024, smallest.height() <= 640) == (True, True), smallest
