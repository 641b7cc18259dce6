"""One setting as a row: name, field, unit, what was recommended, and what is wrong with it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from wan_studio.domain.project import Settings
from wan_studio.errors import AppError
from wan_studio.views.theme import GRID, numeric_font
from wan_studio.views.widgets import button, label, restyle, set_role

FieldKind = Literal["integer", "number", "choice", "resolutions"]
Choices: TypeAlias = tuple[tuple[Any, str], ...]


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """A setting as the page shows it.

    Attributes:
        name: `section.field`.
        label: The name that users know from the guides.
        rule: What is allowed, as a sentence that follows a wrong value.
        help: One sentence on what it does.
        step: What the up and down keys add, for whole numbers.
        optional: What an empty field stands for; empty when it may not be empty.
        choices: Value and text of each choice.
        group: Heading of its group among the advanced ones; empty for an essential one.
    """

    name: str
    label: str
    kind: FieldKind
    help: str
    rule: str = ""
    unit: str = ""
    step: int = 1
    optional: str = ""
    choices: Choices = ()
    group: str = ""

    @property
    def section(self) -> str:
        """The settings' section."""
        return self.name.partition(".")[0]

    @property
    def field(self) -> str:
        """The field in the section."""
        return self.name.partition(".")[2]

    def value_in(self, settings: Settings) -> Any:
        """Its value in these settings."""
        return getattr(getattr(settings, self.section), self.field)


class SettingRow(QWidget):
    """One setting.

    Signals:
        edited: The user gave it another valid value. args: FieldSpec, the new Settings
    """

    edited = Signal(object, object)

    def __init__(self, spec: FieldSpec, current: Callable[[], Settings]) -> None:
        super().__init__()
        self.spec = spec
        self._current = current
        self._recommended: Any = None
        self._problem = ""
        name = label(spec.label)
        name.setFixedWidth(192)
        name.setToolTip(spec.help)
        self._help = label(spec.help, "muted", wrap=True)
        self._unit = label(spec.unit, "muted")
        self._reset = button("", self._on_reset, role="link")
        self._reset.hide()
        self._line: QLineEdit | None = None
        self._combo: QComboBox | None = None
        self._boxes: dict[int, QCheckBox] = {}
        field = self._make_field()
        name.setBuddy(field)
        top = QHBoxLayout()
        top.setSpacing(GRID)
        top.addWidget(name)
        top.addWidget(field)
        top.addWidget(self._unit)
        top.addSpacing(GRID)
        top.addWidget(self._reset)
        top.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(top)
        below = QHBoxLayout()
        below.setContentsMargins(192 + GRID, 0, 0, 0)
        below.addWidget(self._help)
        layout.addLayout(below)

    @property
    def problem(self) -> str:
        """What is wrong with what stands in the field; empty when nothing is."""
        return self._problem

    def show_value(self, settings: Settings, recommended: Settings) -> None:
        """Show the value, and what was recommended when it differs."""
        value, self._recommended = self.spec.value_in(settings), self.spec.value_in(recommended)
        if not self._problem:
            self._fill(value)
        is_changed = value != self._recommended
        self._reset.setVisible(is_changed or bool(self._problem))
        self._reset.setText(f"Recommended: {self._worded(self._recommended)}")
        self._reset.setAccessibleName(
            f"Use the recommended {self.spec.label}: {self._worded(self._recommended)}"
        )

    def _make_field(self) -> QWidget:
        spec = self.spec
        if spec.kind == "choice":
            self._combo = QComboBox()
            for value, text in spec.choices:
                self._combo.addItem(text, value)
            self._combo.setMinimumWidth(200)
            self._combo.setAccessibleName(spec.label)
            self._combo.activated.connect(lambda _: self._take(self._combo.currentData()))  # type: ignore[union-attr]
            return self._combo
        if spec.kind == "resolutions":
            holder = QWidget()
            holder.setAccessibleName(spec.label)
            self._box_layout = QHBoxLayout(holder)
            self._box_layout.setContentsMargins(0, 0, 0, 0)
            self._box_layout.setSpacing(2 * GRID)
            for value, _ in spec.choices:
                self._add_box(int(value))
            return holder
        self._line = _NumberLine(spec.step if spec.kind == "integer" else 0)
        self._line.setFont(numeric_font())
        self._line.setFixedWidth(120)
        self._line.setAccessibleName(f"{spec.label} {spec.unit}".strip())
        self._line.setPlaceholderText(spec.optional)
        self._line.textEdited.connect(self._on_text_edited)
        return self._line

    def _add_box(self, resolution: int) -> None:
        box = QCheckBox(str(resolution))
        box.setAccessibleName(f"Resolution {resolution}")
        box.clicked.connect(self._on_boxes_clicked)
        self._boxes[resolution] = box
        self._box_layout.addWidget(box)

    def _fill(self, value: Any) -> None:
        if self._line is not None and not self._line.hasFocus():
            self._line.setText("" if value is None else self._worded(value))
        elif self._combo is not None:
            self._combo.setCurrentIndex(max(0, self._combo.findData(value)))
        elif self._boxes:
            for resolution in (*value, *self._recommended):
                if resolution not in self._boxes:
                    self._add_box(resolution)
            for resolution, box in self._boxes.items():
                box.setChecked(resolution in value)

    def _worded(self, value: Any) -> str:
        if value is None:
            return self.spec.optional
        if self.spec.kind == "choice":
            return next((text for choice, text in self.spec.choices if choice == value), str(value))
        if self.spec.kind == "resolutions":
            return ", ".join(str(resolution) for resolution in value)
        return f"{value:g}" if isinstance(value, float) else str(value)

    def _on_text_edited(self, text: str) -> None:
        stripped = text.strip()
        if not stripped and self.spec.optional:
            self._take(None)
            return
        try:
            value: Any = int(stripped) if self.spec.kind == "integer" else float(stripped.replace(",", "."))
        except ValueError:
            self._show_problem(self.spec.rule)
            return
        self._take(value)

    def _on_boxes_clicked(self) -> None:
        chosen = [resolution for resolution, box in sorted(self._boxes.items()) if box.isChecked()]
        if chosen:
            self._take(chosen)
        else:
            self._show_problem(self.spec.rule)

    def _take(self, value: Any) -> None:
        try:
            settings = self._current().with_values({self.spec.section: {self.spec.field: value}})
        except AppError:
            self._show_problem(self.spec.rule)
            return
        self._show_problem("")
        self.edited.emit(self.spec, settings)

    def _on_reset(self) -> None:
        self._show_problem("")
        value = list(self._recommended) if isinstance(self._recommended, tuple) else self._recommended
        if self._line is not None:
            self._line.setText("" if value is None else self._worded(self._recommended))
        self._take(value)

    def _show_problem(self, problem: str) -> None:
        self._problem = problem
        self._help.setText(f"{problem} The old value stays until then." if problem else self.spec.help)
        set_role(self._help, "bad" if problem else "muted")
        if problem:
            self._reset.show()
        if self._line is not None:
            self._line.setProperty("invalid", bool(problem))
            restyle(self._line)


class _NumberLine(QLineEdit):
    """A line for a number: the up and down keys change whole ones."""

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
