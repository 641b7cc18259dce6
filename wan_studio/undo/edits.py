"""Edits of the project as undo commands: each knows the project before and after it."""

from PySide6.QtGui import QUndoCommand

from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.project import Project

_MERGING_ID = 1


class ProjectEdit(QUndoCommand):
    """One named step from a project value to another.

    Projects are immutable values that share their unchanged parts, so keeping both costs little.
    """

    def __init__(self, session: ProjectSession, text: str, after: Project, merge_key: str = "") -> None:
        super().__init__(text)
        self._session = session
        self._before = session.project
        self.after = after
        self.merge_key = merge_key

    def id(self) -> int:
        """Commands with a merge key may become one step."""
        return _MERGING_ID if self.merge_key else -1

    def mergeWith(self, other: QUndoCommand) -> bool:  # noqa: N802 - Qt's name
        """Take a following edit of the same thing into this one, e.g. the next letter of a name."""
        if not isinstance(other, ProjectEdit) or other.merge_key != self.merge_key:
            return False
        self.after = other.after
        return True

    def redo(self) -> None:
        """Apply it."""
        self._session.set_project(self.after)

    def undo(self) -> None:
        """Take it back."""
        self._session.set_project(self._before)


def edit_project(session: ProjectSession, text: str, after: Project, merge_key: str = "") -> None:
    """Change the project in one undoable step.

    Args:
        session: Where the project is open.
        text: What the Edit menu calls the step, e.g. "Set in point".
        after: The changed project; an equal one changes nothing.
        merge_key: Steps that follow each other with the same key become one.
    """
    if after != session.project:
        session.undo_stack.push(ProjectEdit(session, text, after, merge_key))
