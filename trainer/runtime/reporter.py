"""What the trainer says: events into the run folder, and a line each into the log."""

import logging
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType

from trainer.errors import TrainerError
from trainer.protocol.events import (
    Event,
    EventBase,
    MemoryReport,
    Phase,
    PhaseFinished,
    PhaseProgress,
    PhaseStarted,
    RunFailed,
    StepDone,
    Warned,
)
from trainer.protocol.run_folder import EventWriter, RunFolder

SECONDS_BETWEEN_PROGRESS = 0.2

log = logging.getLogger("trainer")


class Reporter:
    """Writes events, from any thread; a context manager, since the file is held open."""

    def __init__(self, folder: RunFolder) -> None:
        self._writer = EventWriter(folder.events_file)
        self._lock = threading.Lock()

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """No event can follow."""
        self._writer.close()

    def say(self, event: Event) -> None:
        """Write the event; steps and progress stay out of the log, they are many."""
        with self._lock:
            self._writer.write(event)
        if not isinstance(event, StepDone | PhaseProgress):
            log.info("%s", _as_line(event))

    def catch_up(self) -> None:
        """Write the events that a full disk kept back, if there is room now."""
        self._writer.catch_up()

    def warn(self, message: str, hint: str = "", memory: MemoryReport | None = None) -> None:
        """Tell the user of something that does not end the run."""
        self.say(Warned(message=message, hint=hint, memory=memory))

    @contextmanager
    def phase(self, phase: Phase, total: int = 0, unit: str = "") -> "Generator[PhaseReport]":
        """Report the phase's start, let the caller report progress, and its end unless it failed."""
        report = PhaseReport(self, phase, total)
        self.say(PhaseStarted(phase=phase, total=total, unit=unit))
        yield report
        self.say(PhaseFinished(phase=phase, seconds=report.seconds))


class SilentReporter(Reporter):
    """What all but the first of several processes say: the log's line, no event."""

    def __init__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def say(self, event: Event) -> None:
        """Keep it to the log."""
        if not isinstance(event, StepDone | PhaseProgress):
            log.debug("%s", _as_line(event))

    def catch_up(self) -> None:
        """There is nothing to catch up with."""


class PhaseReport:
    """Progress of one phase, said at most five times a second."""

    def __init__(self, reporter: Reporter, phase: Phase, total: int) -> None:
        self._reporter = reporter
        self._phase = phase
        self._total = total
        self._began = time.monotonic()
        self._last_said = float("-inf")

    @property
    def seconds(self) -> float:
        """Since the phase began."""
        return time.monotonic() - self._began

    def progress(self, done: int, message: str = "") -> None:
        """Say how many of the total are done."""
        now = time.monotonic()
        if done < self._total and now - self._last_said < SECONDS_BETWEEN_PROGRESS:
            return
        self._last_said = now
        seconds_left = self.seconds / done * (self._total - done) if done else None
        self._reporter.say(
            PhaseProgress(
                phase=self._phase,
                done=done,
                total=self._total,
                seconds_left=seconds_left,
                message=message,
            )
        )


def failure(error: Exception) -> RunFailed:
    """The event that tells of an error that ends the run."""
    if isinstance(error, TrainerError):
        return RunFailed(
            kind=error.kind,
            message=error.message,
            hint=error.hint,
            step=error.step,
            remedy=error.remedy,
            memory=error.memory,
        )
    return RunFailed(
        kind="bug",
        message=f"The trainer met an error that it does not know: {type(error).__name__}: {error}",
        hint="The log has the details; resume goes on from the last checkpoint.",
    )


def _as_line(event: EventBase) -> str:
    fields = {name: getattr(event, name) for name in event.__struct_fields__ if name != "time"}
    return f"{event.__struct_config__.tag} " + " ".join(f"{name}={value!r}" for name, value in fields.items())
