"""The project's clips as a list for views."""

from enum import IntEnum
from typing import Any

from PySide6.QtCore import QAbstractListModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from wan_studio.bridge.clip_library import ClipLibrary
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.clip_names import clip_label, shared_sources
from wan_studio.domain.project import ProjectClip

_MANY = 64
AnyIndex = QModelIndex | QPersistentModelIndex


class ClipRole(IntEnum):
    """What a clip can be asked for besides its name."""

    ID = Qt.ItemDataRole.UserRole
    CLIP = Qt.ItemDataRole.UserRole + 1
    SOURCE = Qt.ItemDataRole.UserRole + 2
    PROBLEMS = Qt.ItemDataRole.UserRole + 3
    POSTER = Qt.ItemDataRole.UserRole + 4
    CAPTION = Qt.ItemDataRole.UserRole + 5
    REJECTED = Qt.ItemDataRole.UserRole + 6
    STRIP = Qt.ItemDataRole.UserRole + 8


class ClipListModel(QAbstractListModel):
    """One row a clip, in the project's order; `data` is a lookup."""

    def __init__(self, session: ProjectSession, library: ClipLibrary, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._library = library
        self._clips: tuple[ProjectClip, ...] = ()
        self._rows: dict[str, int] = {}
        self._shared: frozenset[str] = frozenset()
        session.project_opened.connect(self._refresh)
        session.project_changed.connect(self._refresh)
        library.clips_changed.connect(self._on_clips_changed)
        library.problems_changed.connect(self._on_clips_changed)
        self._refresh()

    def rowCount(self, parent: AnyIndex | None = None) -> int:
        """Clips; a clip has no children."""
        return 0 if parent is not None and parent.isValid() else len(self._clips)

    def row_of(self, clip_id: str) -> int:
        """The clip's row, or -1."""
        return self._rows.get(clip_id, -1)

    def data(self, index: AnyIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """What is known of the clip."""
        if not index.isValid() or index.row() >= len(self._clips):
            return None
        clip = self._clips[index.row()]
        match role:
            case Qt.ItemDataRole.DisplayRole | Qt.ItemDataRole.AccessibleTextRole:
                is_shared = clip.source in self._shared
                return clip_label(clip, self._library.source_of(clip.id), is_shared=is_shared)
            case Qt.ItemDataRole.ToolTipRole:
                problems = self._library.problems_of(clip.id)
                return "\n".join([clip.source, *(problem.text for problem in problems)])
            case ClipRole.ID:
                return clip.id
            case ClipRole.CLIP:
                return clip
            case ClipRole.SOURCE:
                return self._library.source_of(clip.id)
            case ClipRole.PROBLEMS:
                return self._library.problems_of(clip.id)
            case ClipRole.POSTER:
                return self._library.poster_of(clip.id)
            case ClipRole.CAPTION:
                return self._library.facts_of(clip.id).caption
            case ClipRole.REJECTED:
                return clip.rejected
            case _:
                return None

    def _refresh(self) -> None:
        clips = self._session.project.clips if self._session.is_open else ()
        self._shared = shared_sources(self._session.project) if clips else frozenset()
        if [clip.id for clip in clips] != [clip.id for clip in self._clips]:
            self.beginResetModel()
            self._clips = clips
            self._rows = {clip.id: row for row, clip in enumerate(clips)}
            self.endResetModel()
            return
        changed = [
            row for row, (new, old) in enumerate(zip(clips, self._clips, strict=True)) if new is not old
        ]
        self._clips = clips
        if changed:
            self.dataChanged.emit(self.index(changed[0]), self.index(changed[-1]))

    def _on_clips_changed(self, clip_ids: frozenset[str]) -> None:
        rows = sorted(self._rows[clip_id] for clip_id in clip_ids if clip_id in self._rows)
        for first, last in ranges(rows):
            self.dataChanged.emit(self.index(first), self.index(last))


def ranges(rows: list[int]) -> list[tuple[int, int]]:
    """Runs of rows that follow each other; one span of all where there are very many."""
    if len(rows) > _MANY:
        return [(rows[0], rows[-1])]
    found: list[tuple[int, int]] = []
    for row in rows:
        if found and found[-1][1] == row - 1:
            found[-1] = (found[-1][0], row)
        else:
            found.append((row, row))
    return found
