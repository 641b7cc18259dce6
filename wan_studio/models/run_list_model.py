"""The project's runs as a list for views."""

from typing import Any

from PySide6.QtCore import QAbstractListModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from trainer.protocol.run_folder import RunFolder
from wan_studio.bridge.run_desk import RunDesk

AnyIndex = QModelIndex | QPersistentModelIndex


class RunListModel(QAbstractListModel):
    """One row a run, newest first; the user role gives its `RunFolder`."""

    def __init__(self, desk: RunDesk, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._desk = desk
        self._runs: tuple[RunFolder, ...] = desk.runs
        desk.runs_changed.connect(self._refresh)

    def rowCount(self, parent: AnyIndex | None = None) -> int:
        """Runs."""
        return 0 if parent is not None and parent.isValid() else len(self._runs)

    def row_of(self, run: RunFolder) -> int:
        """The run's row, or -1."""
        return next((row for row, known in enumerate(self._runs) if known.path == run.path), -1)

    def data(self, index: AnyIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """The run's name or the run."""
        if not index.isValid() or index.row() >= len(self._runs):
            return None
        run = self._runs[index.row()]
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return run.path.name
            case Qt.ItemDataRole.ToolTipRole:
                return str(run.path)
            case Qt.ItemDataRole.UserRole:
                return run
            case _:
                return None

    def _refresh(self) -> None:
        self.beginResetModel()
        self._runs = self._desk.runs
        self.endResetModel()
