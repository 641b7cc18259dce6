"""How the learning rate rises and falls over an expert's steps."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class LearningRateSchedule:
    """A factor of the learning rate by step: a function alone, so there is no state to save.

    Attributes:
        kind: What follows the warm-up: no change, half a cosine or a straight line down to zero.
        warmup_steps: Steps over which the factor rises; 0 begins at one.
        total_steps: Steps of the expert in the whole run. Zero is what the step after the last would
            have, so that the last one still trains.
    """

    kind: Literal["constant", "cosine", "linear"]
    warmup_steps: int
    total_steps: int

    def factor(self, step: int) -> float:
        """The factor, 0..1, of the expert's own step `step`, counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.kind == "constant":
            return 1.0
        steps_of_fall = max(1, self.total_steps - self.warmup_steps)
        progress = min(1.0, (step - self.warmup_steps) / steps_of_fall)
        if self.kind == "linear":
            return 1.0 - progress
        return 0.5 * (1.0 + math.cos(math.pi * progress))
