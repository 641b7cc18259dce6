from itertools import pairwise

import pytest

from trainer.protocol.job import Expert
from wan_studio.domain.loss_bands import band_series, timestep_bands
from wan_studio.domain.run_state import LossPoint


def test_five_bands_cover_the_scale_and_one_edge_is_the_boundary():
    bands = timestep_bands()
    assert [(band.lower, band.upper) for band in bands] == [
        (0.0, 225.0),
        (225.0, 450.0),
        (450.0, 675.0),
        (675.0, 900.0),
        (900.0, 1000.0),
    ]
    assert [band.expert for band in bands] == [Expert.LOW] * 4 + [Expert.HIGH]


@pytest.mark.parametrize("boundary", [0.01, 0.3, 0.5, 0.875, 0.99])
def test_no_band_crosses_the_boundary_wherever_it_lies(boundary):
    bands = timestep_bands(boundary)
    assert len(bands) == 5
    assert bands[0].lower == 0.0
    assert bands[-1].upper == pytest.approx(1000.0)
    for before, after in pairwise(bands):
        assert before.upper == after.lower
    for band in bands:
        assert band.upper > band.lower
        is_below = band.upper <= boundary * 1000 + 1e-9
        assert band.expert is (Expert.LOW if is_below else Expert.HIGH)


def test_each_band_has_the_mean_of_the_samples_that_lie_in_it():
    points = (
        LossPoint(1, Expert.LOW, 0.3, (100.0, 200.0, 800.0), (0.1, 0.3, 0.8)),
        LossPoint(2, Expert.HIGH, 0.5, (950.0,), (0.5,)),
        LossPoint(3, Expert.LOW, 0.2, (900.0,), (0.2,)),
    )
    series = band_series(points, timestep_bands())
    assert series[0].steps == (1,)
    assert series[0].losses == pytest.approx((0.2,))
    assert (series[1].steps, series[2].steps) == ((), ())
    assert (series[3].steps, series[3].losses) == ((1, 3), (0.8, 0.2)), "the boundary itself is low noise"
    assert (series[4].steps, series[4].losses) == ((2,), (0.5,))


def test_a_step_without_losses_of_its_samples_counts_with_its_mean():
    (low, *_, high) = band_series((LossPoint(1, Expert.LOW, 0.3, (100.0, 950.0)),), timestep_bands())
    assert (low.losses, high.losses) == ((0.3,), (0.3,))
