"""What the trainer is told while it works: command files, Ctrl+C and the system's wish to end."""

import logging
import signal
import time
from dataclasses import dataclass
from types import FrameType

import msgspec

from trainer.protocol.commands import (
    Command,
    Pause,
    PreviewNow,
    SaveNow,
    SetLearningRate,
    Stop,
    Unpause,
    command_name,
)
from trainer.protocol.events import CommandObeyed
from trainer.protocol.run_folder import RunFolder
from trainer.runtime.reporter import Reporter

SECONDS_BETWEEN_LOOKS_WHILE_PAUSED = 0.2

log = logging.getLogger("trainer")


class StopRequested(Exception):  # noqa: N818 - not an error: how long work is left when told to stop
    """Raised inside long work that is told to stop."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """The wishes of a moment, to be handed on; fields as in `Control`."""

    stop: bool
    pause: bool
    save: bool
    preview: bool
    learning_rate: float | None


class Control:
    """The wishes that have arrived and not yet been met.

    Attributes:
        stop: Save and end.
        pause: Save and wait.
        save: Save after this step.
        preview: Render previews after this step.
        learning_rate: Train on with this rate; None when unchanged.
    """

    def __init__(self, folder: RunFolder, reporter: Reporter) -> None:
        self._folder = folder
        self._reporter = reporter
        self.stop = False
        self.pause = False
        self.save = False
        self.preview = False
        self.learning_rate: float | None = None

    @property
    def wishes(self) -> Wishes:
        """The wishes now."""
        return Wishes(self.stop, self.pause, self.save, self.preview, self.learning_rate)

    def take_over(self, wishes: Wishes) -> None:
        """Have these wishes and no others."""
        self.stop, self.pause, self.save = wishes.stop, wishes.pause, wishes.save
        self.preview, self.learning_rate = wishes.preview, wishes.learning_rate

    def listen_to_signals(self) -> None:
        """Ctrl+C and SIGTERM become a stop that saves; a second Ctrl+C ends at once."""
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)

    def forget_commands_before(self, moment: float) -> None:
        """Drop commands meant for an earlier trainer: a stale stop must not stop the resumed run.

        Args:
            moment: Seconds since the epoch; command ids begin with their time in nanoseconds.
        """
        for command_id, _ in self._folder.waiting_commands():
            if not command_id.isdigit() or int(command_id) < moment * 1e9:
                self._folder.remove_command(command_id)

    def look(self) -> None:
        """Take the waiting commands and answer each with an event."""
        for command_id, command in self._folder.waiting_commands():
            if isinstance(command, msgspec.DecodeError):
                self._reporter.warn(f"Command {command_id} is not understood: {command}.")
            else:
                self._take(command)
                self._reporter.say(CommandObeyed(command_id=command_id, command=command_name(command)))
            self._folder.remove_command(command_id)

    def raise_if_stopped(self) -> None:
        """For long work before the first step, which can be left at any item.

        Raises:
            StopRequested: a stop has arrived.
        """
        self.look()
        if self.stop:
            raise StopRequested

    def wait_while_paused(self) -> None:
        """Return when the pause is over or a stop arrives."""
        while self.pause and not self.stop:
            time.sleep(SECONDS_BETWEEN_LOOKS_WHILE_PAUSED)
            self.look()

    def _take(self, command: Command) -> None:
        match command:
            case Stop():
                self.stop = True
            case Pause():
                self.pause = True
            case Unpause():
                self.pause = False
            case SaveNow():
                self.save = True
            case PreviewNow():
                self.preview = True
            case SetLearningRate():
                self.learning_rate = command.learning_rate

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.stop and number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
        log.info("Told to stop by signal %d; saving first.", number)
        self.stop = True


class FollowingControl(Control):
    """For all but the first of several processes: wishes come from the first alone."""

    def look(self) -> None:
        """The first one looks."""

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """The system tells all processes to end; the first one saves, and then lets the others go."""
