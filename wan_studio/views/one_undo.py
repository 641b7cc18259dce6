"""Fields whose text is the project's leave undo and redo to the window: there is one undo, over everything."""

from PySide6.QtCore import QEvent, QObject
from PySide6.QtGui import QKeyEvent, QKeySequence
from PySide6.QtWidgets import QLineEdit

UNDO_KEYS = (
    *QKeySequence.keyBindings(QKeySequence.StandardKey.Undo),
    *QKeySequence.keyBindings(QKeySequence.StandardKey.Redo),
    QKeySequence("Ctrl+Z"),
    QKeySequence("Ctrl+Shift+Z"),
    QKeySequence("Ctrl+Y"),
)


class _UndoKeys(QObject):
    """Keeps the keys of undo and redo from a field, which would take back its own typing alone."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Let the window have them; where it has nothing to undo, nothing happens."""
        del watched
        if isinstance(event, QKeyEvent) and QKeySequence(event.keyCombination()) in UNDO_KEYS:
            event.setAccepted(event.type() != QEvent.Type.ShortcutOverride)
            return True
        return False


def leave_undo_to_window(line: QLineEdit) -> None:
    """Ctrl+Z in this field undoes the project's last step."""
    line.installEventFilter(_UndoKeys(line))
