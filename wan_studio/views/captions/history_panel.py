"""Earlier versions of a caption, and what others wrote: looked at beside the caption, and brought back."""

from datetime import datetime

from PySide6.QtCore import Signal
from PySide6.QtGui import QKeyEvent, Qt
from PySide6.QtWidgets import QListWidget, QWidget

from wan_studio.domain.text_diff import diff
from wan_studio.services.caption_history import CaptionVersion
from wan_studio.services.caption_store import text_as_guessed
from wan_studio.views.captions.diff_view import DiffView
from wan_studio.views.widgets import button, column, label, row, tool_button

_LIST_WIDTH = 232


class HistoryPanel(QWidget):
    """Versions at the left, the difference from the present text at the right.

    Signals:
        restore_wanted: Bring this text back. arg: text
        close_wanted: Back to the clip.
    """

    restore_wanted = Signal(str)
    close_wanted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._texts: list[str] = []
        self._now = ""
        self._title = label("Earlier versions", "section")
        self._hint = label("", "muted")
        self.list = QListWidget()
        self.list.setAccessibleName("Versions")
        self.list.setFixedWidth(_LIST_WIDTH)
        self.list.currentRowChanged.connect(self._on_row_changed)
        self.diff = DiffView("Difference from the present text")
        self._restore = button("Restore this version", self._on_restore, icon_name="clock-counter-clockwise")
        close = tool_button("Close (Esc)", "x", self.close_wanted.emit)
        middle = row(self.list, self.diff)
        middle.setStretch(1, 1)
        layout = column(row(self._title, None, close), middle, row(self._hint, None, self._restore))
        layout.setStretch(1, 1)
        self.setLayout(layout)

    def show_versions(self, versions: list[CaptionVersion], now: str) -> None:
        """Show a caption's versions, the latest first."""
        self._title.setText("Earlier versions")
        self._now = now
        self._texts = [text_as_guessed(version.content) for version in versions]
        self.list.clear()
        for version in versions:
            at = datetime.fromtimestamp(version.saved_at).astimezone()
            self.list.addItem(f"{at:%Y-%m-%d %H:%M:%S}\n{version.what}")
        self.list.setVisible(bool(versions))
        if versions:
            self._hint.setText("Struck out: what restoring takes away. Marked: what it brings back.")
            other = next((at for at, text in enumerate(self._texts) if text != now), 0)
            self.list.setCurrentRow(other)
            self.list.setFocus()
        else:
            self.diff.show_parts(())
            self._hint.setText("No version yet: one is kept at each first change.")
            self._restore.setEnabled(False)

    def show_outside(self, mine: str, theirs: str) -> None:
        """Show what the file says now beside what stands in the editor."""
        self._title.setText("Changed outside")
        self.list.hide()
        self._texts, self._now = [theirs], mine
        self._hint.setText("Struck out: only in the editor. Marked: only in the file.")
        self.diff.show_parts(diff(mine, theirs))
        self._restore.setEnabled(False)

    def set_now(self, text: str) -> None:
        """The present text changed."""
        self._now = text
        if self.list.isVisible():
            self._on_row_changed(self.list.currentRow())

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Escape closes."""
        if event.key() == Qt.Key.Key_Escape:
            self.close_wanted.emit()
        else:
            super().keyPressEvent(event)

    def _on_row_changed(self, at: int) -> None:
        if 0 <= at < len(self._texts):
            self.diff.show_parts(diff(self._now, self._texts[at]))
            self._restore.setEnabled(self._texts[at] != self._now)

    def _on_restore(self) -> None:
        at = self.list.currentRow()
        if 0 <= at < len(self._texts):
            self.restore_wanted.emit(self._texts[at])
