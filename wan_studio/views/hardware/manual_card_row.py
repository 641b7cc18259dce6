"""A card that the user names: its memory, and its series."""

from PySide6.QtCore import Signal
from PySide6.QtGui import QIntValidator
from PySide6.QtWidgets import QCheckBox, QComboBox, QLineEdit, QVBoxLayout, QWidget

from wan_studio.domain.manual_card import FEWEST_GIB, MOST_GIB, SERIES, ManualCard
from wan_studio.views.theme import GRID, numeric_font
from wan_studio.views.widgets import label, restyle, row

_USUAL_SERIES = 2


class ManualCardRow(QWidget):
    """Where this machine has no usable GPU the fields stand there; where it has one, on request.

    Signals:
        chosen: Another card, or none, is to be planned for. arg: ManualCard or None
    """

    chosen = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._has_gpu = True
        self._shown: ManualCard | None = None
        self._wanted = QCheckBox("Plan for another card")
        self._wanted.clicked.connect(self._on_wanted)
        self._size = QLineEdit()
        self._size.setFixedWidth(72)
        self._size.setFont(numeric_font())
        self._size.setValidator(QIntValidator(0, 9999, self))
        self._size.setPlaceholderText("24")
        self._size.setAccessibleName("Memory of the card to plan for, GiB")
        self._size.textEdited.connect(lambda _: self._choose())
        self._series = QComboBox()
        self._series.setAccessibleName("Series of the card to plan for")
        for name, _ in SERIES:
            self._series.addItem(name)
        self._series.setCurrentIndex(_USUAL_SERIES)
        self._series.activated.connect(lambda _: self._choose())
        self._before = label("Plan for a card of")
        self._before.setBuddy(self._size)
        self._problem = label("", "bad")
        self._fields = QWidget()
        layout = row(
            self._before, self._size, label("GiB", "muted"), self._series, self._problem, None, gap=GRID
        )
        layout.setContentsMargins(0, 0, 0, 0)
        self._fields.setLayout(layout)
        self._note = label("RAM and disk are taken to be this machine's.", "muted")
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(GRID)
        for part in (self._wanted, self._fields, self._note):
            whole.addWidget(part)
        self._show()

    def show_card(self, card: ManualCard | None) -> None:
        """Show the card that is planned for."""
        self._wanted.setChecked(card is not None)
        if card is None and self._shown is not None:
            self._size.clear()
        self._shown = card
        if card is not None and card != self._card():
            self._size.setText(str(card.gib))
            self._series.setCurrentIndex([one for _, one in SERIES].index(card.capability))
        self._show()

    def set_has_gpu(self, has_gpu: bool) -> None:  # noqa: FBT001 - a setter, as Qt has them
        """Whether this machine has a GPU to plan for."""
        if has_gpu != self._has_gpu:
            self._has_gpu = has_gpu
            self._show()

    def _card(self) -> ManualCard | None:
        text = self._size.text()
        if not text or not FEWEST_GIB <= int(text) <= MOST_GIB:
            return None
        return ManualCard(int(text), SERIES[self._series.currentIndex()][1])

    def _choose(self) -> None:
        card, text = self._card(), self._size.text()
        is_wrong = bool(text) and card is None
        self._problem.setText(f"From {FEWEST_GIB} to {MOST_GIB} GiB." if is_wrong else "")
        self._size.setProperty("invalid", is_wrong)
        restyle(self._size)
        if not is_wrong:
            self.chosen.emit(card)

    def _on_wanted(self, is_wanted: bool) -> None:  # noqa: FBT001 - a slot
        if is_wanted and not self._size.text():
            self._size.setText(self._size.placeholderText())
        self._show()
        self.chosen.emit(self._card() if is_wanted else None)

    def _show(self) -> None:
        self._wanted.setVisible(self._has_gpu)
        is_open = self._wanted.isChecked() or not self._has_gpu
        self._fields.setVisible(is_open)
        self._note.setVisible(is_open)
