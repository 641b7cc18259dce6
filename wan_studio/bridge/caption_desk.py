"""Captions on their way to disk: written in the background, in order, and never over others' changes."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QObject, QTimer, Signal

from wan_studio.bridge.background import run_in_background
from wan_studio.bridge.clip_library import ClipLibrary
from wan_studio.bridge.project_keeper import Kept
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.project import ProjectClip
from wan_studio.errors import AppError
from wan_studio.services.caption_batch import (
    CaptionLook,
    CaptionWrite,
    Finished,
    WriteOutcome,
    finish_interrupted,
    guess_caption,
    look_at_captions,
    settle,
)
from wan_studio.services.caption_files import ExactContent, give_copies, take_copies, write_step
from wan_studio.services.caption_history import TYPED, CaptionHistory, CaptionVersion
from wan_studio.services.caption_place import CaptionPlace, place_of
from wan_studio.services.caption_store import content_of
from wan_studio.services.project_store import ProjectStore
from wan_studio.services.undo_steps import CaptionCopy

_log = logging.getLogger(__name__)
_TOLD_AT_ONCE = 100
_HELD_BACK_SECONDS = 3.0
"""News of a batch wait for its files, but not longer: threads that take turns at both take much longer for both."""


class CaptionChangedOutsideError(AppError):
    """An undone or redone step would have written over what somebody else wrote."""

    def __init__(self, names: Sequence[str]) -> None:
        first = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} other captions"
        was = "was" if len(names) == 1 else "were"
        super().__init__(
            f"{first} {was} changed by another program since that step, and so left alone.",
            "What the step would have written is among the caption's earlier versions on the Captions page.",
        )


OnWritten = Callable[[Mapping[str, "bytes | None"]], object]
"""Called on the writer's thread with what files held before that is more than text."""


@dataclass(frozen=True, slots=True)
class CaptionMove:
    """How an undo step moves captions, besides the texts.

    Attributes:
        origins: What the captions said; a file that says something else was changed outside.
        exact: Files that are to be put back byte for byte; looked at when they are written.
        is_again: Whether the step is undone or redone, and not done for the first time.
        on_written: Told when the files are written.
        reads_again: Whether the files are to be read then: their bytes may be no text that is known.
    """

    origins: Mapping[str, str]
    exact: Callable[[], Mapping[str, ExactContent]]
    is_again: bool
    on_written: OnWritten
    reads_again: bool = False


def _nothing_exact() -> Mapping[str, ExactContent]:
    return {}


@dataclass(slots=True)
class _Batch:
    """Captions that wait to be written together."""

    write: Callable[[], WriteOutcome]
    generation: int
    on_written: OnWritten | None = None
    is_again: bool = False
    reads_again: frozenset[str] = frozenset()


