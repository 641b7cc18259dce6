"""Says that a caption was changed outside, with the three ways on."""

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame

from wan_studio.views.theme import GRID
from wan_studio.views.widgets import IconLabel, button, label, row


class OutsideBar(QFrame):
    """One line with buttons; nothing is lost by any of them.

    Signals:
        reload_wanted: Take what the file says.
        keep_wanted: Write what the editor says over it.
        diff_wanted: Show both.
    """

    reload_wanted = Signal()
    keep_wanted = Signal()
    diff_wanted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("banner")
        self._text = label("", wrap=True)
        reload = button("Reload", self.reload_wanted.emit, tip="Show what the file says now")
        keep = button(
            "Keep mine",
            self.keep_wanted.emit,
            tip="Write the editor's text; the file's is kept in the history",
        )
        diff = button("Show difference", self.diff_wanted.emit)
        layout = row(IconLabel("warning", "warn", 20), self._text, reload, keep, diff, gap=GRID, margins=GRID)
        layout.setStretch(1, 1)
        self.setLayout(layout)
        self.hide()

    def show_for(self, file_name: str) -> None:
        """Say it of this file."""
        self._text.setText(f"{file_name} was changed outside. It was left as it is.")
        self.setAccessibleName(self._text.text())
        self.show()
