"""The field of a setting: one small editor a kind, all with the same three words to speak."""

from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QCheckBox, QComboBox, QFileDialog, QHBoxLayout, QLineEdit, QWidget

from wan_studio.views.one_undo import leave_undo_to_window
from wan_studio.views.theme import GRID, numeric_font
from wan_studio.views.training.specs import FieldSpec
from wan_studio.views.widgets import ElidedLabel, button, restyle

_NUMBER_WIDTH = 128
_TEXT_WIDTH = 360


class Editor(QWidget):
    """Base of the editors.

    Signals:
        entered: The user gave it a value, which may still be out of range. arg: the value
        misread: What stands in it is no value at all.
    """

    entered = Signal(object)
    misread = Signal()

    def __init__(self, spec: FieldSpec) -> None:
        super().__init__()
        self.spec = spec
        self._layout = QHBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(GRID)

    @property
    def field(self) -> QWidget:
        """What takes the keys."""
        return self

    def fill(self, value: Any) -> None:
        """Show this value."""
        raise NotImplementedError

    def set_invalid(self, *, is_invalid: bool) -> None:
        """Mark it as wrong, or as right again."""


class LineEditor(Editor):
    """A line for a number, a text or a list of words."""

    def __init__(self, spec: FieldSpec) -> None:
        super().__init__(spec)
        is_number = spec.kind in ("integer", "number", "percent", "numbers")
        self._line = _Line(spec.step if spec.kind == "integer" else 0)
        self._line.setFixedWidth(_NUMBER_WIDTH if is_number else _TEXT_WIDTH)
        self._line.setAccessibleName(f"{spec.label} {spec.unit}".strip())
        self._line.setPlaceholderText(spec.optional)
        if is_number:
            self._line.setFont(numeric_font())
        self._line.textEdited.connect(self._on_edited)
        leave_undo_to_window(self._line)
        self._layout.addWidget(self._line)

    @property
    def field(self) -> QWidget:
        """The line."""
        return self._line

    def fill(self, value: Any) -> None:
        """Show this value; a line that says the same in other words keeps them."""
        try:
            says_it_already = self._parsed(self._line.text()) == value
        except ValueError:
            says_it_already = False
        if not says_it_already:
            self._line.setText("" if value is None else self.spec.worded(value))
            self._line.setCursorPosition(0)

    def set_invalid(self, *, is_invalid: bool) -> None:
        """Draw its border in red, or not."""
        self._line.setProperty("invalid", is_invalid)
        restyle(self._line)

    def _on_edited(self, text: str) -> None:
        try:
            value = self._parsed(text)
        except ValueError:
            self.misread.emit()
            return
        self.entered.emit(list(value) if isinstance(value, tuple) else value)

    def _parsed(self, text: str) -> Any:
        stripped = text.strip()
        match self.spec.kind:
            case "words":
                return tuple(part.strip() for part in stripped.split(",") if part.strip())
            case "numbers":
                return tuple(int(part) for part in stripped.split(",") if part.strip())
            case "text":
                return stripped
            case _ if not stripped and self.spec.optional:
                return None
            case "integer":
                return int(stripped)
            case "percent":
                return float(stripped.rstrip("% ").replace(",", ".")) / 100
            case _:
                return float(stripped.replace(",", "."))


class ChoiceEditor(Editor):
    """A list of choices; None may be one of them."""

    def __init__(self, spec: FieldSpec) -> None:
        super().__init__(spec)
        self._combo = QComboBox()
        for _, text in spec.choices:
            self._combo.addItem(text)
        self._combo.setMinimumWidth(200)
        self._combo.setAccessibleName(spec.label)
        self._combo.activated.connect(lambda at: self.entered.emit(spec.choices[at][0]))
        self._layout.addWidget(self._combo)

    @property
    def field(self) -> QWidget:
        """The list."""
        return self._combo

    def fill(self, value: Any) -> None:
        """Show this value."""
        values = [choice for choice, _ in self.spec.choices]
        self._combo.setCurrentIndex(values.index(value) if value in values else -1)


