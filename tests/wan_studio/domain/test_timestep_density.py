"""The picture of the timesteps against the trainer's own draws."""

import pytest
import torch

from trainer.objective.timesteps import WEIGHTED_DENSITY, NoiseInterval, TimestepDistribution
from trainer.protocol.job import Expert
from wan_studio.domain.project import Settings
from wan_studio.domain.timestep_density import WEIGHTED_CORNERS, ExpertTimesteps, expert_timesteps


@pytest.mark.parametrize("bias", ["balanced", "high_noise", "low_noise"])
@pytest.mark.parametrize("kind", ["linear", "sigmoid", "shift", "weighted"])
@pytest.mark.parametrize(("lower", "upper"), [(0.0, 0.9), (0.9, 1.0), (0.3, 0.7)])
def test_the_shares_are_those_of_the_trainers_quantiles(kind, bias, lower, upper):
    shown = ExpertTimesteps(Expert.LOW, lower, upper, kind, bias, 3.0)
    uniform = torch.tensor([0.02, 0.1, 0.35, 0.5, 0.8, 0.97], dtype=torch.float64)
    drawn = TimestepDistribution(kind, 3.0, bias).quantile(uniform, NoiseInterval(lower, upper))
    for share, sigma in zip(uniform.tolist(), drawn.tolist(), strict=True):
        assert shown.share_below(sigma) == pytest.approx(share, abs=1e-6)
    assert sum(shown.shares(50)) == pytest.approx(1.0)
    assert WEIGHTED_CORNERS == WEIGHTED_DENSITY


def test_each_expert_has_its_interval_and_its_own_settings():
    settings = Settings().with_values(
        {
            "multistage": {"boundary": 0.875, "boundary_overlap": 0.05, "low_timestep_type": "shift"},
            "training": {"timestep_type": "sigmoid", "timestep_bias": "high_noise"},
        }
    )
    high, low = expert_timesteps(settings)
    assert (high.expert, high.type, high.bias) == (Expert.HIGH, "sigmoid", "high_noise")
    assert (high.lower, high.upper) == pytest.approx((0.825, 1.0))
    assert (low.type, low.bias, low.shift) == ("shift", "high_noise", 5.0)
    assert (low.lower, low.upper) == pytest.approx((0.0, 0.925))
    only = expert_timesteps(settings.with_values({"multistage": {"stages": "low"}}))
    assert [one.expert for one in only] == [Expert.LOW]
