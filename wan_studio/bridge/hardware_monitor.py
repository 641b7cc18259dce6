"""What the machine is doing, once a second, asked on another thread."""

import logging
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer, Signal

from trainer.protocol.run_folder import RunFolder
from wan_studio.bridge.background import run_in_background
from wan_studio.bridge.run_watcher import WatchedRun
from wan_studio.domain.hardware import DiskUse, HardwareSnapshot
from wan_studio.domain.hardware_alerts import HELD_SAMPLES, Alert, StepPace, TrainingNow, alerts_of
from wan_studio.domain.hardware_history import HardwareHistory

if TYPE_CHECKING:
    from wan_studio.services.hardware_probe import HardwareProbe
    from wan_studio.services.own_processes import OwnProcesses

_log = logging.getLogger(__name__)

_INTERVAL_MILLISECONDS = 1000


@dataclass(frozen=True, slots=True)
class _Sample:
    """What one look brought.

    Attributes:
        seconds: When, by a clock that never goes back.
        own_pids: The shown run's processes, or a rehearsal's.
    """

    seconds: float
    snapshot: HardwareSnapshot
    own_pids: frozenset[int]


class HardwareMonitor(QObject):
    """Asks the probe once a second, never twice at a time.

    Signals:
        snapshot_taken: New figures. arg: HardwareSnapshot
        alerts_changed: There is something else to be told of. arg: tuple of Alerts, the worst first
    """

    snapshot_taken = Signal(object)
    alerts_changed = Signal(object)

    def __init__(self, folders: Mapping[DiskUse, Path], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.history = HardwareHistory()
        self._folders = dict(folders)
        self._probe: HardwareProbe | None = None
        self._own: OwnProcesses | None = None
        self._is_asking = False
        self._has_failed = False
        self._latest: HardwareSnapshot | None = None
        self._own_pids: frozenset[int] = frozenset()
        self._before: deque[HardwareSnapshot] = deque(maxlen=HELD_SAMPLES)
        self._alerts: tuple[Alert, ...] = ()
        self._run: RunFolder | None = None
        self._is_training = False
        self._rehearsal: RunFolder | None = None
        self._pace = StepPace()
        self._timer = QTimer(self)
        self._timer.setInterval(_INTERVAL_MILLISECONDS)
        self._timer.timeout.connect(self.ask)

    @property
    def latest(self) -> HardwareSnapshot | None:
        """The last figures; None until the first answer."""
        return self._latest

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """What is to be told of now, the worst first."""
        return self._alerts

    @property
    def own_pids(self) -> frozenset[int]:
        """Processes of the shown run, or of a rehearsal, at the last look: their memory is free for the next run."""
        return self._own_pids

    def set_folders(self, folders: Mapping[DiskUse, Path]) -> None:
        """Whose disks' free space is meant."""
        self._folders = dict(folders)

    def watch_training(self, watched: WatchedRun | None) -> None:
        """Whose memory is our own, and how long its steps take."""
        run = None if watched is None else watched.run
        if (run and run.path) != (self._run and self._run.path):
            self._run, self._pace = run, StepPace()
        self._is_training = watched is not None and (watched.is_running or watched.is_previewing)
        if watched is not None:
            self._pace.add(watched.state.step, watched.state.seconds_per_step)

    def watch_rehearsal(self, run: RunFolder | None) -> None:
        """Count the memory of a rehearsal as our own, too; None when it is over."""
        self._rehearsal = run

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
        folders, run = dict(self._folders), self._run if self._is_training else self._rehearsal
        run_in_background(lambda: self._take(folders, run), self._on_taken, self._on_failed)

    def _take(self, folders: Mapping[DiskUse, Path], run: RunFolder | None) -> _Sample:
        # Here, on the worker: the libraries behind it need not be there for the first window.
        from wan_studio.services.hardware_probe import HardwareProbe
        from wan_studio.services.own_processes import OwnProcesses

        if self._probe is None or self._own is None:
            self._probe, self._own = HardwareProbe(), OwnProcesses()
        snapshot = self._probe.snapshot(folders)
        if run is None:
            return _Sample(time.monotonic(), snapshot, frozenset())
        pids = {one.pid for gpu in snapshot.gpus for one in gpu.processes or ()}
        return _Sample(time.monotonic(), snapshot, self._own.among(pids, run))

    def _on_taken(self, sample: _Sample) -> None:
        self._is_asking = self._has_failed = False
        snapshot = sample.snapshot
        self._latest, self._own_pids = snapshot, sample.own_pids
        self.history.add(sample.seconds, snapshot)
        training = TrainingNow(self._is_training, sample.own_pids, self._pace.last, self._pace.usual)
        alerts = alerts_of(snapshot, tuple(self._before), training)
        self._before.append(snapshot)
        self.snapshot_taken.emit(snapshot)
        if alerts != self._alerts:
            self._alerts = alerts
            self.alerts_changed.emit(alerts)

    def _on_failed(self, error: Exception) -> None:
        # The next second is another try, with a probe that knows nothing of this one; a series is told of once.
        self._is_asking = False
        self._probe = None
        if not self._has_failed:
            _log.error("The hardware could not be looked at", exc_info=error)
        self._has_failed = True
