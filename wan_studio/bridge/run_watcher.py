"""Follows one run folder: its events decide what is shown, wherever the trainer runs."""

from dataclasses import dataclass, field

from PySide6.QtCore import QObject, QTimer, Signal

from trainer.protocol.job import JobSpec
from trainer.protocol.run_folder import RunFolder
from wan_studio.bridge.background import run_in_background
from wan_studio.domain.run_state import Outcome, RunState
from wan_studio.services.fallback import Attempt, attempts_of
from wan_studio.services.preview_store import PreviewMixture, PreviewMixtures
from wan_studio.services.run_process import preview_problem, preview_runs, preview_started
from wan_studio.services.run_store import RunFollower

_INTERVAL_MILLISECONDS = 300
_LOG_LINES = 200


@dataclass(frozen=True, slots=True)
class WatchedRun:
    """What is known of the run that is watched.

    Attributes:
        is_read: Whether its events were read yet.
        log_tail: Last lines of the process's own output.
        job: What it trains; None while that cannot be read.
        pinned: Steps of the checkpoints that are kept for ever.
        is_previewing: Whether previews are being rendered although it does not train.
        preview_started: When that was last begun, seconds since the epoch; 0 for never.
        preview_problem: Why the last such rendering failed; empty when it did not.
        mixtures: Previews of two checkpoints mixed, or at another strength.
        attempts: Plans that it went on with where memory ran out.
    """

    run: RunFolder
    state: RunState = field(default_factory=RunState)
    is_read: bool = False
    log_tail: str = ""
    job: JobSpec | None = None
    pinned: frozenset[int] = frozenset()
    is_previewing: bool = False
    preview_started: float = 0.0
    preview_problem: str = ""
    mixtures: tuple[PreviewMixture, ...] = ()
    attempts: tuple[Attempt, ...] = ()

    @property
    def is_starting(self) -> bool:
        """Whether a trainer was started that has not said a word: its libraries take seconds to load."""
        return self.is_read and self.state.outcome is Outcome.WAITING

    @property
    def is_running(self) -> bool:
        """Whether a trainer is at work, or is about to be."""
        return self.is_read and not self.state.has_ended


class RunWatcher(QObject):
    """Reads what a run says, three times a second, on another thread.

    Signals:
        state_changed: Something is new, or another run is watched. arg: WatchedRun, or None for no run
    """

    state_changed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._follower: RunFollower | None = None
        self._mixtures: PreviewMixtures | None = None
        self._watched: WatchedRun | None = None
        self._is_reading = False
        self._timer = QTimer(self)
        self._timer.setInterval(_INTERVAL_MILLISECONDS)
        self._timer.timeout.connect(self.look)

    @property
    def watched(self) -> WatchedRun | None:
        """The run and its state; None when no run is watched."""
        return self._watched

    def watch(self, run: RunFolder | None) -> None:
        """Follow this run from its first event; None follows nothing."""
        if run is None:
            self._timer.stop()
            self._follower, self._watched = None, None
        else:
            self._follower, self._watched = RunFollower(run), WatchedRun(run)
            self._mixtures = PreviewMixtures(run)
            self._timer.start()
            self.look()
        self.state_changed.emit(self._watched)

    def stop(self) -> None:
        """Look no more; the run itself goes on."""
        self._timer.stop()

    def look(self) -> None:
        """Look once, unless a look is under way."""
        follower, mixtures = self._follower, self._mixtures
        if follower is None or mixtures is None or self._is_reading:
            return
        self._is_reading = True

        def on_done(watched: WatchedRun) -> None:
            self._is_reading = False
            if follower is not self._follower:
                self.look()
            elif watched != self._watched:
                self._watched = watched
                self.state_changed.emit(watched)

        run_in_background(lambda: _read(follower, mixtures), on_done, self._on_error, urgent=True)

    def _on_error(self, error: Exception) -> None:
        self._is_reading = False
        raise error


def _read(follower: RunFollower, mixtures: PreviewMixtures) -> WatchedRun:
    """Read what is new of a run; on a pool thread."""
    run = follower.run
    # Before the events: what a process that ends in between wrote last is then among them.
    is_previewing = preview_runs(run)
    state = follower.update()
    return WatchedRun(
        run,
        state,
        is_read=True,
        log_tail=run.log_tail(_LOG_LINES),
        job=follower.job,
        pinned=frozenset(step for step in run.checkpoint_steps() if run.is_pinned(step)),
        is_previewing=is_previewing,
        preview_started=preview_started(run),
        preview_problem="" if is_previewing else preview_problem(run),
        mixtures=mixtures.look(),
        attempts=attempts_of(run),
    )
