"""Edits of the project as undo commands: each knows the project before and after it."""

import time
from collections.abc import Callable, Sequence

from PySide6.QtGui import QUndoCommand

from wan_studio.bridge.caption_desk import CaptionDesk
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.project import Project
from wan_studio.domain.project_delta import delta_between, with_delta
from wan_studio.services.undo_log import KeptStep
from wan_studio.services.undo_steps import CaptionCopy, ProjectStep, packed
from wan_studio.undo.caption_confirm import confirmer
from wan_studio.undo.step import ONE_GO_SECONDS, KeepableStep, reader_of

_MERGING_ID = 1


class ProjectEdit(KeepableStep):
    """One named step from a project value to another.

    Projects are immutable values that share their unchanged parts, so keeping both costs little.
    """

    kind = "project"

    def __init__(self, session: ProjectSession, text: str, after: Project, merge_key: str = "") -> None:
        super().__init__(session, text)
        self._before = session.project
        self.after = after
        self.merge_key = merge_key
        self._made_at = time.monotonic()

    def id(self) -> int:
        """Commands with a merge key may become one step."""
        return _MERGING_ID if self.merge_key else -1

    def mergeWith(self, other: QUndoCommand) -> bool:  # noqa: N802 - Qt's name
        """Take an edit of the same thing that follows without a pause into this one, e.g. the next letter."""
        if not isinstance(other, ProjectEdit) or other.merge_key != self.merge_key:
            return False
        if other._made_at - self._made_at > ONE_GO_SECONDS:  # noqa: SLF001 - of the same class
            return False
        self.after, self._made_at = other.after, other._made_at  # noqa: SLF001
        self.mark.version += 1
        other.mark.into = self.mark
        return True

    def apply(self) -> None:
        """Set the project as it was after it."""
        self.session.set_project(self.after)

    def take_back(self) -> None:
        """Set the project as it was before it."""
        self.session.set_project(self._before)

    def recorder(self) -> Callable[[], bytes]:
        """Makes the difference both ways."""
        before, after, copies = self._before, self.after, self._copies()
        return lambda: packed(ProjectStep(delta_between(before, after), delta_between(after, before), copies))

    def _copies(self) -> tuple[CaptionCopy, ...]:
        return ()


class SplitEdit(ProjectEdit):
    """A step that makes further clips, whose captions come and go with it."""

    def __init__(
        self,
        session: ProjectSession,
        desk: CaptionDesk,
        text: str,
        after: Project,
        copies: Sequence[CaptionCopy],
    ) -> None:
        super().__init__(session, text, after)
        self._desk = desk
        self._given = tuple(copies)

    def apply(self) -> None:
        """Make the clips, then their captions."""
        super().apply()
        move_copies(self, self._desk, self._given, is_forward=True)

    def take_back(self) -> None:
        """Take the captions away into the history, then the clips."""
        move_copies(self, self._desk, self._given, is_forward=False)
        super().take_back()

    def _copies(self) -> tuple[CaptionCopy, ...]:
        return self._given


class KeptProjectEdit(KeepableStep):
    """The same of an earlier sitting: it knows the difference alone."""

    kind = "project"

    def __init__(self, session: ProjectSession, desk: CaptionDesk, kept: KeptStep) -> None:
        super().__init__(session, kept.name, kept.serial)
        self._desk = desk
        self._read = reader_of(kept)
        self._content = kept.content

    def apply(self) -> None:
        """Do what the step did."""
        step = self._step()
        self.session.set_project(with_delta(self.session.project, step.forward))
        move_copies(self, self._desk, step.copies, is_forward=True)

    def take_back(self) -> None:
        """Take back what it did."""
        step = self._step()
        before = with_delta(self.session.project, step.back)
        move_copies(self, self._desk, step.copies, is_forward=False)
        self.session.set_project(before)

    def recorder(self) -> Callable[[], bytes]:
        """It is as it was kept."""
        return lambda: self._content

    def _step(self) -> ProjectStep:
        step = self._read()
        assert isinstance(step, ProjectStep)
        return step


def move_copies(
    command: KeepableStep, desk: CaptionDesk, copies: Sequence[CaptionCopy], *, is_forward: bool
) -> None:
    """Let captions come or go with a step."""
    if copies:
        what = command.text() if is_forward else f"Undo: {command.text()}"
        command.session.journal.note_captions(command.mark, is_forward=is_forward)
        confirm = confirmer(command.session, command.mark, is_forward=is_forward)
        desk.move_copies(copies, what, lambda _: confirm(None), is_forward=is_forward)


def edit_project(session: ProjectSession, text: str, after: Project, merge_key: str = "") -> None:
    """Change the project in one undoable step.

    Args:
        session: Where the project is open.
        text: What the Edit menu calls the step, e.g. "Set in point".
        after: The changed project; an equal one changes nothing.
        merge_key: Steps that follow each other with the same key, without a pause, become one.
    """
    if after != session.project:
        session.undo_stack.push(ProjectEdit(session, text, after, merge_key))


def split_clips(
    session: ProjectSession, desk: CaptionDesk, text: str, after: Project, copies: Sequence[CaptionCopy]
) -> None:
    """Change the project in one undoable step in which new clips get the captions of others.

    Args:
        session: Where the project is open.
        desk: Writes captions.
        text: What the Edit menu calls the step.
        after: The project with the new clips.
        copies: Their captions.
    """
    session.undo_stack.push(SplitEdit(session, desk, text, after, copies))
