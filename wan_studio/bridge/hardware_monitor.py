"""What the machine is doing, once a second, asked on another thread."""

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer, Signal

from wan_studio.bridge.background import run_in_background

if TYPE_CHECKING:
    from wan_studio.services.hardware_probe import HardwareProbe, HardwareSnapshot

_INTERVAL_MILLISECONDS = 1000


class HardwareMonitor(QObject):
    """Asks the probe once a second, never twice at a time.

    Signals:
        snapshot_taken: New figures. arg: HardwareSnapshot
    """

    snapshot_taken = Signal(object)

    def __init__(self, folder: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._folder = folder
        self._probe: HardwareProbe | None = None
        self._is_asking = False
        self._latest: HardwareSnapshot | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(_INTERVAL_MILLISECONDS)
        self._timer.timeout.connect(self.ask)

    @property
    def latest(self) -> "HardwareSnapshot | None":
        """The last figures; None until the first answer."""
        return self._latest

    def set_folder(self, folder: Path) -> None:
        """Whose disk's free space is meant."""
        self._folder = folder

    def start(self) -> None:
        """Ask now, and then every second."""
        self.ask()
        self._timer.start()

    def stop(self) -> None:
        """Ask no more."""
        self._timer.stop()

    def ask(self) -> None:
        """Ask once; does nothing while an answer is awaited."""
        if self._is_asking:
            return
        self._is_asking = True
        run_in_background(self._take, self._on_taken, self._on_failed)

    def _take(self) -> "HardwareSnapshot":
        # Here, on the worker: the libraries behind it need not be there for the first window.
        from wan_studio.services.hardware_probe import HardwareProbe

        if self._probe is None:
            self._probe = HardwareProbe()
        return self._probe.snapshot(self._folder)

    def _on_taken(self, snapshot: "HardwareSnapshot") -> None:
        self._is_asking = False
        self._latest = snapshot
        self.snapshot_taken.emit(snapshot)

    def _on_failed(self, error: Exception) -> None:
        self._is_asking = False
        self._timer.stop()
        raise error