class SwitchEditor(Editor):
    """On or off."""

    def __init__(self, spec: FieldSpec) -> None:
        super().__init__(spec)
        self._box = QCheckBox("On")
        self._box.setAccessibleName(spec.label)
        self._box.clicked.connect(lambda: self.entered.emit(self._box.isChecked()))
        self._layout.addWidget(self._box)

    @property
    def field(self) -> QWidget:
        """The box."""
        return self._box

    def fill(self, value: Any) -> None:
        """Show this value."""
        self._box.setChecked(bool(value))


class ResolutionsEditor(Editor):
    """One box a resolution; values that the project has beyond the usual ones get their own."""

    def __init__(self, spec: FieldSpec) -> None:
        super().__init__(spec)
        self.setAccessibleName(spec.label)
        self._layout.setSpacing(2 * GRID)
        self._boxes: dict[int, QCheckBox] = {}
        for value, _ in spec.choices:
            self._add_box(int(value))

    def fill(self, value: Any) -> None:
        """Show this value."""
        for resolution in value:
            if resolution not in self._boxes:
                self._add_box(resolution)
        for resolution, box in self._boxes.items():
            box.setChecked(resolution in value)

    def _add_box(self, resolution: int) -> None:
        box = QCheckBox(str(resolution))
        box.setAccessibleName(f"Resolution {resolution}")
        box.clicked.connect(self._on_clicked)
        self._boxes[resolution] = box
        self._layout.insertWidget(sorted(self._boxes).index(resolution), box)

    def _on_clicked(self) -> None:
        chosen = [resolution for resolution, box in sorted(self._boxes.items()) if box.isChecked()]
        if chosen:
            self.entered.emit(chosen)
        else:
            self.misread.emit()


class FileEditor(Editor):
    """A file of weights, chosen in the system's own dialog."""

    def __init__(self, spec: FieldSpec) -> None:
        super().__init__(spec)
        self._path = ElidedLabel("", "muted")
        self._path.setFixedWidth(_TEXT_WIDTH - 160)
        self._choose = button("Choose…", self._on_choose)
        self._choose.setAccessibleName(f"Choose a file: {spec.label}")
        self._clear = button("Clear", lambda: self.entered.emit(""))
        self._clear.setAccessibleName(f"No file: {spec.label}")
        for part in (self._path, self._choose, self._clear):
            self._layout.addWidget(part)

    @property
    def field(self) -> QWidget:
        """The button that asks for a file."""
        return self._choose

    def fill(self, value: Any) -> None:
        """Show this value."""
        self._path.set_text(value or self.spec.optional)
        self._clear.setEnabled(bool(value))

    def take_file(self, path: Path) -> None:
        """Use this file."""
        self.entered.emit(str(path.absolute()))

    def _on_choose(self) -> None:
        start = self._path.whole_text if self._clear.isEnabled() else ""
        chosen, _ = QFileDialog.getOpenFileName(
            self, self.spec.label, start, "Weights (*.safetensors *.pth);;All files (*)"
        )
        if chosen:
            self.take_file(Path(chosen))


class _Line(QLineEdit):
    """A line: the up and down keys change whole numbers."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._step = step

    def keyPressEvent(self, event: QKeyEvent) -> None:
        direction = {Qt.Key.Key_Up: 1, Qt.Key.Key_Down: -1}.get(Qt.Key(event.key()), 0)
        if not direction or not self._step or not self.text().strip().isdigit():
            super().keyPressEvent(event)
            return
        self.setText(str(max(0, int(self.text()) + direction * self._step)))
        self.textEdited.emit(self.text())


def make_editor(spec: FieldSpec) -> Editor:
    """The editor for this kind of setting."""
    kinds: dict[str, type[Editor]] = {
        "choice": ChoiceEditor,
        "switch": SwitchEditor,
        "resolutions": ResolutionsEditor,
        "file": FileEditor,
    }
    return kinds.get(spec.kind, LineEditor)(spec)
