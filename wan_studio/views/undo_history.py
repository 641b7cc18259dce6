"""The steps that can be undone and done again, in a list: choosing one goes to the state right after it."""

from PySide6.QtCore import QModelIndex, Qt, QTimer
from PySide6.QtGui import QFont, QKeySequence, QShortcut
from PySide6.QtWidgets import QDialog, QListWidget, QListWidgetItem, QWidget

from wan_studio.bridge.project_session import ProjectSession
from wan_studio.views.theme import GRID, tone
from wan_studio.views.widgets import button, column, label, row
from wan_studio.views.wording import count

_OPENED = "Project as it was opened or made"
_WIDTH, _HEIGHT = 440, 520


class UndoHistory(QDialog):
    """Stays open beside the window; the window's own undo and redo move its mark."""

    def __init__(self, session: ProjectSession, parent: QWidget) -> None:
        super().__init__(parent)
        self._session = session
        self.setWindowTitle("Undo history")
        self.resize(_WIDTH, _HEIGHT)
        self._hint = label("", "muted", wrap=True)
        self.list = QListWidget()
        self.list.setAccessibleName("Steps, the oldest first")
        self.list.setUniformItemSizes(True)
        self.list.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.clicked.connect(self._on_chosen)
        self.list.activated.connect(self._on_chosen)
        stack = session.undo_stack
        self._undo = button("Undo", stack.undo, icon_name="arrow-u-up-left")
        self._redo = button("Redo", stack.redo, icon_name="arrow-u-up-right")
        layout = column(self._hint, self.list, row(self._undo, self._redo, None, button("Close", self.close)))
        layout.setContentsMargins(2 * GRID, 2 * GRID, 2 * GRID, 2 * GRID)
        layout.setStretch(1, 1)
        self.setLayout(layout)
        for key, act in (("Ctrl+Z", stack.undo), ("Ctrl+Shift+Z", stack.redo), ("Ctrl+Y", stack.redo)):
            QShortcut(QKeySequence(key), self, act)
        # Once for many changes: a jump over hundreds of steps is as many changes of the stack.
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.renew)
        stack.indexChanged.connect(lambda _: self._timer.start(0))
        session.project_opened.connect(self._timer.start)
        self.renew()
        self.list.setFocus()

    def renew(self) -> None:
        """Show the steps as they are."""
        stack = self._session.undo_stack
        texts = [_OPENED, *(stack.text(at) for at in range(stack.count()))]
        while self.list.count() > len(texts):
            self.list.takeItem(self.list.count() - 1)
        while self.list.count() < len(texts):
            self.list.addItem(QListWidgetItem())
        undone = QFont(self.list.font())
        undone.setItalic(True)
        muted, plain = tone("muted"), tone("text")
        for at, text in enumerate(texts):
            item, is_done = self.list.item(at), at <= stack.index()
            item.setText(text)
            item.setToolTip(text if is_done else f"{text}: undone, can be done again")
            item.setForeground(plain if is_done else muted)
            item.setFont(self.list.font() if is_done else undone)
        self.list.setCurrentRow(stack.index())
        self.list.scrollToItem(self.list.currentItem(), QListWidget.ScrollHint.PositionAtCenter)
        self._undo.setEnabled(stack.canUndo())
        self._undo.setToolTip(f"Undo {stack.undoText()} (Ctrl+Z)" if stack.canUndo() else "Nothing to undo")
        self._redo.setEnabled(stack.canRedo())
        self._redo.setToolTip(
            f"Redo {stack.redoText()} (Ctrl+Shift+Z)" if stack.canRedo() else "Nothing to redo"
        )
        left = stack.count() - stack.index()
        self._hint.setText(
            f"{count(stack.index(), 'step')} to undo, {count(left, 'step')} to redo. Choose a step to go to the state "
            "after it. The steps stay when the project is closed."
        )

    def _on_chosen(self, index: QModelIndex) -> None:
        self._session.go_to_step(index.row())


def show_undo_history(session: ProjectSession, window: QWidget) -> None:
    """Open the list, or bring it to the front."""
    shown = window.findChild(UndoHistory) or UndoHistory(session, window)
    shown.renew()
    shown.show()
    shown.raise_()
    shown.activateWindow()
