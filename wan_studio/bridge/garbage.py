"""Python's garbage, collected on the GUI thread alone.

Python collects cycles on whichever thread happens to allocate. A Qt object that is part of one would be
deleted on a worker's thread while the GUI thread still has an event for it, and the program crashes.
"""

import gc
import time

from PySide6.QtCore import QObject, Qt, QTimer, Slot
from PySide6.QtGui import QGuiApplication

INTERVAL_MILLISECONDS = 500
_THAW_EVERY_SECONDS = 300.0


class GarbageCollector(QObject):
    """Takes over from Python's own collection for as long as it lives, on the thread that made it.

    What survives a collection of everything is set aside: with thousands of clips the next one would take a
    tenth of a second to find it alive again. It is looked through when nobody waits for the window.
    """

    def __init__(self) -> None:
        super().__init__()
        self._thawed_at = time.monotonic()
        self._timer = QTimer(self)
        self._timer.setInterval(INTERVAL_MILLISECONDS)
        self._timer.timeout.connect(self.collect_due)
        gc.disable()
        self._timer.start()

    @Slot()
    def collect_due(self) -> None:
        """Collect the oldest generation that Python would have collected by now, if any."""
        due = [
            generation
            for generation, (count, threshold) in enumerate(
                zip(gc.get_count(), gc.get_threshold(), strict=True)
            )
            if threshold and count > threshold
        ]
        if not due:
            return
        if due[-1] < len(gc.get_threshold()) - 1:
            gc.collect(due[-1])
            return
        app = QGuiApplication.instance()
        is_watched = (
            isinstance(app, QGuiApplication)
            and app.applicationState() == Qt.ApplicationState.ApplicationActive
        )
        if not is_watched and time.monotonic() - self._thawed_at > _THAW_EVERY_SECONDS:
            self.collect_all()
            return
        gc.collect()
        gc.freeze()

    @Slot()
    def collect_all(self) -> None:
        """Look through what was set aside, too: after a project was closed, or while nobody looks."""
        self._thawed_at = time.monotonic()
        gc.unfreeze()
        gc.collect()
        gc.freeze()

    def stop(self) -> None:
        """Give collection back to Python."""
        self._timer.stop()
        gc.unfreeze()
        gc.enable()
