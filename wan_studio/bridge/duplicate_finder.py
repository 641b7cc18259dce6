"""Looks for clips that show the same, in the background, whenever there is something new to compare."""

from collections.abc import Iterable, Iterator, Mapping

from PySide6.QtCore import QObject, QTimer

from wan_studio.bridge.background import run_in_background
from wan_studio.bridge.clip_index import ClipIndex
from wan_studio.bridge.clip_library import ClipLibrary
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.checks import ClipFacts
from wan_studio.domain.clip_record import Candidate, DuplicateMark
from wan_studio.domain.project import ProjectClip

_AFTER_MILLISECONDS = 700


class DuplicateFinder(QObject):
    """Keeps the index's marks up to date."""

    def __init__(self, session: ProjectSession, library: ClipLibrary, index: ClipIndex) -> None:
        super().__init__(index)
        self._session = session
        self._library = library
        self._index = index
        self._is_at_work = False
        self._compared: tuple[Candidate, ...] = ()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_AFTER_MILLISECONDS)
        self._timer.timeout.connect(self._compare)
        session.project_changed.connect(self._renew)
        library.clips_changed.connect(self._renew)

    def _renew(self) -> None:
        if not self._timer.isActive():
            self._timer.start()

    def _compare(self) -> None:
        if self._is_at_work or not self._session.is_open:
            if self._is_at_work:
                self._timer.start()
            return
        project, facts, compared = self._session.project, dict(self._library.facts), self._compared
        self._is_at_work = True

        def work() -> tuple[tuple[Candidate, ...], Mapping[str, DuplicateMark] | None]:
            candidates = tuple(_candidates(project.clips, facts))
            return candidates, None if candidates == compared else _found(candidates)

        def on_done(found: tuple[tuple[Candidate, ...], Mapping[str, DuplicateMark] | None]) -> None:
            self._is_at_work = False
            self._compared, marks = found
            if marks is not None and self._session.is_open and self._session.project.name == project.name:
                self._index.set_marks(marks)

        task = run_in_background(work, on_done)
        self.destroyed.connect(task.cancel)


def _candidates(clips: Iterable[ProjectClip], known: Mapping[str, ClipFacts]) -> Iterator[Candidate]:
    for clip in clips:
        facts = known.get(clip.id)
        if clip.rejected or facts is None or facts.source is None or facts.look is None:
            continue
        source = facts.source
        worth = (
            float(clip.rating),
            float(bool((facts.caption or "").strip())),
            float(clip.trim is not None),
            float(source.width * source.height),
            float(source.size_bytes),
        )
        seconds = source.seconds_at(source.frame_count - 1)
        yield Candidate(clip.id, clip.source, seconds, facts.look, worth)


def _found(candidates: tuple[Candidate, ...]) -> Mapping[str, DuplicateMark]:
    # numpy is imported by the thread that needs it: the window is there before.
    from wan_studio.services.duplicates import find_duplicates

    return find_duplicates(candidates)
