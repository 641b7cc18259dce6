"""`calibration.json` in the user's data folder: what was measured on this machine."""

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from trainer.protocol.wire import to_json, write_atomic
from wan_studio.domain.calibration import Calibration, CalibrationRecord
from wan_studio.paths import user_data_folder

log = logging.getLogger(__name__)
_writing = threading.Lock()
"""Held while the file is read, added to and written: runs are followed on several threads."""


@dataclass(frozen=True, slots=True)
class LoadedCalibration:
    """What was found.

    Attributes:
        calibration: Empty where there was none that could be read.
        problem: A sentence for the user when a file was there and could not be used; else empty.
    """

    calibration: Calibration
    problem: str = ""


def calibration_file() -> Path:
    """Where the measurements are kept."""
    return user_data_folder() / "calibration.json"


def load_calibration(path: Path | None = None) -> LoadedCalibration:
    """The measurements; a damaged file is set aside with a word, and never an obstacle.

    Args:
        path: None takes the user's own.
    """
    path = path or calibration_file()
    try:
        return _read(path)
    except OSError as error:
        return _without(f"The measurements in {path} cannot be read ({error.strerror or error}).")


def save_calibration(calibration: Calibration, path: Path | None = None) -> None:
    """Write the measurements, atomically.

    Args:
        calibration: All of them.
        path: None takes the user's own.

    Raises:
        OSError: the folder cannot be written.
    """
    path = path or calibration_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, to_json(calibration, pretty=True))


def add_record(record: CalibrationRecord, path: Path | None = None) -> Calibration:
    """Add a measurement to what the file holds now, and write it.

    Raises:
        OSError: the file cannot be read just now, so that it must not be replaced, or not be written.
    """
    return add_records((record,), path)


def add_records(records: Iterable[CalibrationRecord], path: Path | None = None) -> Calibration:
    """Add measurements to what the file holds now, and write it if they say anything new.

    Raises:
        OSError: the file cannot be read just now, so that it must not be replaced, or not be written.
    """
    path = path or calibration_file()
    with _writing:
        before = calibration = _read(path).calibration
        for record in records:
            calibration = calibration.with_record(record)
        if calibration != before:
            save_calibration(calibration, path)
    return calibration


def _read(path: Path) -> LoadedCalibration:
    """As `load_calibration`, but for a file that is there and cannot be opened."""
    try:
        return LoadedCalibration(msgspec.json.decode(path.read_bytes(), type=Calibration))
    except FileNotFoundError:
        return LoadedCalibration(Calibration())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _without(f"The measurements in {path} are damaged ({error}). {_set_aside(path)}")


def _without(problem: str) -> LoadedCalibration:
    problem = f"{problem} Times are computed until they are measured again."
    log.warning(problem)
    return LoadedCalibration(Calibration(), problem)


def _set_aside(path: Path) -> str:
    aside = path.with_suffix(".damaged.json")
    try:
        path.replace(aside)
    except OSError:
        return "It could not be set aside."
    return f"It was set aside as {aside.name}."
