"""Looks for clips that show the same, in the background, whenever there is something new to compare."""

from collections.abc import Mapping

from PySide6.QtCore import QObject, QTimer

from wan_studio.bridge.background import run_in_background
from wan_studio.bridge.clip_index import ClipIndex
from wan_studio.bridge.clip_library import ClipLibrary
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.clip_record import Candidate, DuplicateMark

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
        project = self._session.project
        candidates = tuple(self._candidates())
        if candidates == self._compared:
            return
        self._compared = candidates
        self._is_at_work = True

        def on_done(marks: Mapping[str, DuplicateMark]) -> None:
            self._is_at_work = False
            if self._session.is_open and self._session.project.name == project.name:
                self._index.set_marks(marks)

        task = run_in_background(lambda: _found(candidates), on_done)
        self.destroyed.connect(task.cancel)

    def _candidates(self) -> list[Candidate]:
        candidates: list[Candidate] = []
        for clip in self._session.project.clips:
            facts = self._library.facts_of(clip.id)
            if clip.rejected or facts.source is None or facts.look is None:
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
            candidates.append(Candidate(clip.id, clip.source, seconds, facts.look, worth))
        return candidates


def _found(candidates: tuple[Candidate, ...]) -> Mapping[str, DuplicateMark]:
    # numpy is imported by the thread that needs it: the window is there before.
    from wan_studio.services.duplicates import find_duplicates

    return find_duplicates(candidates)
