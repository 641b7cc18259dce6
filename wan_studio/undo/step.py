"""What every undo command of the app has in common: it can be kept on disk, and comes back after a restart."""

from collections.abc import Callable
from functools import cache

from PySide6.QtCore import QTimer
from PySide6.QtGui import QUndoCommand

from wan_studio.bridge.project_session import ProjectSession
from wan_studio.bridge.step_journal import StepMark
from wan_studio.errors import AppError
from wan_studio.services.undo_log import KeptStep
from wan_studio.services.undo_steps import UndoStep, unpacked

ONE_GO_SECONDS = 3.0
"""What is typed without a pause of this length is one step."""


class KeepableStep(QUndoCommand):
    """Base of the commands.

    Attributes:
        mark: Which step it is.
        kind: "project" or "captions".
    """

    kind = ""

    def __init__(self, session: ProjectSession, text: str, serial: int = 0) -> None:
        """Make it.

        Args:
            session: Where the project is open.
            text: What the Edit menu calls it.
            serial: Its number where it was kept before.
        """
        super().__init__(text)
        self.session = session
        self.mark = StepMark(serial)

    def redo(self) -> None:
        """Do it; a step that was kept is done already when it comes onto the stack."""
        self._try(self.apply)

    def undo(self) -> None:
        """Take it back."""
        self._try(self.take_back)

    def apply(self) -> None:
        """Do it.

        Raises:
            AppError: it cannot be done.
        """
        raise NotImplementedError

    def take_back(self) -> None:
        """Take it back.

        Raises:
            AppError: it cannot be taken back.
        """
        raise NotImplementedError

    def recorder(self) -> Callable[[], bytes]:
        """Makes its content for the disk, on another thread."""
        raise NotImplementedError

    def _try(self, act: Callable[[], None]) -> None:
        if self.session.is_restoring:
            return
        try:
            act()
        except AppError as error:
            # Later: the stack is in the midst of its own change.
            session, reason = self.session, error
            QTimer.singleShot(0, lambda: session.give_up_steps(reason))


def reader_of(kept: KeptStep) -> Callable[[], UndoStep]:
    """Reads a kept step when it is first wanted, once."""
    return cache(lambda: unpacked(kept.content))
