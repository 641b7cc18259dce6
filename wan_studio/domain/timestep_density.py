"""How often an expert trains at which timestep: what the settings of the timesteps mean, to be drawn."""

import math
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

from trainer.protocol.job import Expert, TimestepBias, TimestepType
from wan_studio.domain.loss_bands import MODEL_BOUNDARY
from wan_studio.domain.project import Settings

WEIGHTED_CORNERS = ((0.0, 0.44), (0.875, 1.52), (1.0, 0.1))
"""Corners of the density of the type "weighted", as the trainer draws it."""

_NORMAL = NormalDist()
_SHARPNESS = 3.0
"""A bias bends uniform numbers by this power."""


@dataclass(frozen=True, slots=True)
class ExpertTimesteps:
    """Where one expert trains.

    Attributes:
        lower: Noise level (0..1) above which its interval lies.
        upper: Noise level up to which it lies.
    """

    expert: Expert
    lower: float
    upper: float
    type: TimestepType = "linear"
    bias: TimestepBias = "balanced"
    shift: float = 5.0

    def share_below(self, sigma: float) -> float:
        """Share of its draws at or below a noise level."""
        if sigma <= self.lower:
            return 0.0
        if sigma >= self.upper:
            return 1.0
        start, end = self._cumulative(self.lower), self._cumulative(self.upper)
        share = min(1.0, max(0.0, (self._cumulative(sigma) - start) / (end - start)))
        if self.bias == "high_noise":
            return 1.0 - (1.0 - share) ** (1 / _SHARPNESS)
        return share ** (1 / _SHARPNESS) if self.bias == "low_noise" else share

    def shares(self, bins: int) -> tuple[float, ...]:
        """Share of its draws in each of so many equal parts of the noise scale; together one."""
        below = [self.share_below(i / bins) for i in range(bins + 1)]
        return tuple(after - before for before, after in pairwise(below))

    def _cumulative(self, sigma: float) -> float:
        """Share of the whole type's distribution at or below a noise level."""
        match self.type:
            case "sigmoid":
                if sigma <= 0.0 or sigma >= 1.0:
                    return float(sigma >= 1.0)
                return _NORMAL.cdf(math.log(sigma / (1.0 - sigma)))
            case "shift":
                return sigma / (self.shift - (self.shift - 1.0) * sigma)
            case "weighted":
                return _weighted_area(sigma) / _weighted_area(1.0)
            case _:
                return sigma


def expert_timesteps(settings: Settings) -> tuple[ExpertTimesteps, ...]:
    """Where each expert that trains does so, high noise first."""
    stages, training = settings.multistage, settings.training
    boundary = MODEL_BOUNDARY if stages.boundary is None else stages.boundary
    intervals = {
        Expert.HIGH: (max(0.0, boundary - stages.boundary_overlap), 1.0),
        Expert.LOW: (0.0, min(1.0, boundary + stages.boundary_overlap)),
    }
    experts = {"high": (Expert.HIGH,), "low": (Expert.LOW,)}.get(stages.stages, tuple(Expert))
    return tuple(
        ExpertTimesteps(
            expert,
            *intervals[expert],
            type=stages.override(expert, "timestep_type") or training.timestep_type,
            bias=stages.override(expert, "timestep_bias") or training.timestep_bias,
            shift=stages.override(expert, "timestep_shift") or training.timestep_shift,
        )
        for expert in experts
    )


def _weighted_area(sigma: float) -> float:
    """Area under the corners' line up to a noise level."""
    area = 0.0
    for (start, low), (end, high) in pairwise(WEIGHTED_CORNERS):
        length = min(max(sigma - start, 0.0), end - start)
        area += length * low + length * length * (high - low) / (end - start) / 2
    return area
