"""Edits of captions as undo commands: one step for a batch of any size, one for what is typed in one go."""

import time
from collections.abc import Mapping

from PySide6.QtGui import QUndoCommand

from wan_studio.bridge.caption_desk import CaptionDesk
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.services.caption_history import TYPED

_TYPING_ID = 2
_ONE_GO_SECONDS = 3.0


class CaptionEdit(QUndoCommand):
    """One named step from some captions to others."""

    def __init__(self, desk: CaptionDesk, text: str, after: Mapping[str, str], *, is_typing: bool) -> None:
        super().__init__(text)
        self._desk = desk
        self._before = desk.texts_of(tuple(after))
        self._what = TYPED if is_typing else text
        self.after = dict(after)
        self.is_typing = is_typing
        self.typed_at = time.monotonic()

    def id(self) -> int:
        """What is typed may become one step with what was typed before."""
        return _TYPING_ID if self.is_typing else -1

    def mergeWith(self, other: QUndoCommand) -> bool:  # noqa: N802 - Qt's name
        """Take in what was typed next into the same caption, without a pause."""
        if not isinstance(other, CaptionEdit) or other.after.keys() != self.after.keys():
            return False
        if other.typed_at - self.typed_at > _ONE_GO_SECONDS:
            return False
        self.after, self.typed_at = other.after, other.typed_at
        return True

    def redo(self) -> None:
        """Apply it."""
        self._desk.change(self.after, self._what)

    def undo(self) -> None:
        """Take it back."""
        self._desk.change(self._before, f"Undo: {self.text()}")


def edit_captions(
    session: ProjectSession,
    desk: CaptionDesk,
    text: str,
    after: Mapping[str, str],
    *,
    is_typing: bool = False,
) -> int:
    """Change captions in one undoable step; returns how many it changes.

    Args:
        session: Where the project is open.
        desk: Writes them.
        text: What the Edit menu calls the step, e.g. "Replace in 312 captions".
        after: What they are to say, by clip id; those that say it and those that cannot be read are left out.
        is_typing: Whether it becomes one step with what was typed right before.
    """
    now = desk.texts_of(tuple(after))
    changed = {clip_id: after[clip_id] for clip_id, before in now.items() if before != after[clip_id]}
    if changed:
        session.undo_stack.push(CaptionEdit(desk, text, changed, is_typing=is_typing))
    return len(changed)
