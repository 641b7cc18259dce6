"""Another learning rate for a run at work: a link that becomes a field."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QWidget

from wan_studio.views.theme import GRID, numeric_font
from wan_studio.views.widgets import button, label, restyle

_RULE = "It must be a number above 0 and at most 1, e.g. 5e-5."


class RateRow(QWidget):
    """Asks for a learning rate only when it is wanted.

    Signals:
        wanted: Train on with this learning rate. arg: float
    """

    wanted = Signal(float)

    def __init__(self) -> None:
        super().__init__()
        self._rate = 0.0
        self.open_button = button("Change learning rate…", self.open, role="link")
        self._problem = label("", "bad")
        self.line = QLineEdit()
        self.line.setFixedWidth(112)
        self.line.setFont(numeric_font())
        self.line.setAccessibleName("New learning rate")
        self.line.setToolTip(
            "For both experts, from the next step on; warm-up and schedule still apply to it"
        )
        self.line.returnPressed.connect(self._apply)
        self.line.textEdited.connect(lambda _: self._show_problem(""))
        self._apply_button = button("Apply", self._apply)
        self._cancel_button = button("Cancel", self.close_field)
        self._name = label("New learning rate", "muted")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(GRID)
        for part in (
            self._problem,
            self._name,
            self.line,
            self._apply_button,
            self._cancel_button,
            self.open_button,
        ):
            layout.addWidget(part)
        self._show_field(is_open=False)

    def show_rate(self, learning_rate: float) -> None:
        """Take the rate that the field begins with."""
        self._rate = learning_rate

    def open(self) -> None:
        """Ask for a rate."""
        self.line.setText(f"{self._rate:.12g}" if self._rate else "")
        self._show_field(is_open=True)
        self.line.setFocus()
        self.line.selectAll()

    def close_field(self) -> None:
        """Leave the rate as it is."""
        self._show_field(is_open=False)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Escape leaves the rate as it is."""
        if event.key() == Qt.Key.Key_Escape and not self.line.isHidden():
            self.close_field()
            return
        super().keyPressEvent(event)

    def _apply(self) -> None:
        try:
            rate = float(self.line.text().strip().replace(",", "."))
        except ValueError:
            rate = 0.0
        if not 0.0 < rate <= 1.0:
            self._show_problem(_RULE)
            return
        self._show_field(is_open=False)
        self.wanted.emit(rate)

    def _show_field(self, *, is_open: bool) -> None:
        for part in (self._name, self.line, self._apply_button, self._cancel_button):
            part.setVisible(is_open)
        self.open_button.setVisible(not is_open)
        self._show_problem("")

    def _show_problem(self, problem: str) -> None:
        self._problem.setText(problem)
        self._problem.setVisible(bool(problem))
        self.line.setProperty("invalid", bool(problem))
        restyle(self.line)
