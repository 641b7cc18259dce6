"""The project's clips as a list for views."""

from enum import IntEnum
from typing import Any

from PySide6.QtCore import QAbstractListModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from wan_studio.bridge.clip_library import ClipLibrary
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.checks import ClipFacts, Problem, clip_problems
from wan_studio.domain.project import ProjectClip

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


class ClipListModel(QAbstractListModel):
    """One row a clip, in the project's order; `data` is a lookup."""

    def __init__(self, session: ProjectSession, library: ClipLibrary, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._library = library
        self._clips: tuple[ProjectClip, ...] = ()
        self._problems: dict[str, tuple[Problem, ...]] = {}
        session.project_opened.connect(self._refresh)
        session.project_changed.connect(self._refresh)
        library.clip_changed.connect(self._on_clip_changed)
        self._refresh()

    def rowCount(self, parent: AnyIndex | None = None) -> int:
        """Clips; a clip has no children."""
        return 0 if parent is not None and parent.isValid() else len(self._clips)

    def row_of(self, clip_id: str) -> int:
        """The clip's row, or -1."""
        return next((row for row, clip in enumerate(self._clips) if clip.id == clip_id), -1)

    def data(self, index: AnyIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """What is known of the clip."""
        if not index.isValid() or index.row() >= len(self._clips):
            return None
        clip = self._clips[index.row()]
        match role:
            case Qt.ItemDataRole.DisplayRole | Qt.ItemDataRole.AccessibleTextRole:
                return _name(clip)
            case Qt.ItemDataRole.ToolTipRole:
                problems = self._problems.get(clip.id, ())
                return "\n".join([clip.source, *(problem.text for problem in problems)])
            case ClipRole.ID:
                return clip.id
            case ClipRole.CLIP:
                return clip
            case ClipRole.SOURCE:
                return self._library.source_of(clip.id)
            case ClipRole.PROBLEMS:
                return self._problems.get(clip.id, ())
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
        if [clip.id for clip in clips] != [clip.id for clip in self._clips]:
            self.beginResetModel()
            self._clips = clips
            self._find_problems()
            self.endResetModel()
            return
        self._clips = clips
        self._find_problems()
        if clips:
            self.dataChanged.emit(self.index(0), self.index(len(clips) - 1))

    def _find_problems(self) -> None:
        if self._session.is_open:
            project, facts = self._session.project, self._library.facts
            self._problems = {
                clip.id: clip_problems(project, clip, facts.get(clip.id, ClipFacts())) for clip in self._clips
            }

    def _on_clip_changed(self, clip_id: str) -> None:
        row = self.row_of(clip_id)
        if row >= 0:
            clip = self._clips[row]
            self._problems[clip_id] = clip_problems(
                self._session.project, clip, self._library.facts_of(clip_id)
            )
            self.dataChanged.emit(self.index(row), self.index(row))


def _name(clip: ProjectClip) -> str:
    return clip.source.replace("\\", "/").rsplit("/", 1)[-1]
