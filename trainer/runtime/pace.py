"""How long the rest takes: steps, and the saves and previews between them."""

import statistics
from collections import deque
from dataclasses import dataclass, field

RECENT_STEPS = 50


@dataclass(slots=True)
class Pace:
    """Durations measured so far.

    Attributes:
        step_seconds: Of the most recent steps.
        save_seconds: Of the last save.
        preview_seconds: Of the last round of previews.
    """

    step_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_STEPS))
    save_seconds: float = 0.0
    preview_seconds: float = 0.0

    def seconds_left(self, steps_left: int, saves_left: int, previews_left: int) -> float | None:
        """Estimate to the end; None before the third step, whose predecessors warm up."""
        if len(self.step_seconds) < 3:
            return None
        step = statistics.median(self.step_seconds)
        return steps_left * step + saves_left * self.save_seconds + previews_left * self.preview_seconds
