"""Learns from runs of this machine: what they measure goes into `calibration.json`, and never stops a run."""

import logging
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec

from trainer.protocol.events import MemoryReport, WorkMeasured
from trainer.protocol.run_folder import RunFolder
from trainer.protocol.wire import WireError
from wan_studio.domain.calibration import CalibrationRecord
from wan_studio.domain.calibration_intake import MeasuredWhere, measured_gpu, records_of
from wan_studio.domain.hardware import HardwareSnapshot
from wan_studio.domain.run_state import RunState
from wan_studio.services.calibration_store import add_records
from wan_studio.services.run_process import ran_here

_log = logging.getLogger(__name__)
PATIENCE_SECONDS = 30.0
"""After what could not be stored, until it is tried again: runs are looked at several times a second."""

News = tuple[float, tuple[WorkMeasured, ...], tuple[MemoryReport, ...]]
"""What of a run's state there is to learn from: when its process began, and what that has told."""


def news_of(state: RunState) -> News | None:
    """What there is to learn from; None where there is nothing."""
    if not state.measured and not state.shortages:
        return None
    return state.began, state.measured, state.shortages


def look_at_gpus() -> HardwareSnapshot:
    """The machine's GPUs now; takes a moment."""
    # Here: the libraries behind it are not needed by who only imports this.
    from wan_studio.services.hardware_probe import HardwareProbe

    return HardwareProbe().snapshot({})


class RunCalibrator:
    """Takes in what runs measure; of a run each news once."""

    def __init__(self, look: Callable[[], HardwareSnapshot] | None = None, path: Path | None = None) -> None:
        """Know no run yet.

        Args:
            look: At the machine; None looks at this one.
            path: Of the measurements; None takes the user's own.
        """
        self._look = look or (lambda: look_at_gpus())
        self._path = path
        self._taken: dict[Path, News] = {}
        self._tries_again_at = 0.0

    def take_in(self, run: RunFolder, state: RunState) -> tuple[CalibrationRecord, ...]:
        """Store what is new; reads and writes files, so not on the GUI thread.

        Returns:
            What the run's process has measured here so far; nothing where there is no news, where it ran on
            another machine or on a CPU, or where it could not be stored, which the log tells.
        """
        news = news_of(state)
        if news is None or self._taken.get(run.path) == news or time.monotonic() < self._tries_again_at:
            return ()
        try:
            records = self._records(run, state)
            add_records(records, self._path)
        except (OSError, WireError, msgspec.ValidationError) as error:
            self._tries_again_at = time.monotonic() + PATIENCE_SECONDS
            _log.warning("What %s has measured could not be stored: %s", run.path, error)
            return ()
        self._taken[run.path] = news
        return records

    def _records(self, run: RunFolder, state: RunState) -> tuple[CalibrationRecord, ...]:
        if not ran_here(run) or state.device.casefold() in ("", "cpu"):
            return ()
        job = run.read_job()
        gpu = measured_gpu(self._look(), state.device, job.job.gpu)
        if gpu is None:
            return ()
        where = MeasuredWhere(
            gpu_name=gpu.name,
            gpu_uuid=gpu.uuid,
            date=datetime.fromtimestamp(state.began).astimezone().date().isoformat(),
            trainer_version=state.trainer_version,
            process_started=state.began,
        )
        return records_of(job, state, where)
