"""What a batch would change, to look at and choose from before it is applied."""

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHeaderView, QProgressBar, QTreeWidget, QTreeWidgetItem, QWidget

from wan_studio.bridge.batch_search import BatchKind
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.project import ProjectClip
from wan_studio.views.theme import GRID
from wan_studio.views.widgets import button, column, label, row

if TYPE_CHECKING:
    from wan_studio.services.batch_trim import ClipChange

_TITLES: dict[BatchKind, str] = {
    "still ends": "Trim still heads and tails",
    "black bars": "Cut off black bars",
}
_NOTHING: dict[BatchKind, str] = {
    "still ends": "No clip has a still head or tail.",
    "black bars": "No clip has black bars.",
}


class BatchSheet(QWidget):
    """A list of changes with a check each.

    Signals:
        applied: The chosen changes are wanted. args: name of the step, list of ProjectClip
        closed: Nothing is changed.
    """

    applied = Signal(str, object)
    closed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._kind: BatchKind = "still ends"
        self._changes: list[ClipChange] = []
        self._title = label("", "section")
        self._words = label("", "muted", wrap=True)
        self._progress = QProgressBar()
        self._progress.setAccessibleName("Clips looked at")
        self._progress.setTextVisible(False)
        self._progress.setFixedHeight(6)
        self._table = QTreeWidget()
        self._table.setAccessibleName("Changes")
        self._table.setRootIsDecorated(False)
        self._table.setUniformRowHeights(True)
        self._table.setStyleSheet(f"QTreeWidget::item {{ padding: {GRID - 2}px {GRID}px {GRID - 2}px 0; }}")
        self._table.setHeaderLabels(["Clip", "Now", "Then", "Leaves out"])
        header = self._table.header()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setStretchLastSection(False)
        self._table.itemChanged.connect(self._renew_button)
        self._apply = button("Apply", self._on_apply, role="primary")
        self._cancel = button("Cancel", self.closed.emit)
        self.setLayout(
            column(
                self._title,
                self._words,
                self._progress,
                self._table,
                row(None, self._cancel, self._apply),
                gap=GRID,
            )
        )

    @property
    def changes(self) -> "list[ClipChange]":
        """What was found."""
        return self._changes

    def show_searching(self, kind: BatchKind, count: int) -> None:
        """Look through so many clips."""
        self._kind, self._changes = kind, []
        self._title.setText(_TITLES[kind])
        self._words.setText(f"Looking through {_clips(count)}.")
        self._table.clear()
        self._progress.setRange(0, max(count, 1))
        self._progress.setValue(0)
        self._progress.show()
        self._renew_button()

    def show_progress(self, done: int, count: int) -> None:
        """So many were looked at."""
        self._progress.setMaximum(max(count, 1))
        self._progress.setValue(done)

    def show_changes(self, changes: "list[ClipChange]") -> None:
        """Show what was found, all of it chosen."""
        self._progress.hide()
        self._changes = changes
        self._words.setText(
            f"{_clips(len(changes))} would change. Nothing is changed until you apply it, in one step that "
            "can be undone."
            if changes
            else _NOTHING[self._kind]
        )
        for change in changes:
            item = QTreeWidgetItem([change.source.name, *_words(self._kind, change)])
            item.setCheckState(0, Qt.CheckState.Checked)
            self._table.addTopLevelItem(item)
        self._renew_button()

    def chosen(self) -> list[ProjectClip]:
        """The clips as they would be, of the rows that are checked."""
        return [
            change.after
            for at, change in enumerate(self._changes)
            if self._table.topLevelItem(at).checkState(0) is Qt.CheckState.Checked  # type: ignore[union-attr]
        ]

    def _renew_button(self) -> None:
        is_complete = self._table.topLevelItemCount() == len(self._changes)
        count = len(self.chosen()) if is_complete else 0
        self._apply.setEnabled(count > 0)
        self._apply.setText(f"Apply to {_clips(count)}" if count else "Apply")

    def _on_apply(self) -> None:
        chosen = self.chosen()
        self.applied.emit(f"{_TITLES[self._kind]} of {_clips(len(chosen))}", chosen)


def _words(kind: BatchKind, change: "ClipChange") -> tuple[str, str, str]:
    """Now, then, and what is left out."""
    source = change.source
    if kind == "black bars":
        before = change.before.crop or source.whole_picture
        after = change.after.crop or source.whole_picture
        lost = 1 - after.width * after.height / (before.width * before.height)
        return (
            f"{before.width} × {before.height}",
            f"{after.width} × {after.height}",
            f"{100 * lost:.0f} % of the picture",
        )
    before, after = change.before.trim or source.whole_range, change.after.trim or source.whole_range
    head = source.seconds_at(after.start_frame) - source.seconds_at(before.start_frame)
    tail = source.seconds_at(before.end_frame) - source.seconds_at(after.end_frame)
    return (
        f"{_seconds(source, before.start_frame, before.end_frame):.2f} s",
        f"{_seconds(source, after.start_frame, after.end_frame):.2f} s",
        f"{head:.2f} s at the start, {tail:.2f} s at the end",
    )


def _seconds(source: SourceVideo, start: int, end: int) -> float:
    return source.seconds_at(end) - source.seconds_at(start)


def _clips(count: int) -> str:
    return "1 clip" if count == 1 else f"{count} clips"
