"""What a run has made: its checkpoints, their previews, and the LoRA files to use elsewhere."""

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, Qt
from PySide6.QtWidgets import (
    QApplication,
    QComboBox,
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QListView,
    QStackedWidget,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from trainer.protocol.events import PreviewSaved
from wan_studio.bridge.background import run_in_background
from wan_studio.bridge.run_watcher import WatchedRun
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.checks import Step
from wan_studio.domain.clip import SourceVideo
from wan_studio.models.checkpoint_list_model import CheckpointListModel, CheckpointRow
from wan_studio.models.run_list_model import RunListModel
from wan_studio.services.media_probe import probe
from wan_studio.views.page import Page, Primary
from wan_studio.views.player.player import Player, whole_strip
from wan_studio.views.player.transport import Transport
from wan_studio.views.results.export_options import ExportOptions
from wan_studio.views.results.preview_panel import PreviewPanel
from wan_studio.views.theme import GRID, icon, numeric_font
from wan_studio.views.widgets import (
    ElidedLabel,
    EmptyState,
    Expander,
    IconLabel,
    button,
    card,
    label,
    row,
    show_in_files,
    tool_button,
)

_LIST_WIDTH = 232


class ResultsPage(Page):
    """Checkpoints at the left, the chosen one's preview looping at the right, export below."""

    step = Step.RESULTS
    title = "Results"

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self._watched: WatchedRun | None = None
        self._model = CheckpointListModel()
        self._shown: Path | None = None
        self._exported: tuple[Path, ...] = ()
        self._build()
        bench.runs.state_changed.connect(self._show)
        bench.runs.busy_changed.connect(lambda _: self.primary_changed.emit())
        self._show(bench.runs.watched)

    @property
    def exported(self) -> tuple[Path, ...]:
        """The files that were exported last."""
        return self._exported

    def handlers(self) -> dict[str, Callable[[], object]]:
        """What the keys do here."""
        return {**self._transport.handlers(), "results.export": self.export}

    def primary(self) -> Primary | None:
        """Export the chosen checkpoint."""
        row_now = self._chosen()
        if row_now is None or row_now.checkpoint is None:
            return None
        if self.bench.runs.is_busy:
            return Primary("Export LoRA pair", is_enabled=False, hint="Exporting and checking every key")
        return Primary("Export LoRA pair", hint=f"Step {row_now.step}", icon_name="export")

    def run_primary(self) -> None:
        """Export the chosen checkpoint."""
        self.export()

    def enter(self) -> None:
        """Show what there is now."""
        self.bench.runs.rescan()
        self._show(self.bench.runs.watched)
        self._list.setFocus()

    def leave(self) -> None:
        """Play no more."""
        self._player.playback.stop()

    def shut_down(self) -> None:
        """End the decoder."""
        self._player.shut_down()

    def export(self, out: Path | None = None) -> None:
        """Make the pair's files of the chosen checkpoint.

        Args:
            out: Folder for the files; None takes the run's own.
        """
        row_now = self._chosen()
        form = self._options.form
        if form is None:
            self._options_expander.set_open(True)
            self._options.strength.setFocus()
        elif row_now is not None and row_now.checkpoint is not None and not self.bench.runs.is_busy:
            self.bench.runs.export(row_now.step, out, self._on_exported, form)

    def toggle_pin(self) -> None:
        """Keep the chosen checkpoint for ever, or no longer."""
        row_now = self._chosen()
        if row_now is not None and row_now.checkpoint is not None:
            self.bench.runs.set_pinned(row_now.step, is_pinned=not row_now.is_pinned)

    def preview_more(self) -> None:
        """Show what more previews can be made of."""
        row_now = self._chosen()
        self._panel.setVisible(self._panel.isHidden())
        if row_now is not None and row_now.checkpoint is not None and not self._panel.isHidden():
            self._panel.choose_step(row_now.step)

    def export_elsewhere(self) -> None:
        """Ask for a folder, e.g. ComfyUI's models/loras, and export there."""
        start = self.bench.settings.values.get("export_folder", "")
        chosen = QFileDialog.getExistingDirectory(self, "Folder for the LoRA files", start)
        if chosen:
            self.bench.remember_value("export_folder", chosen)
            self.export(Path(chosen))

    def _build(self) -> None:
        self._runs = QComboBox()
        self._runs.setModel(RunListModel(self.bench.runs, self))
        self._runs.setAccessibleName("Run")
        self._runs.setMinimumWidth(220)
        self._runs.activated.connect(self._on_run_chosen)
        self.header_tools.addWidget(self._runs)
        side = self._build_side()
        self._player = Player("Preview")
        self._transport = Transport(self._player)
        self._rows = QComboBox()
        self._rows.setAccessibleName("Preview")
        self._rows.activated.connect(lambda _: self._show_preview())
        self._prompt = ElidedLabel("", "muted")
        bar = row(self._transport, self._rows, self._prompt)
        bar.setStretch(2, 1)
        right = QVBoxLayout()
        right.setSpacing(GRID)
        right.addWidget(self._player, 1)
        right.addLayout(bar)
        self._panel = PreviewPanel(self.bench)
        right.addWidget(self._panel)
        right.addWidget(self._build_export())
        body = QWidget()
        layout = QHBoxLayout(body)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2 * GRID)
        layout.addWidget(side)
        layout.addLayout(right, 1)
        self._empty = EmptyState(
            "package",
            "No checkpoint yet",
            "The first one comes while a run trains.",
            button("Go to monitor", lambda: self.step_wanted.emit(Step.MONITOR)),
        )
        self._stack = QStackedWidget()
        self._stack.addWidget(self._empty)
        self._stack.addWidget(body)
        self.add(self._stack, 1)

    def _build_side(self) -> QFrame:
        self._list = QListView()
        self._list.setModel(self._model)
        self._list.setAccessibleName("Checkpoints")
        self._list.setFont(numeric_font())
        self._list.setSpacing(2)
        self._list.setUniformItemSizes(True)
        self._list.selectionModel().currentChanged.connect(self._on_checkpoint_chosen)
        self._elsewhere = button("Export to folder…", self.export_elsewhere, icon_name="folder-open")
        self._list.setItemDelegate(_PinDelegate(self._list))
        self._pin = button(
            "Pin", self.toggle_pin, icon_name="push-pin", tip="A pinned checkpoint is never removed"
        )
        self._more = button("Preview more…", self.preview_more, icon_name="eye")
        self._options = ExportOptions()
        name = "results.export"
        self._options_expander = Expander(
            "Export options", self._options, is_open=name in self.bench.settings.open_expanders
        )
        self._options_expander.toggled.connect(
            lambda is_open: self.bench.remember_expander(name, is_open=is_open)
        )
        side = card(
            label("Checkpoints", "section"),
            self._list,
            self._pin,
            self._more,
            self._elsewhere,
            self._options_expander,
        )
        side.setFixedWidth(_LIST_WIDTH)
        return side

    def _build_export(self) -> QFrame:
        self._files = QVBoxLayout()
        self._files.setSpacing(GRID // 2)
        self._export_title = label("", "section")
        open_folder = button("Open folder", self._open_exports, icon_name="folder-open")
        head = row(IconLabel("check-circle", "good", 20), self._export_title, None, open_folder)
        note = label(
            "For ComfyUI put both files into models/loras, and load the high noise file on the high noise model "
            "and the low noise file on the low noise model.",
            "muted",
            wrap=True,
        )
        self._export_card = card(head, self._files, note)
        self._export_card.hide()
        return self._export_card

    def _show(self, watched: WatchedRun | None) -> None:
        is_other_run = (watched.run.path if watched else None) != (
            self._watched.run.path if self._watched else None
        )
        self._watched = watched
        if is_other_run:
            self._export_card.hide()
            self._exported = ()
            self._shown = None
        self._runs.setVisible(bool(self.bench.runs.runs))
        if watched is not None:
            self._runs.setCurrentIndex(max(0, self._runs.findText(watched.run.path.name)))
            chosen = self._chosen()
            if self._model.show(watched.state, watched.pinned, watched.mixtures):
                self._choose_row(chosen.key if chosen and not is_other_run else None)
            every = watched.state.total_steps
            self._empty.set_text(
                "No checkpoint yet",
                "The first one comes while the run trains."
                if every or watched.is_running
                else watched.state.summary,
            )
        self._stack.setCurrentIndex(1 if watched is not None and self._model.rowCount() else 0)
        row_now = self._chosen()
        self._panel.show_run(watched, row_now.step if row_now is not None else None)
        self._renew_pin()
        self.primary_changed.emit()

    def _choose_row(self, key: str | None) -> None:
        """Choose this row; the newest with a checkpoint when it is gone or none was chosen."""
        rows = self._model.rows
        at = next((i for i, found in enumerate(rows) if found.key == key), None)
        if at is None:
            at = next((i for i, found in enumerate(rows) if found.checkpoint is not None), 0)
        if rows:
            self._list.setCurrentIndex(self._model.index(at))

    def _renew_pin(self) -> None:
        row_now = self._chosen()
        is_pinned = row_now is not None and row_now.is_pinned
        self._pin.setEnabled(row_now is not None and row_now.checkpoint is not None)
        self._pin.setText("Unpin" if is_pinned else "Pin")
        self._pin.setAccessibleName(self._pin.text())

    def _chosen(self) -> CheckpointRow | None:
        found = self._list.currentIndex().data(Qt.ItemDataRole.UserRole)
        return found if isinstance(found, CheckpointRow) else None

    def _on_checkpoint_chosen(self) -> None:
        chosen = self._chosen()
        previews = chosen.previews if chosen is not None else ()
        at = max(0, self._rows.currentIndex())
        self._rows.clear()
        for preview in previews:
            self._rows.addItem(f"Preview {preview.row + 1}", preview)
        self._rows.setVisible(len(previews) > 1)
        self._rows.setCurrentIndex(min(at, len(previews) - 1))
        self._show_preview()
        self._renew_pin()
        self.primary_changed.emit()

    def _show_preview(self) -> None:
        preview: PreviewSaved | None = self._rows.currentData()
        if preview is None or self._watched is None:
            self._prompt.set_text("")
            self._shown = None
            self._player.show_strip(None, message="No preview was rendered at this step.")
            return
        self._prompt.set_text(preview.prompt)
        path = self._watched.run.path / preview.video
        if path == self._shown:
            return
        self._shown = path

        def on_done(source: SourceVideo) -> None:
            if path == self._shown:
                self._player.show_strip(whole_strip(source))
                if self.isVisible():
                    self._player.playback.play()

        def on_error(error: Exception) -> None:
            if path == self._shown:
                self._player.show_strip(None, message=str(error))

        run_in_background(lambda: probe(path), on_done, on_error, urgent=True)

    def _on_exported(self, paths: list[Path]) -> None:
        self._exported = tuple(paths)
        while self._files.count():
            item = self._files.takeAt(0)
            widget = item.widget() if item is not None else None
            if widget is not None:
                widget.deleteLater()
        for path in paths:
            copy = tool_button(
                f"Copy the path of {path.name}",
                "copy",
                lambda path=path: QApplication.clipboard().setText(str(path)),
            )
            line = QWidget()
            layout = row(ElidedLabel(str(path)), copy)
            layout.setStretch(0, 1)
            line.setLayout(layout)
            self._files.addWidget(line)
        self._export_title.setText("Exported and verified")
        self._export_card.show()

    def _open_exports(self) -> None:
        if self._exported:
            show_in_files(self._exported[0])

    def _on_run_chosen(self, at: int) -> None:
        run = self._runs.itemData(at)
        if run is not None:
            self.bench.runs.show(run)


class _PinDelegate(QStyledItemDelegate):
    """Puts a pin beside the checkpoints that are kept for ever."""

    def initStyleOption(  # noqa: N802 - Qt's name
        self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        """Add the icon to what is drawn."""
        super().initStyleOption(option, index)
        found = index.data(Qt.ItemDataRole.UserRole)
        if isinstance(found, CheckpointRow) and found.is_pinned:
            option.icon = icon("push-pin", "accent")  # type: ignore[attr-defined]
            option.features |= QStyleOptionViewItem.ViewItemFeature.HasDecoration  # type: ignore[attr-defined]
            option.decorationPosition = QStyleOptionViewItem.Position.Right  # type: ignore[attr-defined]


def make_page(bench: Workbench) -> Page:
    """The page."""
    return ResultsPage(bench)
