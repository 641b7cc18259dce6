"""Follows the undo stack and says what of it is new, so that it can be kept on disk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from PySide6.QtGui import QUndoCommand, QUndoStack

from wan_studio.services.undo_log import CaptionTask, LogChange, StepRow


@dataclass(slots=True)
class StepMark:
    """Tells a step of the stack from all others; outlives the command.

    Attributes:
        serial: Its number on disk; 0 before it has one.
        version: Grows whenever another step is merged into it.
        into: The step that took this one in.
    """

    serial: int = 0
    version: int = 0
    into: "StepMark | None" = None

    @property
    def final(self) -> "StepMark":
        """The step that this one became a part of, or this one."""
        mark = self
        while mark.into is not None:
            mark = mark.into
        return mark


class KeepableCommand(Protocol):
    """What an undo command offers so that it can be kept."""

    mark: StepMark
    kind: str

    def text(self) -> str: ...

    def recorder(self) -> Callable[[], bytes]:
        """Makes the step's content; called on another thread, later, when the step may be another one."""
        ...


class StepJournal:
    """Knows which steps of the stack are on disk, and gathers what is new."""

    def __init__(self, stack: QUndoStack) -> None:
        self._stack = stack
        self._serials: list[int] = []
        self._versions: dict[int, int] = {}
        self._index = 0
        self._last_serial = 0
        self._base = 0
        self._change = LogChange()
        self._tasks: list[tuple[StepMark, bool]] = []
        self._is_new = False

    def adopt(self, serials: Sequence[int], index: int, base: int) -> None:
        """The stack holds the steps that were read from the disk, and no others.

        Args:
            serials: Theirs, in order.
            index: How many of them are done.
            base: Serial of the state before the first.
        """
        self._serials = list(serials)
        self._versions = dict.fromkeys(serials, 0)
        self._index = index
        self._last_serial = max(serials, default=base)
        self._base = base
        self._change = LogChange(head=self._head)
        self._tasks.clear()
        self._is_new = False

    def note_captions(self, mark: StepMark, *, is_forward: bool) -> None:
        """A step's captions are about to be written."""
        self._tasks.append((mark, is_forward))
        self._is_new = True

    def follow(self) -> None:
        """The stack changed: a step came, was merged, or another place was gone to."""
        count, index = self._stack.count(), self._stack.index()
        gone: set[int] = set()
        if index:
            command = cast("KeepableCommand", self._stack.command(index - 1))
            mark = command.mark
            if not mark.serial:
                self._last_serial += 1
                mark.serial = self._last_serial
                # What could be done again before cannot any more; the stack's limit may drop the oldest.
                gone.update(self._serials[self._index :])
                self._serials = [*self._serials[: self._index], mark.serial]
                self._put(command)
            elif self._versions[mark.serial] != mark.version:
                gone.update(self._serials[index:])
                self._serials = self._serials[:index]
                self._put(command)
        if not count:
            gone.update(self._serials)
            self._serials = []
        elif len(self._serials) > count:
            dropped = len(self._serials) - count
            # The disk has its own limit, and needs the last of those that go as the base of the rest.
            self._base = self._serials[dropped - 1]
            self._serials = self._serials[dropped:]
        self._index = index
        self._change.gone |= gone
        for serial in gone:
            self._change.rows.pop(serial, None)
        self._change.head = self._head
        self._is_new = True

    def take(self) -> LogChange | None:
        """What is new since the last time; None for nothing."""
        if not self._is_new:
            return None
        change = self._change
        change.tasks = [
            CaptionTask(mark.final.serial, is_forward)
            for mark, is_forward in self._tasks
            if mark.final.serial and mark.final.serial not in change.gone
        ]
        self._change = LogChange(head=self._head)
        self._tasks.clear()
        self._is_new = False
        return change

    @property
    def _head(self) -> int:
        return self._serials[self._index - 1] if self._index else self._base

    def _put(self, command: QUndoCommand | KeepableCommand) -> None:
        keepable = cast("KeepableCommand", command)
        mark = keepable.mark
        self._versions[mark.serial] = mark.version
        self._change.rows[mark.serial] = StepRow(keepable.kind, keepable.text(), keepable.recorder())
