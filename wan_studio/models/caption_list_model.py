"""The clips whose captions a search finds, as a list for views."""

from enum import IntEnum
from typing import Any

from PySide6.QtCore import QAbstractListModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from wan_studio.bridge.caption_index import CaptionIndex
from wan_studio.bridge.clip_library import ClipLibrary
from wan_studio.domain.caption_search import CaptionEntry, Match, find, parse_query
from wan_studio.models.clip_list_model import ranges

AnyIndex = QModelIndex | QPersistentModelIndex


class CaptionRole(IntEnum):
    """What a row can be asked for besides its name."""

    ID = Qt.ItemDataRole.UserRole
    ENTRY = Qt.ItemDataRole.UserRole + 1
    POSTER = Qt.ItemDataRole.UserRole + 2
    EXCERPT = Qt.ItemDataRole.UserRole + 3


class CaptionListModel(QAbstractListModel):
    """One row a clip that is found, in the project's order; `data` is a lookup."""

    def __init__(self, index: CaptionIndex, library: ClipLibrary, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._index = index
        self._library = library
        self._match: Match = parse_query("")
        self._ids: list[str] = []
        self._rows: dict[str, int] = {}
        index.entries_changed.connect(self._on_entries_changed)
        library.clips_changed.connect(self._on_clips_changed)
        self._show(find(index.entries, self._match))

    @property
    def ids(self) -> list[str]:
        """The clips in the list."""
        return self._ids

    def rowCount(self, parent: AnyIndex | None = None) -> int:
        """Clips that are found; a clip has no children."""
        return 0 if parent is not None and parent.isValid() else len(self._ids)

    def row_of(self, clip_id: str) -> int:
        """The clip's row, or -1."""
        return self._rows.get(clip_id, -1)

    def set_match(self, match: Match) -> None:
        """Show what this search finds."""
        self._match = match
        self._show(find(self._index.entries, match))

    def data(self, index: AnyIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """What is known of the clip's caption."""
        if not index.isValid() or index.row() >= len(self._ids):
            return None
        clip_id = self._ids[index.row()]
        entry = self._index.entries.get(clip_id)
        if entry is None:
            return None
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return entry.name
            case Qt.ItemDataRole.AccessibleTextRole | Qt.ItemDataRole.ToolTipRole:
                return f"{entry.name}\n{_excerpt(entry)}"
            case CaptionRole.ID:
                return clip_id
            case CaptionRole.ENTRY:
                return entry
            case CaptionRole.POSTER:
                return self._library.poster_of(clip_id)
            case CaptionRole.EXCERPT:
                return _excerpt(entry)
            case _:
                return None

    def _on_entries_changed(self) -> None:
        # A clip that is being worked on stays in the list though it no longer fits; the next search drops it.
        found = find(self._index.entries, self._match)
        kept = set(found) | {clip_id for clip_id in self._ids if clip_id in self._index.entries}
        ids = [clip_id for clip_id in self._index.entries if clip_id in kept]
        if ids != self._ids:
            self._show(ids)
        elif ids:
            self.dataChanged.emit(self.index(0), self.index(len(ids) - 1))

    def _show(self, ids: list[str]) -> None:
        self.beginResetModel()
        self._ids = ids
        self._rows = {clip_id: row for row, clip_id in enumerate(ids)}
        self.endResetModel()

    def _on_clips_changed(self, clip_ids: frozenset[str]) -> None:
        rows = sorted(self._rows[clip_id] for clip_id in clip_ids if clip_id in self._rows)
        for first, last in ranges(rows):
            self.dataChanged.emit(self.index(first), self.index(last))


def _excerpt(entry: CaptionEntry) -> str:
    if not entry.is_readable:
        return "Cannot be read"
    return "No caption" if entry.is_empty else " ".join(entry.caption[:120].split())
