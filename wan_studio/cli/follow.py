"""Follows a run in the terminal: bars where there is one, plain lines where output goes to a file."""

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from trainer.protocol.commands import Stop
from trainer.protocol.events import CheckpointSaved, Event, Phase, PreviewSaved, UnknownEvent, Warned
from trainer.protocol.job import Expert
from trainer.protocol.run_folder import RunFolder
from wan_studio.cli.console import complain, in_words, say
from wan_studio.domain.run_state import PhaseState, RunState
from wan_studio.services.run_calibration import RunCalibrator
from wan_studio.services.run_store import RunFollower

POLL_SECONDS = 0.2
LINES_A_PHASE = 10
"""Plain lines that a phase prints at most, besides its first."""

_LOSSES_SHOWN = 10
"""Steps that the shown loss is the mean of: single steps jump with their timestep."""

_PHASE_NAMES = {
    Phase.LOADING: "Loading the model",
    Phase.CACHING_TEXT: "Encoding captions",
    Phase.CACHING_LATENTS: "Encoding clips",
    Phase.TRAINING: "Training",
    Phase.REHEARSING: "Testing training steps",
    Phase.VALIDATING: "Measuring held-out clips",
    Phase.PREVIEWING: "Rendering previews",
    Phase.SAVING: "Saving",
    Phase.CAPTIONING: "Writing captions",
}


class _View(Protocol):
    def show(self, state: RunState) -> None: ...
    def tell(self, text: str) -> None: ...


def follow(run: RunFolder) -> RunState | None:
    """Show the run until it has ended, and learn from what it measures.

    Ctrl+C asks the trainer to stop, and waits until it has saved; a second one leaves it alone.

    Returns:
        The state at its end; None when left alone while it still works.
    """
    follower, calibrator = RunFollower(run), RunCalibrator()
    # What a resumed run went through before is told by its state, not once more event by event.
    follower.update()
    has_asked_to_stop = False
    with _view() as view:
        while True:
            try:
                state = follower.update()
                for event in follower.new_events:
                    _tell_of(event, view)
                view.show(state)
                calibrator.take_in(run, state)
                if state.has_ended:
                    return state
                time.sleep(POLL_SECONDS)
            except KeyboardInterrupt:
                if has_asked_to_stop:
                    return None
                has_asked_to_stop = True
                run.send(Stop())
                view.tell(
                    "Stopping: the trainer saves its state first. Ctrl+C once more leaves it to itself."
                )


def report_failure(run: RunFolder, state: RunState) -> None:
    """Say on stderr why a run ended badly, with the end of the trainer's log."""
    tail = run.log_tail(15)
    if tail.strip():
        complain(f"The end of {run.log_file}:\n{tail}\n")
    complain(state.summary, state.hint)


def _tell_of(event: Event | UnknownEvent, view: _View) -> None:
    match event:
        case Warned():
            view.tell(f"{event.message} {event.hint}".strip())
        case CheckpointSaved():
            view.tell(f"Checkpoint saved at step {event.step}.")
        case PreviewSaved():
            view.tell(f"Preview: {event.video}")
        case _:
            return


def _amount(phase: PhaseState) -> str:
    if phase.phase is Phase.TRAINING:
        return f"step {phase.done} of {phase.total}"
    unit = f" {phase.unit}" if phase.unit else ""
    return f"{phase.done} of {phase.total}{unit}" if phase.total else ""


def _detail(phase: PhaseState, state: RunState) -> str:
    parts: list[str] = []
    if phase.phase is Phase.TRAINING:
        parts += [f"loss {name} {loss:.4f}" for name, loss in _losses(state)]
    if phase.seconds_left is not None and phase.done:
        parts.append(f"{in_words(phase.seconds_left)} left")
    return ", ".join(parts)


def _losses(state: RunState) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, expert in (("high", Expert.HIGH), ("low", Expert.LOW)):
        latest = [point.loss for point in state.losses[-400:] if point.expert is expert][-_LOSSES_SHOWN:]
        if latest:
            found.append((name, sum(latest) / len(latest)))
    return found


class _Bars(AbstractContextManager["_Bars"]):
    """One bar a phase, drawn by rich."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<20}"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[amount]}"),
            TextColumn("{task.fields[detail]}", style="dim"),
            console=console,
        )
        self._tasks: dict[Phase, TaskID] = {}

    def __enter__(self) -> "_Bars":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, state: RunState) -> None:
        live = {phase.phase for phase in state.phases}
        for gone in [phase for phase in self._tasks if phase not in live]:
            self._finish(gone)
        for phase in state.phases:
            if phase.phase not in self._tasks:
                name = _PHASE_NAMES[phase.phase]
                self._tasks[phase.phase] = self._progress.add_task(name, total=None, amount="", detail="")
            self._progress.update(
                self._tasks[phase.phase],
                total=phase.total or None,
                completed=phase.done,
                amount=_amount(phase),
                detail=_detail(phase, state),
            )

    def tell(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _finish(self, phase: Phase) -> None:
        task = self._tasks.pop(phase)
        # They come often; their bars would pile up.
        if phase in {Phase.SAVING, Phase.PREVIEWING, Phase.VALIDATING}:
            self._progress.remove_task(task)
            return
        total = next((shown.total for shown in self._progress.tasks if shown.id == task), None) or 1
        self._progress.update(task, total=total, completed=total, detail="")
        self._progress.stop_task(task)


class _Lines:
    """Few lines that read well in a log."""

    def __init__(self) -> None:
        self._told: dict[Phase, int] = {}

    def show(self, state: RunState) -> None:
        live = {phase.phase for phase in state.phases}
        self._told = {phase: told for phase, told in self._told.items() if phase in live}
        for phase in state.phases:
            part = phase.done * LINES_A_PHASE // phase.total if phase.total else 0
            if part <= self._told.get(phase.phase, -1):
                continue
            self._told[phase.phase] = part
            pieces = (_amount(phase) if phase.done else "", _detail(phase, state))
            rest = ", ".join(piece for piece in pieces if piece)
            self.tell(f"{_PHASE_NAMES[phase.phase]}: {rest}" if rest else f"{_PHASE_NAMES[phase.phase]}.")

    def tell(self, text: str) -> None:
        say(text)


def _view() -> AbstractContextManager[_View]:
    console = Console(file=sys.stdout)
    return _Bars(console) if console.is_terminal else nullcontext(_Lines())
