"""How two processes that train one expert each tell of one run: the second's steps, among the first's in order.

The second writes what it has to tell into a file of its own, each event as it comes; the first reads that
between its own steps, and says of both what is next, so that the events count the steps up as ever.
"""

import heapq
import itertools
from pathlib import Path

import msgspec

from trainer.protocol.events import Event, RunFailed, StepDone, ValidationDone
from trainer.protocol.job import Expert
from trainer.protocol.run_folder import EventReader, EventWriter
from trainer.runtime.reporter import Reporter, SilentReporter

Told = StepDone | ValidationDone


class StepOrder:
    """Events of steps, which come in any order, given out in the steps' order."""

    def __init__(self, done: int) -> None:
        """Begin.

        Args:
            done: Optimizer steps that were told before.
        """
        self._done = done
        self._waiting: list[tuple[int, bool, int, Told]] = []
        self._arrivals = itertools.count()
        self._seconds_left: dict[Expert, float] = {}

    def add(self, event: Told) -> None:
        """Take an event in."""
        is_after_step = isinstance(event, ValidationDone)
        heapq.heappush(self._waiting, (event.step, is_after_step, next(self._arrivals), event))

    def take_ready(self) -> list[Told]:
        """What can be told: every step before it is told."""
        ready: list[Told] = []
        while self._waiting and self._waiting[0][0] <= self._done + (not self._waiting[0][1]):
            ready.append(self._take())
        return ready

    def take_up_to(self, step: int) -> list[Told]:
        """All up to a step that both have done, even where one before it was lost."""
        ready: list[Told] = []
        while self._waiting and self._waiting[0][0] <= step:
            ready.append(self._take())
        self._done = max(self._done, step)
        return ready

    def _take(self) -> Told:
        event = heapq.heappop(self._waiting)[-1]
        if not isinstance(event, StepDone):
            return event
        self._done = max(self._done, event.step)
        if event.seconds_left is not None:
            self._seconds_left[event.expert] = event.seconds_left
        # The run takes as long as the slower of the two.
        left = max(self._seconds_left.values(), default=None)
        return msgspec.structs.replace(event, seconds_left=left)


class FirstReporter(Reporter):
    """Says the run's events: its own at once, but for those of steps, which wait for the other's before them."""

    def __init__(self, reporter: Reporter, other: Path, first_step: int) -> None:
        """Begin.

        Args:
            reporter: Of the run; it stays open when this one is closed.
            other: The second process's file; it need not be there yet.
            first_step: Optimizer steps done.
        """
        self._reporter = reporter
        self._other = EventReader(other)
        self._order = StepOrder(first_step)

    def say(self, event: Event) -> None:
        """Say it, or keep it until it is its turn."""
        if isinstance(event, StepDone | ValidationDone):
            self._order.add(event)
            self._say_all(self._order.take_ready())
        else:
            self._reporter.say(event)

    def fold(self) -> RunFailed | None:
        """Say what the second has told since, as far as it is its turn; returns why it failed, if it did."""
        for event in self._other.read_new():
            if isinstance(event, RunFailed):
                return event
            if isinstance(event, StepDone | ValidationDone):
                self._order.add(event)
        self._say_all(self._order.take_ready())
        return None

    def settle(self, step: int) -> None:
        """Say all that is left up to a step that both have done."""
        self._say_all(self._order.take_up_to(step))

    def catch_up(self) -> None:
        """As the run's."""
        self._reporter.catch_up()

    def close(self) -> None:
        """Nothing of its own is open."""

    def _say_all(self, events: list[Told]) -> None:
        for event in events:
            self._reporter.say(event)


class SecondReporter(SilentReporter):
    """Hands on its steps, losses on held-out clips and failure; all else goes to the log alone."""

    def __init__(self, path: Path) -> None:
        self._file = EventWriter(path)
        self._is_closed = False

    def say(self, event: Event) -> None:
        """Hand it on where it is the run's."""
        if isinstance(event, StepDone | ValidationDone | RunFailed):
            self._file.write(event)
        else:
            super().say(event)

    def catch_up(self) -> None:
        """Hand on what a full disk kept back."""
        self._file.catch_up()

    def close(self) -> None:
        """No event can follow; may be called again."""
        if not self._is_closed:
            self._is_closed = True
            self._file.close()
