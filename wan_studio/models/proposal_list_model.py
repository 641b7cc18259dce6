"""The captions that a model proposes and that the user has not decided about yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QAbstractListModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from wan_studio.domain.auto_caption import Proposal
from wan_studio.domain.text_diff import Part
from wan_studio.models.change_list_model import ChangeRole

AnyIndex = QModelIndex | QPersistentModelIndex


@dataclass(frozen=True, slots=True)
class ProposalRow:
    """One clip.

    Attributes:
        before: Its present caption; None where that cannot be read, and so not be replaced.
    """

    clip_id: str
    name: str
    before: str | None
    proposal: Proposal

    @property
    def can_be_accepted(self) -> bool:
        """Whether there is something that can become the caption, and would change it."""
        return not self.proposal.problem and self.before is not None and bool(self.proposal.text.strip())

    @property
    def is_for_empty(self) -> bool:
        """Whether it can become the caption of a clip that has none."""
        return self.can_be_accepted and not (self.before or "").strip()


class ProposalListModel(QAbstractListModel):
    """One row a proposal; a tick says that it will be accepted. Those that replace nothing begin ticked."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._rows: list[ProposalRow] = []
        self._ticks: dict[str, bool] = {}
        self._counts: tuple[int, int] | None = None

    @property
    def rows(self) -> Sequence[ProposalRow]:
        """All of them, in the project's order."""
        return self._rows

    @property
    def ticked(self) -> list[ProposalRow]:
        """Those that are to be accepted."""
        return [row for row in self._rows if self._is_ticked(row)]

    @property
    def counts(self) -> tuple[int, int]:
        """How many are ticked, and how many are for clips without a caption."""
        if self._counts is None:
            self._counts = len(self.ticked), sum(row.is_for_empty for row in self._rows)
        return self._counts

    def row_of(self, clip_id: str) -> int:
        """The clip's row, or -1."""
        return next((at for at, row in enumerate(self._rows) if row.clip_id == clip_id), -1)

    def show_rows(self, rows: list[ProposalRow]) -> None:
        """Show these; ticks that the user has set or taken stay."""
        if rows == self._rows:
            return
        self._counts = None
        if len(rows) == len(self._rows) and all(
            new.clip_id == old.clip_id for new, old in zip(rows, self._rows, strict=True)
        ):
            self._rows = rows
            self.dataChanged.emit(self.index(0), self.index(len(rows) - 1))
            return
        self.beginResetModel()
        self._rows = rows
        self.endResetModel()

    def forget_ticks(self) -> None:
        """Another project: nothing of it was ticked."""
        self._ticks.clear()
        self._counts = None

    def rowCount(self, parent: AnyIndex | None = None) -> int:
        """Clips with a proposal."""
        return 0 if parent is not None and parent.isValid() else len(self._rows)

    def flags(self, index: AnyIndex) -> Qt.ItemFlag:
        """What can be accepted can be ticked."""
        flags = super().flags(index)
        can = index.isValid() and self._rows[index.row()].can_be_accepted
        return flags | Qt.ItemFlag.ItemIsUserCheckable if can else flags

    def data(self, index: AnyIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """What is proposed."""
        if not index.isValid() or index.row() >= len(self._rows):
            return None
        row = self._rows[index.row()]
        text = row.proposal.problem or row.proposal.text
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return f"{row.name}{self._note(row)}"
            case Qt.ItemDataRole.AccessibleTextRole | Qt.ItemDataRole.ToolTipRole:
                return f"{row.name}{self._note(row)}: {text}"
            case Qt.ItemDataRole.CheckStateRole:
                return Qt.CheckState.Checked if self._is_ticked(row) else Qt.CheckState.Unchecked
            case ChangeRole.PARTS:
                return (Part("same", text.replace("\n", " ")),)
            case ChangeRole.CLIP_ID:
                return row.clip_id
            case _:
                return None

    def setData(self, index: AnyIndex, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:
        """Tick a proposal, or leave it out."""
        if role != Qt.ItemDataRole.CheckStateRole or not index.isValid():
            return False
        row = self._rows[index.row()]
        if not row.can_be_accepted:
            return False
        self._counts = None
        self._ticks[row.clip_id] = Qt.CheckState(value) is Qt.CheckState.Checked
        self.dataChanged.emit(index, index, [role])
        return True

    def _is_ticked(self, row: ProposalRow) -> bool:
        return row.can_be_accepted and self._ticks.get(row.clip_id, row.is_for_empty)

    @staticmethod
    def _note(row: ProposalRow) -> str:
        if row.proposal.problem:
            return ", not described"
        if row.before is None:
            return ", its caption cannot be read"
        return "" if row.is_for_empty else ", has a caption"
