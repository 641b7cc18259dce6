"""F1: every action and its key, over the window."""

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeyEvent, QKeySequence, QMouseEvent
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from wan_studio.views.actions import ACTIONS, ActionSpec
from wan_studio.views.theme import GRID, tones
from wan_studio.views.widgets import label, row, scrolled, tool_button

_WIDE = 16
"""So many letters of keys would push the columns beyond a small window."""


class ShortcutOverlay(QWidget):
    """Covers its parent until a key or a click closes it."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Keyboard shortcuts")
        self.setGeometry(parent.rect())
        colours = tones()
        self.setStyleSheet(f"ShortcutOverlay {{ background: {colours.window}; }}")
        head = row(label("Keyboard shortcuts", "title"), None, tool_button("Close", "x", self.close))
        hint = label("Single letters act while no text field has the focus.", "muted")
        columns = QWidget()
        layout = QHBoxLayout(columns)
        layout.setSpacing(3 * GRID)
        layout.setContentsMargins(0, 0, 0, 0)
        for groups in _columns():
            side = QVBoxLayout()
            side.setSpacing(2 * GRID)
            for title, specs in groups:
                side.addWidget(_group(title, specs))
            side.addStretch(1)
            layout.addLayout(side, 1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(4 * GRID, 3 * GRID, 4 * GRID, 3 * GRID)
        outer.setSpacing(GRID)
        outer.addLayout(head)
        outer.addWidget(hint)
        outer.addWidget(scrolled(columns, name="Keyboard shortcuts"), 1)
        self.show()
        self.setFocus()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Any key but a bare modifier closes it."""
        if event.key() not in (Qt.Key.Key_Shift, Qt.Key.Key_Control, Qt.Key.Key_Alt, Qt.Key.Key_Meta):
            self.close()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """A click beside the text closes it."""
        event.accept()
        self.close()


def _columns() -> list[list[tuple[str, list[ActionSpec]]]]:
    keyed = [spec for spec in ACTIONS if spec.keys or spec.held]
    player = [spec for spec in keyed if spec.name.startswith("play.")]
    trim = [spec for spec in keyed if spec.name.startswith("trim.")]
    clips = [spec for spec in keyed if spec.name.startswith(("clip.", "caption."))]
    pages = [spec for spec in keyed if spec.name.startswith("view.")]
    rest = [spec for spec in keyed if spec not in (*player, *trim, *clips, *pages)]
    return [
        [("Pages", pages)],
        [("Player", player), ("Everywhere", rest)],
        [("Trim", trim), ("Clips and captions", clips)],
    ]


def _group(title: str, specs: list[ActionSpec]) -> QFrame:
    frame = QFrame()
    frame.setObjectName("card")
    grid = QGridLayout(frame)
    grid.setContentsMargins(2 * GRID, GRID + 4, 2 * GRID, GRID + 4)
    grid.setHorizontalSpacing(2 * GRID)
    grid.setVerticalSpacing(GRID // 2)
    grid.addWidget(label(title, "section"), 0, 0, 1, 2)
    for number, spec in enumerate(specs, 1):
        key_label = label(_keys_of(spec), "accent")
        key_label.setAlignment(Qt.AlignmentFlag.AlignRight)
        grid.addWidget(label(spec.text), number, 0)
        grid.addWidget(key_label, number, 1)
    grid.setColumnStretch(0, 1)
    return frame


def _keys_of(spec: ActionSpec) -> str:
    """Its keys; the second one where there is room for it."""
    if spec.held:
        return " + ".join(spec.held)
    keys = [QKeySequence(key).toString(QKeySequence.SequenceFormat.NativeText) for key in spec.keys]
    both = ", ".join(keys[:2])
    return both if len(both) < _WIDE else keys[0]
