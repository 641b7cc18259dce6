"""Python's garbage, collected on the GUI thread alone.

Python collects cycles on whichever thread happens to allocate. A Qt object that is part of one would be
deleted on a worker's thread while the GUI thread still has an event for it, and the program crashes.
"""

import gc

from PySide6.QtCore import QObject, QTimer, Slot

INTERVAL_MILLISECONDS = 500


class GarbageCollector(QObject):
    """Takes over from Python's own collection for as long as it lives, on the thread that made it."""

    def __init__(self) -> None:
        super().__init__()
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
        if due:
            gc.collect(due[-1])

    def stop(self) -> None:
        """Give collection back to Python."""
        self._timer.stop()
        gc.enable()
