"""A timer for what is saved when the user pauses, and at the latest after a while when there is no pause."""

from PySide6.QtCore import QObject, QTimer, Signal

AT_THE_LATEST_MILLISECONDS = 600
"""From the first change to the save; the save itself has the rest of the second that a crash may cost."""


class SoonTimer(QObject):
    """Fires a little after the last `start`, but never later than `AT_THE_LATEST_MILLISECONDS` after the first.

    Signals:
        timeout: It is time.
    """

    timeout = Signal()

    def __init__(self, quiet_milliseconds: int, parent: QObject) -> None:
        """Make it, not yet started.

        Args:
            quiet_milliseconds: How long to wait for more.
            parent: Owns it.
        """
        super().__init__(parent)
        self._quiet = self._timer(quiet_milliseconds)
        self._latest = self._timer(AT_THE_LATEST_MILLISECONDS)

    @property
    def is_active(self) -> bool:
        """Whether it will fire."""
        return self._latest.isActive()

    def start(self) -> None:
        """Something changed."""
        self._quiet.start()
        if not self._latest.isActive():
            self._latest.start()

    def stop(self) -> None:
        """There is nothing to save any more."""
        self._quiet.stop()
        self._latest.stop()

    def _timer(self, milliseconds: int) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        timer.timeout.connect(self._on_timeout)
        return timer

    def _on_timeout(self) -> None:
        self.stop()
        self.timeout.emit()
