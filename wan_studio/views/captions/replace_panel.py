"""Find and replace, prefix, suffix and `[trigger]` over many captions: every change is seen before it is made."""

from collections.abc import Callable
from typing import Literal, cast

from PySide6.QtCore import QTimer, Signal
from PySide6.QtGui import QKeyEvent, Qt
from PySide6.QtWidgets import QCheckBox, QComboBox, QLineEdit, QListView, QWidget

from wan_studio.bridge.background import Task, run_in_background
from wan_studio.domain.caption_replace import (
    CaptionChange,
    FindReplace,
    InsertTrigger,
    Prefix,
    Rule,
    Suffix,
    changes_of,
)
from wan_studio.models.change_list_model import ChangeListModel
from wan_studio.views.captions.diff_view import ChangeRowDelegate
from wan_studio.views.widgets import button, column, label, row, set_role, tool_button

Scope = Literal["selected", "found", "all"]
_PREVIEW_AFTER_MILLISECONDS = 80
_RULES = ("Find and replace", "Put before", "Put after", "Insert [trigger]")
_SCOPES: tuple[tuple[str, Scope], ...] = (
    ("All captions", "all"),
    ("Captions found", "found"),
    ("Selected captions", "selected"),
)


class ReplacePanel(QWidget):
    """The rule above, its changes below.

    Signals:
        apply_wanted: Make the ticked changes. args: name of the step, list of CaptionChange
        close_wanted: Back to the clip.
    """

    apply_wanted = Signal(str, object)
    close_wanted = Signal()

    def __init__(
        self, captions_in: Callable[[Scope], dict[str, str]], names: Callable[[], dict[str, str]]
    ) -> None:
        """Make the panel.

        Args:
            captions_in: Gives the captions of a scope, by clip id.
            names: Gives the clips' names, by id.
        """
        super().__init__()
        self._captions_in = captions_in
        self._names = names
        self.trigger = ""
        self.model = ChangeListModel(self)
        self._task: Task[list[CaptionChange]] | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PREVIEW_AFTER_MILLISECONDS)
        self._timer.timeout.connect(self._preview)
        self._build()

    def open_with(self, found: str) -> None:
        """Begin, looking for this text."""
        if found:
            self.sought.setText(found)
        self._on_rule_changed()
        (self.sought if self.sought.isVisibleTo(self) else self.replacement).setFocus()
        self.sought.selectAll()

    def renew(self) -> None:
        """Captions or the selection changed."""
        if self.isVisible():
            self._timer.start()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Escape closes; Return applies."""
        if event.key() == Qt.Key.Key_Escape:
            self.close_wanted.emit()
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self._apply.isEnabled():
            self._on_apply()
        else:
            super().keyPressEvent(event)

    def _build(self) -> None:
        self.rule = QComboBox()
        self.rule.addItems(_RULES)
        self.rule.setAccessibleName("What to do")
        self.rule.currentIndexChanged.connect(self._on_rule_changed)
        self.scope = QComboBox()
        for words, value in _SCOPES:
            self.scope.addItem(words, value)
        self.scope.setAccessibleName("In which captions")
        self.scope.currentIndexChanged.connect(self._timer.start)
        self.sought = self._field("Find")
        self.replacement = self._field("Replace with")
        self.regex = self._option("Regular expression")
        self.case = self._option("Match case")
        self.whole = self._option("Whole words")
        self._options = QWidget()
        self._options.setLayout(row(self.regex, self.case, self.whole, None, gap=16))
        self._note = label("", "muted", wrap=True)
        self._list = QListView()
        self._list.setModel(self.model)
        self._list.setItemDelegate(ChangeRowDelegate(self._list))
        self._list.setUniformItemSizes(True)
        self._list.setAccessibleName("Changes")
        self.model.dataChanged.connect(self._renew_note)
        self._apply = button("Replace", self._on_apply, role="primary")
        close = tool_button("Close (Esc)", "x", self.close_wanted.emit)
        head = row(self.rule, self.scope, None, close)
        fields = row(self.sought, self.replacement)
        foot = row(self._note, self._apply)
        foot.setStretch(0, 1)
        self.setLayout(column(head, fields, self._options, self._list, foot))

    def _field(self, name: str) -> QLineEdit:
        made = QLineEdit()
        made.setPlaceholderText(name)
        made.setAccessibleName(name)
        made.textChanged.connect(self._timer.start)
        return made

    def _option(self, name: str) -> QCheckBox:
        made = QCheckBox(name)
        made.toggled.connect(self._timer.start)
        return made

    def _on_rule_changed(self) -> None:
        kind = self.rule.currentIndex()
        self.sought.setVisible(kind == 0)
        self._options.setVisible(kind == 0)
        self.replacement.setVisible(kind < len(_RULES) - 1)
        words = "Replace with" if kind == 0 else "Text, with its spaces and commas"
        self.replacement.setPlaceholderText(words)
        self._timer.start()

    def _wanted_rule(self) -> Rule | None:
        match self.rule.currentIndex():
            case 0:
                if not self.sought.text():
                    return None
                return FindReplace(
                    self.sought.text(),
                    self.replacement.text(),
                    is_regex=self.regex.isChecked(),
                    match_case=self.case.isChecked(),
                    whole_words=self.whole.isChecked(),
                )
            case 1:
                return Prefix(self.replacement.text())
            case 2:
                return Suffix(self.replacement.text())
            case _:
                return InsertTrigger(self.trigger)

    def _preview(self) -> None:
        if self._task is not None:
            self._task.cancel()
        rule = self._wanted_rule()
        captions = self._captions_in(cast("Scope", self.scope.currentData()))
        if rule is None:
            self._show([])
            return
        self._task = run_in_background(
            lambda: changes_of(rule, captions), self._show, self._on_error, urgent=True
        )
        self.destroyed.connect(self._task.cancel)

    def _show(self, changes: list[CaptionChange]) -> None:
        self.model.show_changes(changes, self._names())
        self._renew_note()

    def _on_error(self, error: Exception) -> None:
        self.model.show_changes([], {})
        self._apply.setText("Replace")
        self._apply.setEnabled(False)
        set_role(self._note, "bad")
        self._note.setText(str(error))

    def _renew_note(self) -> None:
        ticked = self.model.ticked
        places = sum(max(1, len(change.added)) for change in ticked)
        set_role(self._note, "muted")
        if not self.model.rowCount():
            self._note.setText("" if self._wanted_rule() is None else "Nothing would change.")
        else:
            self._note.setText(
                f"{_counted(places, 'place')} in {_counted(len(ticked), 'caption')} will change."
            )
        verb = "Replace" if self.rule.currentIndex() == 0 else "Insert"
        self._apply.setText(f"{verb} in {_counted(len(ticked), 'caption')}" if ticked else verb)
        self._apply.setEnabled(bool(ticked))

    def _on_apply(self) -> None:
        ticked = self.model.ticked
        verb = ("Replace", "Put text before", "Put text after", "Insert [trigger]")[self.rule.currentIndex()]
        joint = " in " if self.rule.currentIndex() in (0, 3) else " "
        self.apply_wanted.emit(f"{verb}{joint}{_counted(len(ticked), 'caption')}", ticked)


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
