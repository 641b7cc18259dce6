"""Two processes that train one expert each, and meet only where a step of both is wanted.

Between meetings neither waits for the other. A meeting is a barrier on the CPU. The first process calls the
second to one by an empty file in the run's folder, which the second looks for between its steps; it is named
by the number of the meeting, which both count, so that a call can never be taken for another.
"""

import shutil
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from trainer.errors import TrainerError
from trainer.protocol.events import RunFailed
from trainer.protocol.job import Expert
from trainer.protocol.run_folder import RunFolder
from trainer.runtime.control import FollowingControl
from trainer.runtime.distributed import FirstHasEndedError, Team, leave_team
from trainer.runtime.pair_reporters import FirstReporter, SecondReporter
from trainer.runtime.reporter import Reporter, failure

T = TypeVar("T")

SECONDS_BETWEEN_LOOKS = 0.05
SECONDS_TO_BE_HEARD = 600.0
"""How long the second process, having failed, waits for the first to tell of it: it may be loading an expert."""


class OtherFailedError(TrainerError):
    """The process of the other expert has failed; worded as it worded that."""

    def __init__(self, failed: RunFailed) -> None:
        super().__init__(failed.message, failed.hint)
        self.kind = failed.kind
        self.step = failed.step
        self.remedy = failed.remedy
        self.memory = failed.memory


class OtherLostError(TrainerError):
    """The process of the other expert has ended without a word."""

    kind = "lost_process"

    def __init__(self, expert: Expert) -> None:
        super().__init__(
            f"The process that trains the {expert.value.replace('_', '-')} expert has ended without a word.",
            "The log may say why; resume goes on from the last checkpoint.",
        )


class Pair:
    """One of the two processes.

    Attributes:
        team: Both of them.
        expert: The one that this process trains: the first's is the high-noise expert.
    """

    def __init__(self, team: Team, run: RunFolder, reporter: Reporter, first_step: int) -> None:
        """Meet the other; no one says anything before.

        Args:
            team: Both.
            run: Whose folder both can reach.
            reporter: The run's, of the first process.
            first_step: Optimizer steps done.

        Raises:
            FirstHasEndedError: the first one has failed.
            OtherLostError: the second one has.
        """
        self.team = team
        self.expert = Expert.HIGH if team.is_first else Expert.LOW
        self._run = run
        self._meetings = 0
        self._reporter: FirstReporter | SecondReporter | None = None
        if team.is_first:
            # What a crash left behind; that which cannot be removed has other names.
            shutil.rmtree(run.pair_folder, ignore_errors=True)
        self._token = self.share(f"{time.time_ns():x}")
        run.pair_folder.mkdir(exist_ok=True)
        steps = self._file("steps.jsonl")
        self._reporter = (
            FirstReporter(reporter, steps, first_step) if team.is_first else SecondReporter(steps)
        )

    @property
    def is_first(self) -> bool:
        """Whether this process speaks, writes and decides for both."""
        return self.team.is_first

    @property
    def reporter(self) -> FirstReporter | SecondReporter:
        """What this process says: the second's events reach the run through the first."""
        assert self._reporter is not None
        return self._reporter

    def settle(self, step: int) -> None:
        """For the first: say all that is left up to a step that both have done; errors as of `meet`."""
        self.listen()
        if isinstance(self._reporter, FirstReporter):
            self._reporter.settle(step)

    # Calls: without waiting.

    def call(self) -> None:
        """Have the second process come to the next meeting after the step that it is at."""
        with suppress(OSError):
            # Without room for an empty file, they meet when that is due.
            self._file(f"meet_{self._meetings}").touch()

    def is_called(self) -> bool:
        """Whether the first process waits for this one."""
        return self._file(f"meet_{self._meetings}").exists()

    def has_ended(self) -> bool:
        """Whether the first process has ended, well or not."""
        return self._file("ended").exists()

    # Meetings: each waits for the other.

    def meet(self, meanwhile: Callable[[], object]) -> None:
        """Wait until both are here.

        Args:
            meanwhile: Done again and again by the first process while it waits.

        Raises:
            FirstHasEndedError: the first one has ended.
            OtherFailedError: the second one has failed.
            OtherLostError: the second one has ended without a word.
        """
        with self._hearing():
            work = self.team.arrive()
            while self.is_first and not work.is_completed():
                meanwhile()
                time.sleep(SECONDS_BETWEEN_LOOKS)
            work.wait()
        self._meetings += 1
        self.listen()

    def share(self, value: T) -> T:
        """The first one's value, for both; errors as of `meet`."""
        with self._hearing():
            return self.team.share(value)

    def gather(self, value: T) -> list[T]:
        """Both values, for both; errors as of `meet`."""
        with self._hearing():
            return self.team.gather(value)

    def give(self, value: object) -> None:
        """For the second: give the first a value with tensors on the CPU; errors as of `meet`."""
        with self._hearing():
            self.team.give_to_first(value)

    def take(self) -> Any:
        """For the first: what the second gives; errors as of `meet`."""
        with self._hearing():
            return self.team.take_from(1)

    def listen(self) -> None:
        """For the first: say what the second has handed on since.

        Raises:
            OtherFailedError: it has failed.
        """
        if isinstance(self._reporter, FirstReporter):
            failed = self._reporter.fold()
            if failed is not None:
                raise OtherFailedError(failed)

    # The end.

    @contextmanager
    def together(self) -> Generator[None]:
        """Be one of the two inside; when either fails, the other ends too, and the first says why."""
        try:
            yield
        except FirstHasEndedError:
            raise
        except Exception as error:
            if not self.is_first:
                self._be_heard(error)
            raise
        else:
            # What is open could not be removed on Windows.
            self.reporter.close()
            with suppress(FirstHasEndedError, TrainerError):
                self.meet(lambda: None)
            if self.is_first:
                shutil.rmtree(self._run.pair_folder, ignore_errors=True)
        finally:
            if self.is_first:
                with suppress(OSError):
                    self._file("ended").touch()
            self.reporter.close()

    def _be_heard(self, error: Exception) -> None:
        """Leave the first process the reason, and time to tell it, before this process's end ends all."""
        self.reporter.say(failure(error))
        # A first process that waits for this one learns of it at once, any other between its steps.
        leave_team()
        deadline = time.monotonic() + SECONDS_TO_BE_HEARD
        while not self.has_ended() and time.monotonic() < deadline:
            time.sleep(SECONDS_BETWEEN_LOOKS)

    @contextmanager
    def _hearing(self) -> Generator[None]:
        """Turn a lost connection into who has ended."""
        try:
            yield
        except RuntimeError as error:
            if not self.is_first:
                raise FirstHasEndedError from error
            self.listen()
            raise OtherLostError(Expert.LOW) from error

    def _file(self, name: str) -> Path:
        return self._run.pair_folder / f"{self._token}_{name}"


class SecondControl(FollowingControl):
    """For the second process: nothing to obey before a meeting, but it goes when the first has gone."""

    def __init__(self, run: RunFolder, pair: Pair, reporter: Reporter) -> None:
        super().__init__(run, reporter)
        self._pair = pair

    def look(self) -> None:
        """See whether the first process is still there.

        Raises:
            FirstHasEndedError: it is not.
        """
        if self._pair.has_ended():
            raise FirstHasEndedError
