"""The changes that a replacement would make, each of which can be left out."""

from enum import IntEnum
from typing import Any

from PySide6.QtCore import QAbstractListModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from wan_studio.domain.caption_replace import CaptionChange
from wan_studio.domain.text_diff import Part, parts_of

AnyIndex = QModelIndex | QPersistentModelIndex


class ChangeRole(IntEnum):
    """What a change can be asked for besides the clip's name."""

    PARTS = Qt.ItemDataRole.UserRole
    CLIP_ID = Qt.ItemDataRole.UserRole + 1


class ChangeListModel(QAbstractListModel):
    """One row a caption that would change; a tick says that it will."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._changes: list[CaptionChange] = []
        self._names: dict[str, str] = {}
        self._left_out: set[str] = set()

    @property
    def ticked(self) -> list[CaptionChange]:
        """The changes that are to be made."""
        return [change for change in self._changes if change.clip_id not in self._left_out]

    def show_changes(self, changes: list[CaptionChange], names: dict[str, str]) -> None:
        """Show other changes, all ticked; `names` are the clips' by id."""
        self.beginResetModel()
        self._changes, self._names = changes, names
        self._left_out.clear()
        self.endResetModel()

    def rowCount(self, parent: AnyIndex | None = None) -> int:
        """Captions that would change."""
        return 0 if parent is not None and parent.isValid() else len(self._changes)

    def flags(self, index: AnyIndex) -> Qt.ItemFlag:
        """Every change can be ticked."""
        return super().flags(index) | Qt.ItemFlag.ItemIsUserCheckable

    def data(self, index: AnyIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """What would change."""
        if not index.isValid() or index.row() >= len(self._changes):
            return None
        change = self._changes[index.row()]
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return self._names.get(change.clip_id, "")
            case Qt.ItemDataRole.AccessibleTextRole:
                return f"{self._names.get(change.clip_id, '')}: {change.after}"
            case Qt.ItemDataRole.ToolTipRole:
                return f"{change.before}\n\n{change.after}"
            case Qt.ItemDataRole.CheckStateRole:
                left_out = change.clip_id in self._left_out
                return Qt.CheckState.Unchecked if left_out else Qt.CheckState.Checked
            case ChangeRole.PARTS:
                parts: tuple[Part, ...] = parts_of(change)
                return parts
            case ChangeRole.CLIP_ID:
                return change.clip_id
            case _:
                return None

    def setData(self, index: AnyIndex, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:
        """Tick a change, or leave it out."""
        if role != Qt.ItemDataRole.CheckStateRole or not index.isValid():
            return False
        clip_id = self._changes[index.row()].clip_id
        if Qt.CheckState(value) is Qt.CheckState.Checked:
            self._left_out.discard(clip_id)
        else:
            self._left_out.add(clip_id)
        self.dataChanged.emit(index, index, [role])
        return True
