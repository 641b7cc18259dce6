"""Measurements: which are kept, and how they correct what is computed."""

import msgspec
import pytest

from wan_studio.domain.calibration import KEPT_OF_A_KEY, Calibration, CalibrationRecord, corrected_step
from wan_studio.domain.step_plan import StepPlan
from wan_studio.domain.workload import ClipShape

PLAIN = StepPlan()


def record(side: int, seconds: float, **fields: object) -> CalibrationRecord:
    plain = {"gpu_uuid": "GPU-1", "gpu_name": "NVIDIA GeForce RTX 4090", "date": "2026-11-24"}
    plain |= {"trainer_version": "0.1.0", "width": side, "height": side, "frames": 41, "seconds": seconds}
    return msgspec.convert({**plain, **fields}, CalibrationRecord)


def compute(plan: StepPlan, shape: ClipShape, batch: int) -> float:
    return shape.tokens * batch / 1000


def corrected(records: list[CalibrationRecord], side: int, plan: StepPlan = PLAIN):
    return corrected_step(records, plan, ClipShape(side, side, 41), 1, compute)


def test_without_measurements_it_is_as_computed():
    assert corrected([], 512).seconds == pytest.approx(11.264)
    assert corrected([], 512).basis == "computed"


def test_the_same_work_takes_as_long_as_it_took():
    found = corrected([record(512, 9.0), record(512, 30.0), record(512, 9.2), record(768, 99.0)], 512)
    assert (found.seconds, found.basis) == (9.2, "measured")


def test_other_sizes_are_corrected_by_the_nearest_three():
    ratios = {256: 9.0, 512: 2.0, 768: 4.0, 1024: 1.0}
    records = [
        record(side, compute(StepPlan(), ClipShape(side, side, 41), 1) * by) for side, by in ratios.items()
    ]
    found = corrected(records, 640)
    # The geometric mean of 2, 4 and 1; the record far away, of 9, is left out.
    assert found.seconds == pytest.approx(2.0 * compute(StepPlan(), ClipShape(640, 640, 41), 1))
    assert found.basis == "scaled"


def test_one_mode_does_not_correct_another():
    records = [record(512, 99.0, plan={"mode": "float8_compute"}), record(512, 1.0, kind="encode")]
    assert corrected(records, 512).basis == "computed"
    assert corrected(records, 768, StepPlan(mode="float8_compute", chunks=2)).basis == "scaled"


def test_of_the_same_work_the_newest_few_are_kept():
    calibration = Calibration()
    for seconds in range(1, 6):
        calibration = calibration.with_record(record(512, float(seconds)))
        calibration = calibration.with_record(record(512, 10.0 * seconds, gpu_uuid="GPU-2"))
    own = [one.seconds for one in calibration.of_gpu("NVIDIA GeForce RTX 4090", "GPU-1")]
    assert own == [3.0, 4.0, 5.0]
    assert len(own) == KEPT_OF_A_KEY
    assert len(calibration.of_gpu("NVIDIA GeForce RTX 4090")) == 2 * KEPT_OF_A_KEY
    assert calibration.of_gpu("NVIDIA H200") == ()


def test_equal_plans_are_equal_keys_after_a_round_through_json():
    one = record(512, 1.0, plan={"mode": "nf4", "only": ["self_attn"]})
    again = msgspec.json.decode(msgspec.json.encode(one), type=CalibrationRecord)
    assert again == one
    assert again.is_same_work(one)
    assert hash(again.plan) == hash(one.plan)
