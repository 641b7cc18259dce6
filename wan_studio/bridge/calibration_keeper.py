"""What was measured on this machine, kept up to date by the runs that the window watches."""

import logging
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from trainer.protocol.run_folder import RunFolder
from wan_studio.bridge.background import run_in_background
from wan_studio.bridge.run_watcher import WatchedRun
from wan_studio.domain.calibration import Calibration, CalibrationRecord
from wan_studio.domain.run_state import RunState
from wan_studio.services.calibration_store import LoadedCalibration, load_calibration
from wan_studio.services.run_calibration import News, RunCalibrator, news_of

_log = logging.getLogger(__name__)
Taken = Callable[[tuple[CalibrationRecord, ...]], object]


class CalibrationKeeper(QObject):
    """Learns from runs, off the GUI thread; what cannot be stored stops nothing.

    Signals:
        calibrated: `calibration` is another one, for a run has measured something or it was loaded. arg: tuple of
            the CalibrationRecords that are new; empty when it was loaded
    """

    calibrated = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.calibrator = RunCalibrator()
        self._calibration = Calibration()
        self._seen: tuple[Path, News] | None = None

    @property
    def calibration(self) -> Calibration:
        """All measurements; none until they are loaded."""
        return self._calibration

    def load(self) -> None:
        """Read the measurements from the disk; `calibrated` tells when they are there."""
        task = run_in_background(load_calibration, self._on_loaded)
        self.destroyed.connect(task.cancel)

    def watch(self, watched: WatchedRun | None) -> None:
        """Learn what is new of the shown run."""
        if watched is None:
            return
        news = news_of(watched.state)
        if news is not None and (watched.run.path, news) != self._seen:
            self._seen = watched.run.path, news
            self.take_in(watched.run, watched.state, lambda _: None)

    def take_in(self, run: RunFolder, state: RunState, on_taken: Taken) -> None:
        """Learn from a run.

        Args:
            run: Any that this machine runs, or a rehearsal.
            state: By its events.
            on_taken: Called with what is new.
        """

        def work() -> tuple[tuple[CalibrationRecord, ...], Calibration]:
            records = self.calibrator.take_in(run, state)
            return records, load_calibration().calibration if records else self._calibration

        def on_done(taken: tuple[tuple[CalibrationRecord, ...], Calibration]) -> None:
            records, calibration = taken
            if records:
                self._set(calibration, records)
            on_taken(records)

        def on_error(error: Exception) -> None:
            _log.error("Nothing could be learnt from %s", run.path, exc_info=error)
            on_taken(())

        run_in_background(work, on_done, on_error)

    def _on_loaded(self, loaded: LoadedCalibration) -> None:
        self._set(loaded.calibration, ())

    def _set(self, calibration: Calibration, records: tuple[CalibrationRecord, ...]) -> None:
        self._calibration = calibration
        self.calibrated.emit(records)
