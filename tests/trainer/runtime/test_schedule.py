"""Learning rates by step, against the formulas written out."""

import math

import pytest

from trainer.runtime.schedule import LearningRateSchedule


def test_the_constant_schedule_stays_at_one():
    schedule = LearningRateSchedule("constant", 0, 10)
    assert [schedule.factor(step) for step in (0, 5, 9, 50)] == [1.0] * 4


@pytest.mark.parametrize("kind", ["constant", "cosine", "linear"])
def test_the_warm_up_rises_in_equal_steps_to_one(kind):
    schedule = LearningRateSchedule(kind, 4, 20)
    assert [schedule.factor(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_the_linear_schedule_falls_to_zero_after_the_last_step():
    schedule = LearningRateSchedule("linear", 2, 10)
    assert [schedule.factor(step) for step in range(2, 10)] == pytest.approx(
        [8 / 8, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    )
    assert schedule.factor(10) == 0.0
    assert schedule.factor(99) == 0.0


def test_the_cosine_schedule_is_half_a_period():
    schedule = LearningRateSchedule("cosine", 2, 10)
    for step in range(2, 11):
        assert schedule.factor(step) == pytest.approx(math.cos((step - 2) / 8 * math.pi / 2) ** 2, abs=1e-12)
    assert schedule.factor(6) == pytest.approx(0.5)
    assert schedule.factor(10) == pytest.approx(0.0, abs=1e-12)
    assert schedule.factor(11) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_a_warm_up_longer_than_the_run_never_ends(kind):
    schedule = LearningRateSchedule(kind, 100, 10)
    assert [schedule.factor(step) for step in range(10)] == pytest.approx([n / 100 for n in range(1, 11)])
