"""What the terminal shows of a run's state."""

import pytest
from rich.console import Console

from trainer.protocol.events import Phase
from wan_studio.cli.follow import _Bars, _Lines
from wan_studio.domain.run_state import PhaseState, RunState


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_has_words_in_lines_and_in_bars(phase, capsys):
    state = RunState(phases=(PhaseState(phase=phase, done=1, total=2, unit="things"),))
    _Lines().show(state)
    assert "1 of 2" in capsys.readouterr().out
    with _Bars(Console(width=120, force_terminal=True)) as bars:
        bars.show(state)
        bars.show(RunState())
    assert capsys.readouterr().out.strip()
