"""The loss by timestep: one line over all noise levels hides whether motion or detail is being learnt."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.protocol.job import Expert
from wan_studio.domain.run_state import LossPoint

MODEL_BOUNDARY = 0.9
"""Noise level that divides the experts of Wan 2.2 I2V A14B, where the job does not say otherwise."""
MOST_TIMESTEP = 1000.0


@dataclass(frozen=True, slots=True)
class TimestepBand:
    """A part of the noise scale, above `lower` and up to `upper`, 0..1000; it never crosses the boundary.

    Attributes:
        expert: Whose side of the boundary it lies on.
    """

    lower: float
    upper: float
    expert: Expert

    def holds(self, timestep: float) -> bool:
        """Whether the timestep lies in it."""
        return self.lower < timestep <= self.upper


@dataclass(frozen=True, slots=True)
class BandSeries:
    """The losses of one band: the mean over a step's samples that lie in it, for steps that have some."""

    band: TimestepBand
    steps: tuple[int, ...]
    losses: tuple[float, ...]


def timestep_bands(boundary: float | None = None, count: int = 5) -> tuple[TimestepBand, ...]:
    """Bands that cover the noise scale, ascending: equally wide on each side of the boundary.

    Args:
        boundary: Noise level (0..1) that divides the experts; None takes the model's.
        count: How many; each side gets its share, but at least one.
    """
    cut = MODEL_BOUNDARY if boundary is None else boundary
    below = min(count - 1, max(1, round(count * cut)))
    middle = cut * MOST_TIMESTEP
    edges = [
        *(middle * i / below for i in range(below)),
        *(middle + (MOST_TIMESTEP - middle) * i / (count - below) for i in range(count - below + 1)),
    ]
    return tuple(
        TimestepBand(edges[i], edges[i + 1], Expert.LOW if i < below else Expert.HIGH) for i in range(count)
    )


def band_series(points: Sequence[LossPoint], bands: Sequence[TimestepBand]) -> tuple[BandSeries, ...]:
    """The losses of each band over the steps."""
    steps: list[list[int]] = [[] for _ in bands]
    losses: list[list[float]] = [[] for _ in bands]
    for point in points:
        # A trainer that told only the step's mean: it stands for each of the samples.
        items = point.item_losses or (point.loss,) * len(point.timesteps)
        for at, band in enumerate(bands):
            inside = [loss for t, loss in zip(point.timesteps, items, strict=False) if band.holds(t)]
            if inside:
                steps[at].append(point.step)
                losses[at].append(sum(inside) / len(inside))
    return tuple(BandSeries(band, tuple(steps[at]), tuple(losses[at])) for at, band in enumerate(bands))
