"""A run's checkpoints as a list for views."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from PySide6.QtCore import QAbstractListModel, QModelIndex, QPersistentModelIndex, Qt

from trainer.protocol.events import CheckpointSaved, PreviewSaved
from wan_studio.domain.run_state import RunState

AnyIndex = QModelIndex | QPersistentModelIndex


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """A step that has a checkpoint, previews or both."""

    step: int
    checkpoint: CheckpointSaved | None
    previews: tuple[PreviewSaved, ...]


class CheckpointListModel(QAbstractListModel):
    """One row a step, newest first; the user role gives its `CheckpointRow`."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: tuple[CheckpointRow, ...] = ()

    @property
    def rows(self) -> tuple[CheckpointRow, ...]:
        """The rows."""
        return self._rows

    def rowCount(self, parent: AnyIndex | None = None) -> int:
        """Steps."""
        return 0 if parent is not None and parent.isValid() else len(self._rows)

    def data(self, index: AnyIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """The step's name or its row."""
        if not index.isValid() or index.row() >= len(self._rows):
            return None
        found = self._rows[index.row()]
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return _describe(found)
            case Qt.ItemDataRole.UserRole:
                return found
            case _:
                return None

    def show(self, state: RunState) -> bool:
        """Take the checkpoints of this state; False when they are the same as before."""
        checkpoints = {saved.step: saved for saved in state.checkpoints}
        previews: dict[int, list[PreviewSaved]] = {}
        for preview in state.previews:
            previews.setdefault(preview.step, []).append(preview)
        rows = tuple(
            CheckpointRow(step, checkpoints.get(step), tuple(sorted(previews.get(step, []), key=_row)))
            for step in sorted({*checkpoints, *previews}, reverse=True)
        )
        if rows == self._rows:
            return False
        self.beginResetModel()
        self._rows = rows
        self.endResetModel()
        return True


def _row(preview: PreviewSaved) -> int:
    return preview.row


def _describe(found: CheckpointRow) -> str:
    saved = found.checkpoint
    when = datetime.fromtimestamp(saved.time).astimezone().strftime("%H:%M") if saved and saved.time else ""
    parts = [f"Step {found.step}", when if saved else "preview only"]
    return "   ".join(part for part in parts if part)
