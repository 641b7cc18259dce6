"""Follows one run folder: the events decide what is shown, wherever the trainer runs."""

import time
from dataclasses import dataclass, replace

from PySide6.QtCore import QObject, QTimer, Signal

from trainer.protocol.run_folder import EventReader, RunFolder
from wan_studio.bridge.background import run_in_background
from wan_studio.domain.run_state import Outcome, RunState, apply_all

_INTERVAL_MILLISECONDS = 300
_STARTUP_SECONDS = 45.0
"""A trainer that was just started says nothing until its libraries are imported."""


@dataclass(frozen=True, slots=True)
class WatchedRun:
    """What is known of the run that is watched.

    Attributes:
        is_starting: A trainer was just started and has not said a word.
        log_tail: Last lines of the process's own output.
    """

    run: RunFolder
    state: RunState = RunState()
    is_starting: bool = False
    log_tail: str = ""

    @property
    def is_running(self) -> bool:
        """Whether a trainer is at work, or is about to be."""
        return self.is_starting or not (self.state.has_ended or self.state.outcome is Outcome.WAITING)


@dataclass(slots=True)
class _Follower:
    """The reading side; used by one worker at a time."""

    reader: EventReader
    run: RunFolder
    state: RunState
    said_something: bool = False

    def read(self, starting_until: float) -> WatchedRun:
        # Alive first: what a trainer wrote before it ended is then read for certain.
        is_alive = self.run.is_alive()
        events = self.reader.read_new()
        self.said_something = self.said_something or bool(events)
        self.state = apply_all(self.state, events)
        log_tail = self.run.log_tail(60)
        if is_alive:
            is_starting = not self.said_something
            return WatchedRun(self.run, self.state, is_starting, log_tail)
        if not self.said_something and time.monotonic() < starting_until:
            return WatchedRun(self.run, self.state, is_starting=True, log_tail=log_tail)
        return WatchedRun(self.run, self.state.with_dead_trainer(log_tail), log_tail=log_tail)


class RunWatcher(QObject):
    """Reads what a run says, three times a second, on another thread.

    Signals:
        state_changed: Something is new, or another run is watched. arg: WatchedRun, or None for no run
    """

    state_changed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._follower: _Follower | None = None
        self._watched: WatchedRun | None = None
        self._starting_until = 0.0
        self._is_reading = False
        self._timer = QTimer(self)
        self._timer.setInterval(_INTERVAL_MILLISECONDS)
        self._timer.timeout.connect(self.look)

    @property
    def watched(self) -> WatchedRun | None:
        """The run and its state; None when no run is watched."""
        return self._watched

    def watch(self, run: RunFolder | None, *, just_started: bool = False) -> None:
        """Follow this run from its first event.

        Args:
            run: None follows nothing.
            just_started: A trainer was started on it a moment ago.
        """
        if run is None:
            self._timer.stop()
            self._follower = None
            self._watched = None
            self.state_changed.emit(None)
            return
        is_same = self._follower is not None and self._follower.run.path == run.path
        self._starting_until = time.monotonic() + _STARTUP_SECONDS if just_started else 0.0
        if is_same and self._follower is not None and self._watched is not None:
            # A resumed run goes on with the events that it has; only new words count as its own.
            self._follower.said_something = False
            self._watched = replace(self._watched, is_starting=just_started)
        else:
            self._follower = _Follower(EventReader(run.events_file), run, RunState())
            self._watched = WatchedRun(run, is_starting=just_started)
        self.state_changed.emit(self._watched)
        self._timer.start()
        self.look()

    def stop(self) -> None:
        """Look no more; the run itself goes on."""
        self._timer.stop()

    def look(self) -> None:
        """Look once, unless a look is under way."""
        follower = self._follower
        if follower is None or self._is_reading:
            return
        self._is_reading = True
        until = self._starting_until

        def on_done(watched: WatchedRun) -> None:
            self._is_reading = False
            if follower is not self._follower:
                self.look()
            elif watched != self._watched:
                self._watched = watched
                self.state_changed.emit(watched)

        run_in_background(lambda: follower.read(until), on_done, self._on_error, urgent=True)

    def _on_error(self, error: Exception) -> None:
        self._is_reading = False
        raise error
