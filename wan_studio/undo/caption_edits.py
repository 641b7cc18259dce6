"""Edits of captions as undo commands: one step for a batch of any size, one for what is typed in one go."""

import time
from collections.abc import Callable, Mapping

import msgspec
from PySide6.QtGui import QUndoCommand

from wan_studio.bridge.caption_desk import CaptionDesk, CaptionMove
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.services.caption_files import ExactContent, exact_of
from wan_studio.services.caption_history import TYPED
from wan_studio.services.caption_store import with_plain_line_ends
from wan_studio.services.undo_log import KeptStep
from wan_studio.services.undo_steps import CaptionStep, UndoStep, packed
from wan_studio.undo.caption_confirm import confirmer
from wan_studio.undo.step import ONE_GO_SECONDS, KeepableStep, reader_of

_TYPING_ID = 2


class CaptionEdit(KeepableStep):
    """One named step from some captions to others."""

    kind = "captions"

    def __init__(
        self,
        session: ProjectSession,
        desk: CaptionDesk,
        text: str,
        read: Callable[[], UndoStep],
        *,
        serial: int = 0,
        is_typing: bool = False,
    ) -> None:
        """Make it.

        Args:
            session: Where the project is open.
            desk: Writes captions.
            text: What the Edit menu calls it.
            read: Hands over what it does, when that is wanted.
            serial: Its number where it was kept before.
            is_typing: Whether it becomes one step with what was typed right before.
        """
        super().__init__(session, text, serial)
        self._desk = desk
        self._read = read
        self._is_done = bool(serial)
        self.is_typing = is_typing
        self.typed_at = time.monotonic()

    @property
    def step(self) -> CaptionStep:
        """What it does."""
        step = self._read()
        assert isinstance(step, CaptionStep)
        return step

    def id(self) -> int:
        """What is typed may become one step with what was typed before."""
        return _TYPING_ID if self.is_typing else -1

    def mergeWith(self, other: QUndoCommand) -> bool:  # noqa: N802 - Qt's name
        """Take in what was typed next into the same caption, without a pause."""
        if not isinstance(other, CaptionEdit) or other.step.after.keys() != self.step.after.keys():
            return False
        if other.typed_at - self.typed_at > ONE_GO_SECONDS:
            return False
        merged = msgspec.structs.replace(self.step, after=other.step.after)
        self._read = lambda: merged
        self.typed_at = other.typed_at
        self.mark.version += 1
        other.mark.into = self.mark
        return True

    def apply(self) -> None:
        """Let the captions say what they said after it."""
        step = self.step
        self._move(step.after, step.before, step.what, is_forward=True)
        self._is_done = True

    def take_back(self) -> None:
        """Let them say what they said before it."""
        step = self.step
        self._move(step.before, step.after, f"Undo: {self.text()}", is_forward=False)

    def recorder(self) -> Callable[[], bytes]:
        """Makes its content as it is when it is kept."""
        step = self.step
        return lambda: packed(step)

    def _move(
        self, texts: Mapping[str, str], origins: Mapping[str, str], what: str, *, is_forward: bool
    ) -> None:
        step, mark = self.step, self.mark
        confirm = confirmer(self.session, mark, is_forward=is_forward)

        def exact() -> dict[str, ExactContent]:
            return exact_of(step, is_forward=is_forward)

        def on_written(found: Mapping[str, bytes | None]) -> None:
            is_news = is_forward and not step.written and dict(found) != step.found
            if is_news:
                step.found.clear()
                step.found.update(found)
            # A step that another one took in has nothing of its own to keep.
            confirm(packed(self.step) if is_news and mark.into is None else None)

        self.session.journal.note_captions(mark, is_forward=is_forward)
        self._desk.change(
            texts, what, CaptionMove(origins, exact, self._is_done, on_written, bool(step.written))
        )


def kept_caption_edit(session: ProjectSession, desk: CaptionDesk, kept: KeptStep) -> CaptionEdit:
    """The command of an earlier sitting."""
    return CaptionEdit(session, desk, kept.name, reader_of(kept), serial=kept.serial)


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
    before = {clip_id: said for clip_id, said in now.items() if said != after[clip_id]}
    if before:
        changed = {clip_id: after[clip_id] for clip_id in before}
        step = CaptionStep(before, changed, TYPED if is_typing else text, {}, {})
        session.undo_stack.push(CaptionEdit(session, desk, text, lambda: step, is_typing=is_typing))
    return len(before)


def keep_over_outside(
    session: ProjectSession, desk: CaptionDesk, text: str, clip_id: str, theirs: str, mine: str
) -> None:
    """Write a caption over what somebody else wrote, in one undoable step.

    Args:
        session: Where the project is open.
        desk: Writes it.
        text: What the Edit menu calls the step.
        clip_id: Of the clip.
        theirs: What the file says.
        mine: What it is to say.
    """
    step = CaptionStep({clip_id: theirs}, {clip_id: mine}, text, {}, {})
    session.undo_stack.push(CaptionEdit(session, desk, text, lambda: step))


def convert_caption(
    session: ProjectSession, desk: CaptionDesk, text: str, clip_id: str, content: bytes, encoding: str
) -> None:
    """Write a caption of another encoding anew as UTF-8, in one undoable step that brings its bytes back.

    Args:
        session: Where the project is open.
        desk: Writes it.
        text: What the Edit menu calls the step.
        clip_id: Of the clip.
        content: The file as it stands.
        encoding: Of it; Python's name.

    Raises:
        UnicodeDecodeError: the bytes are not of this encoding.
    """
    decoded = content.decode(encoding)
    said = with_plain_line_ends(decoded)
    step = CaptionStep(
        {clip_id: said}, {clip_id: said}, text, {clip_id: content}, {clip_id: decoded.encode()}
    )
    session.undo_stack.push(CaptionEdit(session, desk, text, lambda: step))
