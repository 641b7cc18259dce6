"""One setting as a row: name, field, unit, what was recommended, and what is wrong with it."""

from collections.abc import Callable
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from wan_studio.domain.project import Settings
from wan_studio.errors import AppError
from wan_studio.views.theme import GRID
from wan_studio.views.training.editors import make_editor
from wan_studio.views.training.specs import FieldSpec
from wan_studio.views.widgets import button, label, set_role

_NAME_WIDTH = 208


class SettingRow(QWidget):
    """One setting.

    Signals:
        edited: The user gave it another valid value. args: FieldSpec, the new Settings
        problem_changed: What stands in it is wrong now, or right again.
    """

    edited = Signal(object, object)
    problem_changed = Signal()

    def __init__(self, spec: FieldSpec, current: Callable[[], Settings]) -> None:
        super().__init__()
        self.spec = spec
        self._current = current
        self._recommended: Any = None
        self._problem = ""
        self._words = spec.help
        self._shown: tuple[Any, ...] = ()
        name = label(spec.label)
        name.setFixedWidth(_NAME_WIDTH)
        name.setToolTip(spec.help)
        self._help = label(spec.help, "muted", wrap=True)
        self._remark = label("", "warn", wrap=True)
        self._reset = button("", self.use_recommended, role="link")
        self._reset.hide()
        self.editor = make_editor(spec)
        self.editor.entered.connect(self._take)
        self.editor.misread.connect(lambda: self._show_problem(spec.rule))
        name.setBuddy(self.editor.field)
        top = QHBoxLayout()
        top.setSpacing(GRID)
        top.addWidget(name)
        top.addWidget(self.editor)
        if spec.unit:
            top.addWidget(label(spec.unit, "muted"))
        top.addWidget(self._reset)
        top.addStretch(1)
        below = QVBoxLayout()
        below.setContentsMargins(_NAME_WIDTH + GRID, 0, 0, 0)
        below.setSpacing(2)
        below.addWidget(self._help)
        below.addWidget(self._remark)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(top)
        layout.addLayout(below)
        self._remark.hide()

    @property
    def problem(self) -> str:
        """What is wrong with what stands in the field; empty when nothing is."""
        return self._problem

    @property
    def remark(self) -> str:
        """What is doubtful about the value; empty when nothing is."""
        return "" if self._remark.isHidden() else self._remark.text()

    def show_value(self, settings: Settings, recommended: Settings) -> None:
        """Show the value, and what was recommended when it differs."""
        value, self._recommended = self.spec.value_in(settings), self.spec.value_in(recommended)
        is_shown = self.spec.is_shown_in(settings)
        if not is_shown:
            # A value that is not looked at must not stand in the way.
            self._show_problem("")
        remark = self.spec.remark(settings) if self.spec.remark is not None else ""
        shown = (value, self._recommended, remark, self._problem)
        if shown == self._shown:
            return
        self._shown = shown
        if not self._problem:
            self.editor.fill(value)
        unit = f" {self.spec.unit}" if self.spec.unit and self._recommended is not None else ""
        words = f"Recommended: {self.spec.worded(self._recommended) or 'none'}{unit}"
        self._reset.setVisible(value != self._recommended or bool(self._problem))
        self._reset.setText(words)
        self._reset.setAccessibleName(f"{self.spec.label}, {words[0].lower()}{words[1:]}")
        self._remark.setText(remark)
        self._remark.setVisible(bool(remark))

    def explain(self, reason: str) -> None:
        """Say under the field why its value is recommended, instead of what it does; empty says that again."""
        self._words = reason or self.spec.help
        if not self._problem:
            self._help.setText(self._words)

    def use_recommended(self) -> None:
        """Put the value back to what was recommended."""
        self._show_problem("")
        self.editor.fill(self._recommended)
        self._take(list(self._recommended) if isinstance(self._recommended, tuple) else self._recommended)

    def _take(self, value: Any) -> None:
        try:
            settings = self._current().with_values({self.spec.section: {self.spec.field: value}})
        except AppError:
            self._show_problem(self.spec.rule)
            return
        self._show_problem("")
        self.edited.emit(self.spec, settings)

    def _show_problem(self, problem: str) -> None:
        if problem == self._problem:
            return
        self._problem = problem
        self._help.setText(f"{problem} The old value stays until then." if problem else self._words)
        set_role(self._help, "bad" if problem else "muted")
        if problem:
            self._reset.show()
        self.editor.set_invalid(is_invalid=bool(problem))
        self.problem_changed.emit()


def indented(part: QWidget) -> QHBoxLayout:
    """A part that stands under the fields, not under their names."""
    layout = QHBoxLayout()
    layout.setContentsMargins(_NAME_WIDTH + GRID, 0, 0, 0)
    layout.addWidget(part, 100)
    layout.addStretch(1)
    return layout
