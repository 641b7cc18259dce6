"""Grid and table of the same clips, with one choice."""

from PySide6.QtCore import QItemSelection, QItemSelectionModel, Qt, Signal
from PySide6.QtWidgets import QStackedWidget, QVBoxLayout, QWidget

from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.project import ProjectClip
from wan_studio.models.clip_view_model import ClipViewModel, Column
from wan_studio.views.clips.grid import ClipGrid
from wan_studio.views.clips.table import ClipTable
from wan_studio.views.widgets import EmptyState

_ROWS = QItemSelectionModel.SelectionFlag.Rows
_ONLY = QItemSelectionModel.SelectionFlag.ClearAndSelect | _ROWS


class ClipBrowser(QWidget):
    """The clips that are found, as grid or table.

    Signals:
        choice_changed: Other clips are chosen.
        opened: A clip was double-clicked, or Enter pressed.
    """

    choice_changed = Signal()
    opened = Signal()

    def __init__(self, session: ProjectSession, model: ClipViewModel) -> None:
        super().__init__()
        self._session = session
        self._model = model
        self._kept: list[str] = []
        self._kept_scroll = 0
        self._is_renewing = False
        self.grid = ClipGrid(model)
        self.table = ClipTable(model)
        self.table.setSelectionModel(self.grid.selectionModel())
        self._nothing = EmptyState("magnifying-glass", "No clip is found", "Search for something else.")
        self._stack = QStackedWidget()
        for part in (self.grid, self.table, self._nothing):
            self._stack.addWidget(part)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._stack)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.view = "grid"
        for view in (self.grid, self.table):
            view.activated.connect(lambda _: self.opened.emit())
        self._selection = self.grid.selectionModel()
        self._selection.selectionChanged.connect(self._on_selection_changed)
        self._selection.currentChanged.connect(self._on_current_changed)
        model.modelAboutToBeReset.connect(self._before_reset)
        model.modelReset.connect(self._after_reset)
        session.clip_selected.connect(self._on_clip_selected)
        self._show_stack()

    def show_view(self, name: str) -> None:
        """Show the grid or the table."""
        self.view = name
        self._show_stack()
        current = self._selection.currentIndex()
        self._choose(self.chosen_ids())
        if current.isValid():
            self._view().scrollTo(current)

    def show_order(self, column: Column | None, *, is_descending: bool) -> None:
        """Mark the order in the table's head."""
        self.table.show_order(column, is_descending)

    def take_focus(self) -> None:
        """The keys go to the clips."""
        # A view that is hidden because nothing is found takes no keys.
        (self._view() if self._model.rowCount() else self).setFocus()
        self._on_clip_selected(self._session.clip_id)

    def chosen_ids(self) -> list[str]:
        """The chosen clips, in their order on the screen."""
        ids = self._model.ids
        # By ranges: all indexes of thousands of rows would take a third of a second.
        ranges = sorted((one.top(), one.bottom()) for one in self._selection.selection())  # type: ignore[attr-defined]
        rows = dict.fromkeys(row for top, bottom in ranges for row in range(top, bottom + 1))
        return [ids[row] for row in rows if row < len(ids)]

    def chosen_clips(self) -> list[ProjectClip]:
        """The same as the project has them; the clip that is looked at where none is chosen."""
        if not self._session.is_open:
            return []
        ids = self.chosen_ids()
        if len(ids) <= 1:
            wanted = ids[0] if ids else self._session.clip_id
            clip = next((one for one in self._session.project.clips if one.id == wanted), None)
            return [] if clip is None else [clip]
        chosen = set(ids)
        return [clip for clip in self._session.project.clips if clip.id in chosen]

    def go_on(self, step: int) -> None:
        """Look at the next or previous clip on the screen."""
        ids = self._model.ids
        at = self._model.row_of(self._session.clip_id) + step
        if 0 <= at < len(ids):
            self._session.select_clip(ids[at])

    def select_all(self) -> None:
        """Choose all that are found."""
        self._choose(self._model.ids)

    def invert(self) -> None:
        """Choose those that are not chosen."""
        chosen = set(self.chosen_ids())
        self._choose([one for one in self._model.ids if one not in chosen])

    def _view(self) -> ClipGrid | ClipTable:
        return self.table if self.view == "table" else self.grid

    def _show_stack(self) -> None:
        is_empty = self._model.rowCount() == 0
        self._stack.setCurrentWidget(self._nothing if is_empty else self._view())

    def _choose(self, ids: list[str]) -> None:
        """Choose these; runs of rows as one range, thousands at once."""
        selection = QItemSelection()
        rows = sorted(row for one in ids if (row := self._model.row_of(one)) >= 0)
        start = 0
        for at, row in enumerate(rows):
            if at + 1 == len(rows) or rows[at + 1] != row + 1:
                selection.select(self._model.index(rows[start], 0), self._model.index(row, 0))
                start = at + 1
        self._selection.select(selection, _ONLY)

    def _on_selection_changed(self) -> None:
        if not self._is_renewing:
            self.choice_changed.emit()

    def _on_current_changed(self) -> None:
        row = self._selection.currentIndex().row()
        ids = self._model.ids
        if not self._is_renewing and 0 <= row < len(ids):
            self._session.select_clip(ids[row])

    def _on_clip_selected(self, clip_id: str) -> None:
        row = self._model.row_of(clip_id)
        if row >= 0 and self._selection.currentIndex().row() != row:
            self._selection.setCurrentIndex(self._model.index(row, 0), _ONLY)
            self._view().scrollTo(self._model.index(row, 0))
        self.choice_changed.emit()

    def _before_reset(self) -> None:
        self._is_renewing = True
        self._kept = self.chosen_ids()
        self._kept_scroll = self._view().verticalScrollBar().value()

    def _after_reset(self) -> None:
        """The same clips stay chosen, and the place on the screen stays where it was."""
        self._show_stack()
        row = self._model.row_of(self._session.clip_id)
        if row >= 0:
            no_update = QItemSelectionModel.SelectionFlag.NoUpdate
            self._selection.setCurrentIndex(self._model.index(row, 0), no_update)
        kept = [one for one in self._kept if self._model.row_of(one) >= 0]
        self._choose(kept or ([self._session.clip_id] if row >= 0 else []))
        self._view().verticalScrollBar().setValue(self._kept_scroll)
        self._is_renewing = False
        if row < 0 and self._model.rowCount():
            # The clip that was looked at is not among those that are found: look at the first of them.
            self._session.select_clip(kept[0] if kept else self._model.ids[0])
        self.choice_changed.emit()
