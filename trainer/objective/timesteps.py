"""Timesteps: from which noise levels an expert learns, and how often.

Each type is a distribution of sigma = timestep / 1000 on (0, 1). An expert draws from its true
conditional distribution on the expert's interval, by the inverse of the distribution function:

    sigma = Q(F(lower) + (F(upper) - F(lower)) q),   q uniform on (0, 1], bent by the bias.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from trainer.protocol.job import Expert, TimestepBias, TimestepType

TRAINING_TIMESTEPS = 1000
"""The model's timestep for pure noise; its noise level sigma is timestep / 1000."""

STRATA = 16
"""Stratified draws visit this many equal parts of the distribution before any part again."""

WEIGHTED_DENSITY = ((0.0, 0.44), (0.875, 1.52), (1.0, 0.1))
"""Corners of the piecewise linear density of "weighted": most weight where pictures take shape, little
at the clean end, least at pure noise. Sampling by it equals, in expectation, weighting the loss by it."""


@dataclass(frozen=True, slots=True)
class NoiseInterval:
    """Noise levels (sigma, 0..1) that belong to one expert: above `lower`, up to `upper`."""

    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class TimestepDistribution:
    """How an expert's timesteps are drawn.

    Attributes:
        type: linear: uniform; sigmoid: logit-normal; shift: uniform, then shifted; weighted: see
            `WEIGHTED_DENSITY`.
        shift: Of the type "shift": sigma = s u / (1 + (s - 1) u).
        bias: Which end of the expert's own interval is favoured, by q = u cubed from the other end.
    """

    type: TimestepType = "linear"
    shift: float = 5.0
    bias: TimestepBias = "balanced"

    def quantile(self, uniform: Tensor, interval: NoiseInterval) -> Tensor:
        """Sigma for uniform numbers in (0, 1], conditional on the interval; float64 in and out."""
        match self.bias:
            case "high_noise":
                q = 1.0 - (1.0 - uniform) ** 3
            case "low_noise":
                q = uniform**3
            case _:
                q = uniform
        ends = self._cumulative(torch.tensor([interval.lower, interval.upper], dtype=torch.float64))
        sigma = self._inverse(ends[0] + (ends[1] - ends[0]) * q)
        return sigma.clamp(interval.lower, interval.upper)

    def _cumulative(self, sigma: Tensor) -> Tensor:
        """F: the share of the unrestricted distribution at or below sigma."""
        match self.type:
            case "sigmoid":
                return torch.special.ndtr(torch.logit(sigma))
            case "shift":
                return sigma / (self.shift - (self.shift - 1.0) * sigma)
            case "weighted":
                return _weighted_cumulative(sigma)
            case _:
                return sigma

    def _inverse(self, share: Tensor) -> Tensor:
        """Q: the inverse of F."""
        match self.type:
            case "sigmoid":
                return torch.sigmoid(torch.special.ndtri(share))
            case "shift":
                return self.shift * share / (1.0 + (self.shift - 1.0) * share)
            case "weighted":
                return _weighted_inverse(share)
            case _:
                return share


def expert_interval(expert: Expert, boundary: float, overlap: float = 0.0) -> NoiseInterval:
    """The expert's own side of the boundary, widened past it by the overlap margin (in sigma)."""
    if expert is Expert.HIGH:
        return NoiseInterval(max(0.0, boundary - overlap), 1.0)
    return NoiseInterval(0.0, min(1.0, boundary + overlap))


def sample_timesteps(
    count: int,
    interval: NoiseInterval,
    generator: torch.Generator,
    distribution: TimestepDistribution = TimestepDistribution(),
    strata: Tensor | None = None,
) -> Tensor:
    """Timesteps (0..1000) of one expert.

    Args:
        count: How many.
        interval: Where; its lower end is never drawn, so that t = 0 (nothing to learn) does not occur.
        generator: On the CPU.
        distribution: See `TimestepDistribution`.
        strata: For each draw the part (0..STRATA - 1) of the distribution that it must fall in; None
            draws freely.

    Returns:
        float32 (count,), on the CPU.
    """
    uniform = 1.0 - torch.rand(count, generator=generator, dtype=torch.float64)
    if strata is not None:
        uniform = (strata.to(torch.float64) + uniform) / STRATA
    return (distribution.quantile(uniform, interval) * TRAINING_TIMESTEPS).to(torch.float32)


def _weighted_pieces() -> list[tuple[float, float, float, float, float]]:
    """Per linear piece: its start and end in sigma, density at the start, slope, and share below it."""
    area = sum((b - a) * (p + q) / 2 for (a, p), (b, q) in _corner_pairs())
    pieces: list[tuple[float, float, float, float, float]] = []
    below = 0.0
    for (a, p), (b, q) in _corner_pairs():
        pieces.append((a, b, p / area, (q - p) / (b - a) / area, below))
        below += (b - a) * (p + q) / 2 / area
    return pieces


def _corner_pairs() -> list[tuple[tuple[float, float], tuple[float, float]]]:
    return list(pairwise(WEIGHTED_DENSITY))


def _weighted_cumulative(sigma: Tensor) -> Tensor:
    share = torch.zeros_like(sigma)
    for start, end, density, slope, _ in _weighted_pieces():
        length = (sigma - start).clamp(0.0, end - start)
        share = share + density * length + slope * length.square() / 2
    return share


def _weighted_inverse(share: Tensor) -> Tensor:
    sigma = torch.zeros_like(share)
    for start, end, density, slope, below in _weighted_pieces():
        # Solve density x + slope x² / 2 = rest for the length x inside this piece.
        most = density * (end - start) + slope * (end - start) ** 2 / 2
        rest = (share - below).clamp(0.0, most)
        length = 2 * rest / (density + torch.sqrt((density**2 + 2 * slope * rest).clamp(min=0.0)))
        sigma = torch.where(share >= below, start + length, sigma)
    return sigma
