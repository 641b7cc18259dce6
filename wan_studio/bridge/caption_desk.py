"""Captions on their way to disk: written in the background, in order, and never over others' changes."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from PySide6.QtCore import QObject, QTimer, Signal

from wan_studio.bridge.background import run_in_background
from wan_studio.bridge.clip_library import ClipLibrary
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.project import ProjectClip
from wan_studio.services.caption_batch import (
    CaptionLook,
    CaptionWrite,
    WriteOutcome,
    convert_to_utf_8,
    guess_caption,
    look_at_captions,
    write_captions,
)
from wan_studio.services.caption_history import TYPED, CaptionHistory, CaptionVersion
from wan_studio.services.caption_place import CaptionPlace, place_of

_TOLD_AT_ONCE = 100


@dataclass(slots=True)
class _Batch:
    """Captions that wait to be written together."""

    writes: dict[str, CaptionWrite]
    what: str
    history: CaptionHistory
    generation: int


class CaptionDesk(QObject):
    """The one door through which captions change.

    What a clip's caption says is in the library's facts, at once; the files follow.

    Signals:
        captions_changed: Captions say something else now. arg: frozenset of clip ids
        saved_changed: Whether every caption is on disk. arg: bool
        changed_outside: A file says something else than was expected, and was left alone. arg: clip id
        write_failed: A caption could not be written. args: clip id, AppError
    """

    captions_changed = Signal(object)
    saved_changed = Signal(bool)
    changed_outside = Signal(str)
    write_failed = Signal(str, object)

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
        self._is_looking = self._wants_all = False
        self._generation = 0
        self._tell_timer = QTimer(self)
        self._tell_timer.setSingleShot(True)
        self._tell_timer.timeout.connect(self._tell_some)
        session.project_opened.connect(self._forget)
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

    def change(self, texts: Mapping[str, str], what: str = TYPED) -> None:
        """Let captions say this; the files are written in the background.

        Only undo commands call this.

        Args:
            texts: By clip id; clips that are not in the project any more are passed over.
            what: Names the version in the history.
        """
        clips = {clip.id: clip for clip in self._session.project.clips if clip.id in texts}
        batch = _Batch({}, what, CaptionHistory(self._session.store.folder), self._generation)
        for clip_id, clip in clips.items():
            facts = self._library.facts_of(clip_id)
            # Words of ours that are still under way, or failed to be written, are no change from outside.
            expected = (*self._may_hold.get(clip_id, ()), self._on_disk.get(clip_id, facts.caption or ""))
            self._may_hold[clip_id] = expected
            place = self._place(clip)
            batch.writes[clip_id] = CaptionWrite(clip_id, place.beside, expected, texts[clip_id], place)
            if clip_id not in self._theirs:
                self._on_disk[clip_id] = texts[clip_id]
            self._unsaved[clip_id] = self._unsaved.get(clip_id, 0) + 1
            self._library.take_caption(clip_id, texts[clip_id])
        if not clips:
            return
        with self._queue_lock:
            self._queue.append(batch)
        self._tell(frozenset(clips))
        self.saved_changed.emit(False)  # noqa: FBT003 - a signal's value
        run_in_background(self._write_next, self._on_written, urgent=True)

    def settle(self, clip_id: str) -> None:
        """The user has seen what others wrote: the next change may replace it."""
        theirs = self._theirs.pop(clip_id, None)
        if theirs is not None:
            self._on_disk[clip_id] = theirs

    def convert(self, clip_id: str, encoding: str) -> None:
        """Write a caption of another encoding anew as UTF-8; its bytes are kept in the history."""
        place = self._place(self._session.project.clip(clip_id))
        history = CaptionHistory(self._session.store.folder)

        def work() -> str:
            with self._write_lock:
                return convert_to_utf_8(place, encoding, history)

        def on_done(text: str) -> None:
            self._on_disk[clip_id] = text
            self._library.take_caption(clip_id, text)
            self._tell(frozenset((clip_id,)))

        run_in_background(work, on_done, lambda error: self.write_failed.emit(clip_id, error), urgent=True)

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
            self._wants_all = self._wants_all or clip_ids is None
            return
        self._is_looking = True
        generation = self._generation
        asked = None if clip_ids is None else frozenset(clip_ids)
        files = [
            (clip.id, self._place(clip), self._marks.get(clip.id))
            for clip in self._session.project.clips
            if (asked is None or clip.id in asked) and self._library.facts_of(clip.id).is_known
        ]

        def on_done(found: dict[str, CaptionLook]) -> None:
            self._is_looking = False
            if generation == self._generation:
                self._take_looks(found, asked or frozenset())
            if self._wants_all:
                self._wants_all = False
                self.look_again()

        def on_error(error: Exception) -> None:
            self._is_looking = False
            raise error

        task = run_in_background(lambda: look_at_captions(files), on_done, on_error)
        self.destroyed.connect(task.cancel)

    def save_now(self) -> None:
        """Write at once what waits, and wait for what is being written: the window closes."""
        while (done := self._write_next()) is not None:
            self._on_written(done)

    def _place(self, clip: ProjectClip) -> CaptionPlace:
        return place_of(clip, self._session.store.captions_folder)

    def _write_next(self) -> tuple[int, WriteOutcome] | None:
        """Write the batch that waits longest; on any thread, one at a time, so that the order stays."""
        with self._write_lock:
            with self._queue_lock:
                if not self._queue:
                    return None
                batch = self._queue.pop(0)
            return batch.generation, write_captions(tuple(batch.writes.values()), batch.history, batch.what)

    def _on_written(self, done: tuple[int, WriteOutcome] | None) -> None:
        if done is None or done[0] != self._generation:
            return
        outcome = done[1]
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
        for clip_id, text in outcome.changed_outside.items():
            self._note_theirs(clip_id, text)
        for clip_id, error in outcome.failed.items():
            self.write_failed.emit(clip_id, error)
        self.saved_changed.emit(self.is_saved)

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
            self._tell(frozenset(taken))

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

    def _tell(self, clip_ids: frozenset[str]) -> None:
        """Tell of changes: at once in one word, and one by one, some at a time, to who listens to the library."""
        self.captions_changed.emit(clip_ids)
        self._to_tell += clip_ids
        self._tell_some()

    def _tell_some(self) -> None:
        now, self._to_tell = self._to_tell[:_TOLD_AT_ONCE], self._to_tell[_TOLD_AT_ONCE:]
        self._library.tell(now)
        if self._to_tell:
            self._tell_timer.start(5)

    def _forget(self) -> None:
        """Another project: what waits is still written, its outcome is told to nobody."""
        self._generation += 1
        for known in (self._unsaved, self._on_disk, self._may_hold, self._theirs, self._marks, self._to_tell):
            known.clear()
