"""`calibration.json`: written whole, read back, and never in the way when it is damaged."""

import pytest

from wan_studio.domain.calibration import Calibration, CalibrationRecord
from wan_studio.domain.step_plan import StepPlan
from wan_studio.services.calibration_store import (
    add_record,
    calibration_file,
    load_calibration,
    save_calibration,
)


def record(seconds: float) -> CalibrationRecord:
    return CalibrationRecord(
        gpu_uuid="GPU-1",
        gpu_name="NVIDIA H200",
        date="2026-11-24",
        trainer_version="0.1.0",
        plan=StepPlan(mode="nf4_recovered", recovery_rank=64, only=("self_attn",)),
        width=832,
        height=480,
        frames=81,
        seconds=seconds,
        reserved_bytes=11 * 2**30,
    )


def test_what_is_saved_is_loaded(tmp_path):
    path = tmp_path / "new" / "calibration.json"
    save_calibration(Calibration(records=(record(1.0), record(2.0))), path)
    found = load_calibration(path)
    assert found.calibration.records == (record(1.0), record(2.0))
    assert not found.problem
    assert [one.name for one in path.parent.iterdir()] == ["calibration.json"]


def test_it_lies_in_the_users_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WAN_STUDIO_HOME", str(tmp_path))
    assert load_calibration().calibration == Calibration()
    add_record(record(3.0))
    assert calibration_file() == tmp_path / "data" / "calibration.json"
    assert load_calibration().calibration.records == (record(3.0),)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b'{"records": [{"gpu_uuid": "GPU-1"}]}', b'{"format_version": 99}', None]
)
def test_a_damaged_file_is_set_aside_with_a_word(tmp_path, content):
    path = tmp_path / "calibration.json"
    save_calibration(Calibration(records=(record(1.0),)), path)
    # None: torn in the middle, as a disk that is full or a machine that goes down leaves it.
    torn = path.read_bytes()[: path.stat().st_size // 2] if content is None else content
    path.write_bytes(torn)
    found = load_calibration(path)
    assert found.calibration == Calibration()
    assert "damaged" in found.problem
    assert "calibration.damaged.json" in found.problem
    assert (tmp_path / "calibration.damaged.json").read_bytes() == torn
    assert add_record(record(2.0), path).records == (record(2.0),)


def test_a_file_that_cannot_be_opened_is_not_replaced(tmp_path):
    path = tmp_path / "calibration.json"
    path.mkdir()
    assert "cannot be read" in load_calibration(path).problem
    with pytest.raises(OSError):
        add_record(record(1.0), path)
    assert path.is_dir()
