"""With ai-toolkit's settings our timesteps, targets and LoRA scale are its own.

Its rules, as its published code has them for Wan 2.2 (version 0.12.26), are written here anew: a
descending table of 1000 timesteps, an index drawn inside the expert's range, the target noise minus
latents, LoRA alpha equal to the rank. `pytest -s` prints the table of quantiles.
"""

import numpy as np
import pytest
import torch

from trainer.objective.flow_matching import add_noise, velocity_target
from trainer.objective.timesteps import TimestepDistribution, expert_interval, sample_timesteps
from trainer.protocol.job import Expert, TargetSection

DRAWS = 40_000
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
RANGES = {Expert.HIGH: (0, 124), Expert.LOW: (125, 999)}
"""Indices of the linear table on either side of 875."""


def its_timesteps(expert: Expert, bias: str, random: np.random.Generator) -> np.ndarray:
    table = np.linspace(1000, 1, 1000)
    first, last = RANGES[expert]
    if bias == "balanced":
        return table[random.integers(first, last, DRAWS)]
    u = random.random(DRAWS)
    place = u**3 if bias == "content" else 1 - u**3
    return table[np.clip((first + place * (last - first)).astype(int), first, last)]


@pytest.mark.parametrize("expert", list(Expert))
@pytest.mark.parametrize(
    ("ours", "its"), [("balanced", "balanced"), ("high_noise", "content"), ("low_noise", "style")]
)
def test_timesteps_agree_quantile_by_quantile(expert, ours, its):
    interval = expert_interval(expert, 0.875)
    distribution = TimestepDistribution("linear", bias=ours)
    drawn = sample_timesteps(DRAWS, interval, torch.Generator().manual_seed(0), distribution).numpy()
    expected = its_timesteps(expert, its, np.random.default_rng(0))
    print(f"\n{expert.value:<10} {ours:<10} ai-toolkit  ours")
    for quantile in QUANTILES:
        a, b = np.quantile(expected, quantile), np.quantile(drawn, quantile)
        print(f"{'':<21} {quantile:4.0%} {a:8.1f} {b:8.1f}")
        # Its table has steps of one; the rest is the luck of the draw.
        assert abs(a - b) < 1.5 + 0.012 * 1000 * (interval.upper - interval.lower)


def test_noisy_latents_and_target_are_its_own():
    generator = torch.Generator().manual_seed(1)
    latents, noise = (torch.randn(1, 16, 2, 4, 4, generator=generator) for _ in range(2))
    t = torch.tensor([640.0])
    torch.testing.assert_close(add_noise(latents, noise, t), (1 - t / 1000) * latents + (t / 1000) * noise)
    assert torch.equal(velocity_target(latents, noise), noise - latents)


def test_the_lora_scale_is_one_unless_alpha_is_set():
    target = TargetSection(rank=32)
    assert (target.alpha or float(target.rank)) / target.rank == 1.0
