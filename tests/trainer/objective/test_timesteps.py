"""Timesteps follow their type's distribution, conditional on the expert's side of the boundary.

The oracle is independent: each unrestricted density is written here and integrated numerically.
"""

import math

import numpy as np
import pytest
import torch

from trainer.objective.timesteps import (
    STRATA,
    TimestepDistribution,
    expert_interval,
    sample_timesteps,
)
from trainer.protocol.job import Expert

DRAWS = 20_000


def density(kind: str, sigma: np.ndarray, shift: float) -> np.ndarray:
    if kind == "linear":
        return np.ones_like(sigma)
    if kind == "sigmoid":
        logit = np.log(sigma / (1 - sigma))
        return np.exp(-(logit**2) / 2) / (sigma * (1 - sigma) * math.sqrt(2 * math.pi))
    if kind == "shift":  # the derivative of u = sigma / (s - (s - 1) sigma)
        return shift / (shift - (shift - 1) * sigma) ** 2
    return np.interp(sigma, [0.0, 0.875, 1.0], [0.44, 1.52, 0.1])


def kolmogorov_smirnov_distance(
    draws: torch.Tensor, kind: str, shift: float, lower: float, upper: float
) -> float:
    edges = np.linspace(lower, upper, 200_001)
    middles = (edges[1:] + edges[:-1]) / 2
    cumulative = np.concatenate([[0.0], np.cumsum(density(kind, middles, shift))])
    cumulative /= cumulative[-1]
    ordered = np.sort(draws.double().numpy() / 1000)
    expected = np.interp(ordered, edges, cumulative)
    steps = np.arange(1, len(ordered) + 1) / len(ordered)
    return float(np.max(np.maximum(np.abs(steps - expected), np.abs(steps - 1 / len(ordered) - expected))))


@pytest.mark.parametrize("expert", list(Expert))
@pytest.mark.parametrize(
    ("kind", "shift"), [("linear", 1.0), ("sigmoid", 1.0), ("shift", 5.0), ("weighted", 1.0)]
)
def test_each_type_is_a_true_conditional_distribution_on_the_experts_interval(expert, kind, shift):
    interval = expert_interval(expert, 0.9)
    draws = sample_timesteps(
        DRAWS, interval, torch.Generator().manual_seed(5), TimestepDistribution(kind, shift)
    )
    # 1.63 / sqrt(n) is the distance that chance exceeds once in a hundred.
    distance = kolmogorov_smirnov_distance(draws, kind, shift, interval.lower, interval.upper)
    assert distance < 1.63 / math.sqrt(DRAWS)


def test_the_oracle_tells_the_types_apart():
    interval = expert_interval(Expert.LOW, 0.9)
    draws = sample_timesteps(
        DRAWS, interval, torch.Generator().manual_seed(5), TimestepDistribution("sigmoid")
    )
    assert kolmogorov_smirnov_distance(draws, "linear", 1.0, interval.lower, interval.upper) > 0.05


@pytest.mark.parametrize("expert", list(Expert))
def test_the_bias_bends_towards_its_end_inside_the_interval(expert):
    interval = expert_interval(expert, 0.9)

    def mean(bias: str) -> float:
        drawn = sample_timesteps(
            DRAWS, interval, torch.Generator().manual_seed(1), TimestepDistribution("linear", bias=bias)
        )
        assert interval.lower * 1000 - 1e-3 <= drawn.min() <= drawn.max() <= interval.upper * 1000 + 1e-3
        return float(drawn.mean()) / 1000

    width = interval.upper - interval.lower
    # The mean of u³ is one quarter.
    assert abs(mean("balanced") - (interval.lower + width / 2)) < 0.01 * width + 0.002
    assert abs(mean("low_noise") - (interval.lower + width / 4)) < 0.01 * width + 0.002
    assert abs(mean("high_noise") - (interval.lower + width * 3 / 4)) < 0.01 * width + 0.002


def test_each_expert_sees_only_its_own_side_of_the_boundary():
    generator = torch.Generator().manual_seed(0)
    high = sample_timesteps(DRAWS, expert_interval(Expert.HIGH, 0.9), generator)
    low = sample_timesteps(DRAWS, expert_interval(Expert.LOW, 0.9), generator)
    assert 900 <= high.min() <= 900.1
    assert 999.9 <= high.max() <= 1000
    assert 0 < low.min() <= 0.5
    assert 899.5 <= low.max() <= 900


def test_an_overlap_widens_both_experts_past_the_boundary():
    assert expert_interval(Expert.HIGH, 0.9, overlap=0.025).lower == pytest.approx(0.875)
    assert expert_interval(Expert.LOW, 0.9, overlap=0.025).upper == pytest.approx(0.925)


def test_a_stratified_round_visits_every_part_once():
    strata = torch.randperm(STRATA)
    interval = expert_interval(Expert.LOW, 0.9)
    draws = sample_timesteps(STRATA, interval, torch.Generator().manual_seed(0), strata=strata)
    parts = torch.ceil(draws / 900 * STRATA) - 1
    assert sorted(parts.int().tolist()) == list(range(STRATA))
    assert torch.equal(parts.long(), strata)


def test_the_same_generator_state_gives_the_same_timesteps():
    interval = expert_interval(Expert.HIGH, 0.875)
    first = sample_timesteps(8, interval, torch.Generator().manual_seed(3))
    assert torch.equal(first, sample_timesteps(8, interval, torch.Generator().manual_seed(3)))
