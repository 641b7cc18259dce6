"""The open project's clips as records that can be searched, kept up to date in short slices of time."""

import time
from collections.abc import Mapping

from PySide6.QtCore import QObject, QTimer, Signal

from wan_studio.bridge.clip_library import ClipLibrary
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.checks import ClipFacts, Problem
from wan_studio.domain.clip_names import shared_sources
from wan_studio.domain.clip_record import ClipRecord, DuplicateMark, make_record
from wan_studio.domain.project import Project, ProjectClip

_SLICE_SECONDS = 0.006
_TELL_EVERY_SECONDS = 0.15
_AT_ONCE = 12
"""So few are worked out at once: an edit of a clip shows in the same moment."""

_Made = tuple[ProjectClip, ClipFacts, DuplicateMark | None]


class ClipIndex(QObject):
    """One record a clip.

    A record is made anew only when its clip, its facts or the settings that judge it are other ones.

    Signals:
        order_changed: Other clips are in the project, or in another order.
        records_changed: Some records are other ones. arg: frozenset of clip ids
    """

    order_changed = Signal()
    records_changed = Signal(object)

    def __init__(self, session: ProjectSession, library: ClipLibrary) -> None:
        super().__init__(library)
        self._session = session
        self._library = library
        self._records: dict[str, ClipRecord] = {}
        self._made: dict[str, _Made] = {}
        self._clips: dict[str, ProjectClip] = {}
        self._marks: Mapping[str, DuplicateMark] = {}
        self._judged_by: tuple[object, ...] = ()
        self._shared: frozenset[str] = frozenset()
        self._stale: dict[str, None] = {}
        self._untold: set[str] = set()
        self._told_at = 0.0
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._work)
        library.judge = self
        self.records_changed.connect(library.problems_changed)
        session.project_opened.connect(self._forget)
        session.project_changed.connect(self._on_project_changed)
        library.clips_changed.connect(self._on_clips_changed)

    @property
    def records(self) -> list[ClipRecord]:
        """Of all clips in the project's order."""
        return list(self._records.values())

    @property
    def is_settled(self) -> bool:
        """Whether nothing is still to be worked out."""
        return not self._stale

    @property
    def marks(self) -> Mapping[str, DuplicateMark]:
        """The clips that show what others show."""
        return self._marks

    def record(self, clip_id: str) -> ClipRecord | None:
        """The clip's record."""
        return self._records.get(clip_id)

    def problems_of(self, clip_id: str) -> tuple[Problem, ...]:
        """What stands in a clip's way, worst first."""
        record = self._records.get(clip_id)
        return () if record is None else record.problems

    @property
    def problems(self) -> dict[str, tuple[Problem, ...]]:
        """The same of all clips."""
        return {clip_id: record.problems for clip_id, record in self._records.items()}

    def set_marks(self, marks: Mapping[str, DuplicateMark]) -> None:
        """Take what was found out about duplicates."""
        old, self._marks = self._marks, marks
        self._make_stale(
            clip_id for clip_id in {*old, *marks} if old.get(clip_id) != marks.get(clip_id)
        )  # fmt: skip

    def _forget(self) -> None:
        self._records.clear()
        self._made.clear()
        self._clips.clear()
        self._stale.clear()
        self._untold.clear()
        self._marks = {}

    def _on_project_changed(self) -> None:
        if not self._session.is_open:
            return
        project = self._session.project
        judged_by = (project.settings.datasets, project.extra_datasets, project.trigger)
        is_judged_anew = any(
            new is not old for new, old in zip(judged_by, self._judged_by or (None,) * 3, strict=True)
        )
        self._judged_by = judged_by
        if is_judged_anew:
            self._made.clear()
        clips = {clip.id: clip for clip in project.clips}
        shared = shared_sources(project)
        renamed, self._shared = shared ^ self._shared, shared
        for clip_id in [one.id for one in project.clips if renamed and one.source in renamed]:
            self._made.pop(clip_id, None)
        is_reordered = list(clips) != list(self._clips)
        old_clips, self._clips = self._clips, clips
        if is_reordered:
            self._records = {
                clip_id: self._records.get(clip_id) or _unknown(clip) for clip_id, clip in clips.items()
            }
            self._made = {clip_id: made for clip_id, made in self._made.items() if clip_id in clips}
        self._make_stale(
            clip_id
            for clip_id, clip in clips.items()
            if is_judged_anew or old_clips.get(clip_id) is not clip or clip.source in renamed
        )
        if is_reordered:
            self.order_changed.emit()

    def _on_clips_changed(self, clip_ids: frozenset[str]) -> None:
        self._make_stale(clip_id for clip_id in clip_ids if clip_id in self._clips)

    def _make_stale(self, clip_ids: object) -> None:
        self._stale.update(dict.fromkeys(clip_ids))  # type: ignore[arg-type]
        if len(self._stale) <= _AT_ONCE:
            self._work()
        elif not self._timer.isActive():
            self._timer.start()

    def _work(self) -> None:
        if not self._session.is_open:
            return
        project = self._session.project
        end = time.perf_counter() + _SLICE_SECONDS
        while self._stale and time.perf_counter() < end:
            clip_id = next(iter(self._stale))
            del self._stale[clip_id]
            if self._renew(project, clip_id):
                self._untold.add(clip_id)
        now = time.perf_counter()
        if self._untold and (not self._stale or now - self._told_at > _TELL_EVERY_SECONDS):
            told, self._untold, self._told_at = frozenset(self._untold), set(), now
            self.records_changed.emit(told)
        if self._stale:
            self._timer.start()

    def _renew(self, project: Project, clip_id: str) -> bool:
        clip = self._clips.get(clip_id)
        if clip is None:
            return False
        made = (clip, self._library.facts_of(clip_id), self._marks.get(clip_id))
        old = self._made.get(clip_id)
        if old is not None and all(new is before for new, before in zip(made, old, strict=True)):
            return False
        self._made[clip_id] = made
        record = make_record(project, *made, is_shared=clip.source in self._shared)
        is_new = record != self._records.get(clip_id)
        self._records[clip_id] = record
        return is_new


def _unknown(clip: ProjectClip) -> ClipRecord:
    """A clip of which only its name is known yet: rows are there before anything is looked at."""
    return ClipRecord(
        id=clip.id,
        name=clip.name,
        label=clip.name,
        source=clip.source,
        text=f"{clip.title}\n{clip.file_name}".casefold(),
        dataset=clip.dataset,
        rating=clip.rating,
        rejected=clip.rejected,
        traits=frozenset({"unknown"}),
    )
