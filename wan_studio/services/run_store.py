"""A project's runs, and what each of them is doing: events, lock, process and log together."""

import re
import time
from dataclasses import replace
from pathlib import Path

from trainer.protocol.events import Event, UnknownEvent
from trainer.protocol.job import JobSpec
from trainer.protocol.run_folder import EventReader, RunFolder
from trainer.protocol.wire import WireError
from wan_studio.domain.run_state import Outcome, RunState, apply_all
from wan_studio.services.run_process import preview_runs, process_record, process_runs

GRACE_SECONDS = 60.0
"""A run without events and without a known process counts as about to start for this long."""


class RunStore:
    """The folder of a project's runs; made by the first run."""

    def __init__(self, runs_folder: Path) -> None:
        self._folder = runs_folder

    @property
    def folder(self) -> Path:
        return self._folder

    def runs(self) -> list[RunFolder]:
        """All runs, newest first; only folders with a job count."""
        if not self._folder.is_dir():
            return []
        folders = [path for path in self._folder.iterdir() if (path / "job.json").is_file()]
        return [RunFolder(path) for path in sorted(folders, key=_age_key, reverse=True)]

    def new_run(self, name: str) -> RunFolder:
        """A run folder that does not exist yet, named by the run and its number; nothing is made."""
        slug = re.sub(r"[^\w-]+", "-", name.casefold()).strip("-_")[:40] or "run"
        taken = [path.name for path in self._folder.iterdir()] if self._folder.is_dir() else []
        number = max((_number(name) for name in taken), default=0) + 1
        return RunFolder(self._folder / f"{slug}-{number:03d}")


class RunFollower:
    """Follows one run; each `update` reads only what is new."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._reader = EventReader(run.events_file)
        self._from_events = RunState()
        self._last_event_time = 0.0
        self._new_events: list[Event | UnknownEvent] = []
        self._job: JobSpec | None = None

    @property
    def job(self) -> JobSpec | None:
        """What the run trains, read when it is first wanted; None while it cannot be read."""
        if self._job is None:
            try:
                self._job = self.run.read_job()
            except WireError:
                return None
        return self._job

    @property
    def new_events(self) -> list[Event | UnknownEvent]:
        """The events that the last `update` read."""
        return self._new_events

    def update(self) -> RunState:
        """The run's state now."""
        # The lock first: a trainer that ends in between has then written its last event before the reading.
        is_alive = self.run.is_alive()
        is_previewing = preview_runs(self.run)
        # The lock is also held to render previews of a run that has ended.
        is_running = (is_alive and not is_previewing) or process_runs(self.run)
        self._new_events = self._reader.read_new()
        for event in self._new_events:
            if not isinstance(event, UnknownEvent):
                self._last_event_time = max(self._last_event_time, event.time)
        self._from_events = apply_all(self._from_events, self._new_events)
        record = process_record(self.run)
        is_fresh_start = record is not None and record.started > self._last_event_time
        state = self._from_events
        if is_running:
            # A resumed run has not said hello yet: what it did before is over.
            if is_fresh_start:
                return replace(state, outcome=Outcome.WAITING, phases=(), summary="", hint="")
            return state
        if is_fresh_start:
            return replace(state, outcome=Outcome.RUNNING).with_dead_trainer(self.run.log_tail())
        if state.outcome is Outcome.WAITING and self._is_young():
            return state
        ended = state.with_dead_trainer(self.run.log_tail())
        return replace(ended, phases=state.phases) if is_previewing else ended

    def _is_young(self) -> bool:
        try:
            return time.time() - self.run.job_file.stat().st_mtime < GRACE_SECONDS
        except OSError:
            return False


def current_state(run: RunFolder) -> RunState:
    """What a run is doing now; reads all its events. To follow one, keep a `RunFollower`."""
    return RunFollower(run).update()


def _number(name: str) -> int:
    found = re.search(r"-(\d+)$", name)
    return int(found[1]) if found else 0


def _age_key(path: Path) -> tuple[int, int]:
    try:
        return _number(path.name), (path / "job.json").stat().st_mtime_ns
    except OSError:
        return _number(path.name), 0
