"""Fields whose text is the project's leave undo and redo to the window: there is one undo, over everything."""

from functools import cache

from PySide6.QtCore import QEvent, QObject
from PySide6.QtGui import QKeyEvent, QKeySequence
from PySide6.QtWidgets import QLineEdit


def is_undo_key(keys: QKeySequence) -> bool:
    """Whether these keys undo or redo: the system's own, and the window's."""
    return keys in _undo_keys()


@cache
def _undo_keys() -> tuple[QKeySequence, ...]:
    # Asked for while the program runs: Qt knows the system's keys only then.
    return (
        *QKeySequence.keyBindings(QKeySequence.StandardKey.Undo),
        *QKeySequence.keyBindings(QKeySequence.StandardKey.Redo),
        *map(QKeySequence, ("Ctrl+Z", "Ctrl+Shift+Z", "Ctrl+Y")),
    )


class _UndoKeys(QObject):
    """Keeps the keys of undo and redo from a field, which would take back its own typing alone."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Let the window have them; where it has nothing to undo, nothing happens."""
        del watched
        if isinstance(event, QKeyEvent) and is_undo_key(QKeySequence(event.keyCombination())):
            event.setAccepted(event.type() != QEvent.Type.ShortcutOverride)
            return True
        return False


def leave_undo_to_window(line: QLineEdit) -> None:
    """Ctrl+Z in this field undoes the project's last step."""
    line.installEventFilter(_UndoKeys(line))