class CaptionDesk(QObject):
    """The one door through which captions change.

    What a clip's caption says is in the library's facts, at once; the files follow.

    Signals:
        captions_changed: Captions say something else now. arg: frozenset of clip ids
        saved_changed: Whether every caption is on disk. arg: bool
        changed_outside: A file says something else than was expected, and was left alone. arg: clip id
        write_failed: A caption could not be written. args: clip id, AppError
        batch_finished: What an earlier sitting left half written was dealt with. arg: Finished
        step_refused: An undone or redone step left captions alone. arg: AppError
    """

    captions_changed = Signal(object)
    saved_changed = Signal(bool)
    changed_outside = Signal(str)
    write_failed = Signal(str, object)
    batch_finished = Signal(object)
    step_refused = Signal(object)

    def __init__(self, session: ProjectSession, library: ClipLibrary) -> None:
        super().__init__(session)
        self._session = session
        self._library = library
        self._queue: list[_Batch] = []
        self._queue_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._unsaved: dict[str, int] = {}
        self._on_disk: dict[str, str] = {}
        self._may_hold: dict[str, tuple[str, ...]] = {}
        self._theirs: dict[str, str] = {}
        self._marks: dict[str, tuple[int, int] | None] = {}
        self._to_tell: list[str] = []
        self._tell_at_latest = 0.0
        self._is_looking = self._is_look_due = False
        self._generation = 0
        self._unbegun = 0
        self._begin_timer = QTimer(self)
        self._begin_timer.setSingleShot(True)
        self._begin_timer.timeout.connect(self._begin_writing)
        self._tell_timer = QTimer(self)
        self._tell_timer.setSingleShot(True)
        self._tell_timer.timeout.connect(self._tell_some)
        session.project_opened.connect(self._on_project_opened)
        library.clip_changed.connect(self._on_clip_changed)

    @property
    def is_saved(self) -> bool:
        """Whether every caption is on disk."""
        return not self._unsaved

    def text_of(self, clip_id: str) -> str:
        """What a clip's caption says now."""
        return self._library.facts_of(clip_id).caption or ""

    def texts_of(self, clip_ids: Sequence[str]) -> dict[str, str]:
        """The captions of those clips whose files can be read."""
        facts = self._library.facts
        known = ((clip_id, facts.get(clip_id)) for clip_id in clip_ids)
        return {clip_id: one.caption for clip_id, one in known if one is not None and one.caption is not None}

    def theirs(self, clip_id: str) -> str | None:
        """What the file says, where somebody else changed it and that is not settled yet."""
        return self._theirs.get(clip_id)

    def change(self, texts: Mapping[str, str], what: str = TYPED, move: CaptionMove | None = None) -> None:
        """Let captions say this; the files are written in the background.

        Only undo commands call this, and who tries again what could not be written.

        Args:
            texts: By clip id; clips that are not in the project any more are passed over.
            what: Names the version in the history.
            move: What an undo step knows besides.
        """
        clips = {clip.id: clip for clip in self._session.project.clips if clip.id in texts}
        wishes: list[tuple[ProjectClip, tuple[str, ...], str]] = []
        for clip_id, clip in clips.items():
            text = texts[clip_id]
            facts = self._library.facts_of(clip_id)
            now = self._on_disk.get(clip_id, facts.caption or "")
            origin = now if move is None else move.origins.get(clip_id, now)
            # Words of ours that are still under way, or failed to be written, are no change from outside.
            expected = (*self._may_hold.get(clip_id, ()), now, origin)
            if now not in (origin, texts[clip_id]) and facts.caption is not None:
                expected = (origin,)
            self._may_hold[clip_id] = expected
            wishes.append((clip, expected, text))
            if clip_id not in self._theirs:
                self._on_disk[clip_id] = text
            self._unsaved[clip_id] = self._unsaved.get(clip_id, 0) + 1
            self._library.take_caption(clip_id, text)
        exact = _nothing_exact if move is None else move.exact
        batch = _Batch(_writer(wishes, exact, self._session.store, what), self._generation)
        if move is not None:
            batch.on_written, batch.is_again = move.on_written, move.is_again
            batch.reads_again = frozenset(clips) if move.reads_again else frozenset()
        self._enqueue(batch)
        if clips:
            self._tell(list(clips))

    def move_copies(
        self, copies: Sequence[CaptionCopy], what: str, on_written: OnWritten, *, is_forward: bool
    ) -> None:
        """Give clips the captions of others, or take those away again; only undo commands call this."""
        store = self._session.store
        history = CaptionHistory(store.folder)
        move = give_copies if is_forward else take_copies
        batch = _Batch(
            lambda: move(copies, store.captions_folder, history, what), self._generation, on_written
        )
        batch.reads_again = frozenset(copy.clip_id for copy in copies)
        for clip_id in batch.reads_again:
            self._unsaved[clip_id] = self._unsaved.get(clip_id, 0) + 1
        self._enqueue(batch)

    def settle(self, clip_id: str) -> None:
        """The user has seen what others wrote: the next change may replace it."""
        theirs = self._theirs.pop(clip_id, None)
        if theirs is not None:
            self._on_disk[clip_id] = theirs

    def load_content(self, clip_id: str, on_done: Callable[[bytes], object]) -> None:
        """Read a caption's bytes in the background and hand them over."""
        place = self._place(self._session.project.clip(clip_id))
        run_in_background(
            lambda: content_of(place.now) or b"",
            on_done,
            lambda error: self.write_failed.emit(clip_id, error),
            urgent=True,
        )

    def load_versions(self, clip_id: str, on_done: Callable[[list[CaptionVersion]], object]) -> None:
        """Read a caption's earlier versions in the background and hand them over, the latest first."""
        place = self._place(self._session.project.clip(clip_id))
        history = CaptionHistory(self._session.store.folder)
        run_in_background(
            lambda: history.versions_of(place.now),
            on_done,
            lambda error: self.write_failed.emit(clip_id, error),
            urgent=True,
        )

    def load_guess(self, clip_id: str, on_done: Callable[[tuple[str, str]], object]) -> None:
        """Read a caption that is no UTF-8 as what it probably is, and hand over its text and encoding."""
        place = self._place(self._session.project.clip(clip_id))
        run_in_background(
            lambda: guess_caption(place.now),
            on_done,
            lambda error: self.write_failed.emit(clip_id, error),
            urgent=True,
        )

    def load_place(self, clip_id: str, on_done: Callable[[tuple[str, str]], object]) -> None:
        """Find out in the background where a caption is kept; hands over its path, and why it is not beside."""
        place = self._place(self._session.project.clip(clip_id))
        task = run_in_background(lambda: (str(place.now), place.note), on_done, urgent=True)
        self.destroyed.connect(task.cancel)

    def look_again(self, clip_ids: Sequence[str] | None = None) -> None:
        """See in the background whether files were changed outside; without ids, all of them.

        A caption of `clip_ids` that was changed is told by `changed_outside`; others are taken over.
        """
        if not self._session.is_open:
            return
        if self._is_looking:
            # Not forgotten: who comes back from another program looks once.
            self._is_look_due |= clip_ids is None
            return
        self._is_looking, self._is_look_due = True, self._is_look_due and clip_ids is not None
        generation = self._generation
        asked = None if clip_ids is None else frozenset(clip_ids)
        folder = self._session.store.captions_folder
        clips = [
            (clip, self._marks.get(clip.id))
            for clip in self._session.project.clips
            if (asked is None or clip.id in asked) and self._library.facts_of(clip.id).is_known
        ]

        def on_done(found: dict[str, CaptionLook]) -> None:
            self._is_looking = False
            if generation == self._generation:
                self._take_looks(found, asked or frozenset())
            if self._is_look_due:
                self.look_again()

        def on_error(error: Exception) -> None:
            self._is_looking = False
            raise error

        def work() -> dict[str, CaptionLook]:
            return look_at_captions((clip.id, place_of(clip, folder), mark) for clip, mark in clips)

        task = run_in_background(work, on_done, on_error)
        self.destroyed.connect(task.cancel)

    def save_now(self) -> None:
        """Write at once what waits, and wait for what is being written: the window closes."""
        self._session.ask_to_keep()
        while (done := self._write_next()) is not None:
            self._on_written(done)

    def _place(self, clip: ProjectClip) -> CaptionPlace:
        return place_of(clip, self._session.store.captions_folder)

    def _enqueue(self, batch: _Batch) -> None:
        with self._queue_lock:
            self._queue.append(batch)
        self.saved_changed.emit(False)  # noqa: FBT003 - a signal's value
        # Once the step stands on the undo stack: it is kept on disk before its captions are.
        self._unbegun += 1
        self._begin_timer.start(0)

    def _begin_writing(self) -> None:
        self._session.ask_to_keep()
        for _ in range(self._unbegun):
            run_in_background(self._write_next, self._on_written, saves=True)
        self._unbegun = 0

    def _write_next(self) -> tuple[_Batch, WriteOutcome, list[Kept]] | None:
        """Write the batch that waits longest; on any thread, one at a time, so that the order stays."""
        with self._write_lock:
            with self._queue_lock:
                if not self._queue:
                    return None
                batch = self._queue.pop(0)
            kept = self._session.keep()
            outcome = batch.write()
            if batch.on_written is not None:
                batch.on_written(outcome.found)
            return batch, outcome, kept

    def _on_written(self, done: tuple[_Batch, WriteOutcome, list[Kept]] | None) -> None:
        if done is None:
            return
        batch, outcome, kept = done
        self._session.take_kept(kept)
        if batch.generation != self._generation:
            return
        for clip_id in (*outcome.written, *outcome.failed, *outcome.changed_outside):
            left = self._unsaved.get(clip_id, 0) - 1
            if left > 0:
                self._unsaved[clip_id] = left
            else:
                self._unsaved.pop(clip_id, None)
        for clip_id in outcome.written:
            self._marks.pop(clip_id, None)
            if clip_id not in self._unsaved:
                self._may_hold.pop(clip_id, None)
        if batch.is_again:
            self._take_refused(outcome.changed_outside)
        else:
            for clip_id, text in outcome.changed_outside.items():
                self._note_theirs(clip_id, text)
        for clip_id, error in outcome.failed.items():
            self.write_failed.emit(clip_id, error)
        self._library.read_again(batch.reads_again - self._unsaved.keys())
        self.saved_changed.emit(self.is_saved)
        self._tell_some()

    def _take_refused(self, found: Mapping[str, str]) -> None:
        """Captions that a step left alone say what their files say."""
        for clip_id, text in found.items():
            self._may_hold.pop(clip_id, None)
            self._on_disk.pop(clip_id, None)
            if clip_id not in self._unsaved:
                self._library.take_caption(clip_id, text)
            if self._theirs.pop(clip_id, None) is not None:
                self.changed_outside.emit(clip_id)
        if found:
            self._tell(list(found))
            clips = {clip.id: Path(clip.caption_file).name for clip in self._session.project.clips}
            names = [clips[clip_id] for clip_id in found if clip_id in clips]
            if names:
                self.step_refused.emit(CaptionChangedOutsideError(names))

    def _take_looks(self, found: dict[str, CaptionLook], shown: frozenset[str]) -> None:
        taken: list[str] = []
        for clip_id, look in found.items():
            facts = self._library.facts_of(clip_id)
            if clip_id in self._unsaved or not facts.is_known:
                continue
            self._marks[clip_id] = look.mark
            before = self._on_disk.get(clip_id, facts.caption)
            if (look.text, look.problem) == (before, facts.caption_problem):
                if self._theirs.pop(clip_id, None) is not None:
                    self.changed_outside.emit(clip_id)
                continue
            if look.text is not None and clip_id in shown and facts.caption is not None:
                if look.text != self._theirs.get(clip_id):
                    self._note_theirs(clip_id, look.text)
                continue
            self._theirs.pop(clip_id, None)
            self._on_disk.pop(clip_id, None)
            self._library.take_caption(clip_id, look.text, look.problem)
            taken.append(clip_id)
        if taken:
            self._tell(taken)

    def _note_theirs(self, clip_id: str, text: str) -> None:
        self._may_hold.pop(clip_id, None)
        if text == self.text_of(clip_id):
            self._theirs.pop(clip_id, None)
            self._on_disk[clip_id] = text
        else:
            self._theirs[clip_id] = text
            self._on_disk.pop(clip_id, None)
        self.changed_outside.emit(clip_id)

    def _on_clip_changed(self, clip_id: str) -> None:
        """The library may have read a file before our words were in it."""
        if clip_id in self._unsaved and clip_id in self._on_disk:
            if self.text_of(clip_id) != self._on_disk[clip_id]:
                self._library.take_caption(clip_id, self._on_disk[clip_id])
        elif clip_id not in self._theirs and clip_id not in self._may_hold:
            self._on_disk.pop(clip_id, None)

    def _tell(self, clip_ids: list[str]) -> None:
        """Tell of changes: at once in one word, and one by one, some at a time, to who listens to the library."""
        self.captions_changed.emit(frozenset(clip_ids))
        self._to_tell += clip_ids
        self._tell_at_latest = time.monotonic() + _HELD_BACK_SECONDS
        self._tell_some()

    def _tell_some(self) -> None:
        if len(self._unsaved) > _TOLD_AT_ONCE and time.monotonic() < self._tell_at_latest:
            self._tell_timer.start(round(1000 * _HELD_BACK_SECONDS))
            return
        now, self._to_tell = self._to_tell[:_TOLD_AT_ONCE], self._to_tell[_TOLD_AT_ONCE:]
        self._library.tell(now)
        if self._to_tell:
            self._tell_timer.start(5)

    def _on_project_opened(self) -> None:
        """Another project: what waits is still written, its outcome is told to nobody."""
        self._generation += 1
        for known in (self._unsaved, self._on_disk, self._may_hold, self._theirs, self._marks, self._to_tell):
            known.clear()
        if self._session.is_open:
            self._finish_interrupted()

    def _finish_interrupted(self) -> None:
        """Write what a batch left unwritten when the program ended in its midst."""
        history, generation = CaptionHistory(self._session.store.folder), self._generation

        def work() -> Finished:
            with self._write_lock:
                return finish_interrupted(history)

        def on_done(found: Finished) -> None:
            if generation != self._generation or not (found.written or found.left):
                return
            self._library.look_again()
            self.batch_finished.emit(found)

        def on_error(error: Exception) -> None:
            _log.warning("An interrupted batch of captions could not be looked for: %s", error)

        run_in_background(work, on_done, on_error, urgent=True)


def _writer(
    wishes: Sequence[tuple[ProjectClip, tuple[str, ...], str]],
    exact: Callable[[], Mapping[str, ExactContent]],
    store: ProjectStore,
    what: str,
) -> Callable[[], WriteOutcome]:
    """What writes captions, on another thread: finding their places touches the disk.

    Args:
        wishes: Clips, the texts that their files may hold, the new texts.
        exact: Files that are to be put back byte for byte.
        store: The project's files.
        what: Names the version in the history.
    """
    folder, history = store.captions_folder, CaptionHistory(store.folder)

    def write() -> WriteOutcome:
        places = [place_of(clip, folder) for clip, _, _ in wishes]
        writes = [
            CaptionWrite(clip.id, place.beside, expected, text, place)
            for (clip, expected, text), place in zip(wishes, places, strict=True)
        ]
        outcome = write_step(writes, exact(), history, what)
        if outcome.batch:
            paths = [path for place in places for path in (place.beside, place.kept)]
            run_in_background(lambda: settle(history, outcome.batch, paths), lambda _: None)
        return outcome

    return write
