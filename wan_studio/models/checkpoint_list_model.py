"""A run's checkpoints, and the mixtures that were previewed, as a list for views."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from PySide6.QtCore import QAbstractListModel, QModelIndex, QPersistentModelIndex, Qt

from trainer.protocol.events import CheckpointSaved, PreviewSaved
from wan_studio.domain.run_state import RunState
from wan_studio.services.preview_store import PreviewMixture

AnyIndex = QModelIndex | QPersistentModelIndex


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """A step that has a checkpoint, previews or both; or previews of a mixture of two checkpoints.

    Attributes:
        is_pinned: Whether the checkpoint is kept for ever.
        mixture: What the previews were made with, when that is not one checkpoint as it is.
    """

    step: int
    checkpoint: CheckpointSaved | None
    previews: tuple[PreviewSaved, ...]
    is_pinned: bool = False
    mixture: PreviewMixture | None = None

    @property
    def key(self) -> str:
        """Tells the row from all others."""
        return self.mixture.folder if self.mixture is not None else str(self.step)


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
            case Qt.ItemDataRole.AccessibleTextRole:
                return f"{_describe(found)}, pinned" if found.is_pinned else _describe(found)
            case Qt.ItemDataRole.UserRole:
                return found
            case _:
                return None

    def show(
        self,
        state: RunState,
        pinned: frozenset[int] = frozenset(),
        mixtures: Sequence[PreviewMixture] = (),
    ) -> bool:
        """Take the checkpoints of this state; False when they are the same as before."""
        checkpoints = {saved.step: saved for saved in state.checkpoints}
        previews: dict[int, list[PreviewSaved]] = {}
        for preview in state.previews:
            previews.setdefault(preview.step, []).append(preview)
        steps = [
            CheckpointRow(
                step,
                checkpoints.get(step),
                tuple(sorted(previews.get(step, []), key=_row)),
                is_pinned=step in pinned,
            )
            for step in {*checkpoints, *previews}
        ]
        mixed = [CheckpointRow(found.step, None, found.previews, mixture=found) for found in mixtures]
        # A mixture stands under the later of its checkpoints.
        rows = tuple(sorted([*steps, *mixed], key=lambda row: (-row.step, row.mixture is not None, row.key)))
        if rows == self._rows:
            return False
        self.beginResetModel()
        self._rows = rows
        self.endResetModel()
        return True


def _row(preview: PreviewSaved) -> int:
    return preview.row


def _describe(found: CheckpointRow) -> str:
    if found.mixture is not None:
        mixture = found.mixture
        if mixture.high == mixture.low:
            return f"Step {mixture.high} at {mixture.strength:g}"
        strength = "" if mixture.strength == 1.0 else f" at {mixture.strength:g}"
        return f"High {mixture.high}, low {mixture.low}{strength}"
    saved = found.checkpoint
    when = datetime.fromtimestamp(saved.time).astimezone().strftime("%H:%M") if saved and saved.time else ""
    parts = [f"Step {found.step}", when if saved else "preview only"]
    return "   ".join(part for part in parts if part)
