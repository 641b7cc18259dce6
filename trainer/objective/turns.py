"""Which expert trains at which optimizer step, decided for the whole run before it begins.

A function of the settings alone, so a resumed run needs no state to go on with the same turns.
"""

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Literal

from trainer.protocol.job import Expert


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """How the experts take turns.

    Attributes:
        stages: Which experts train.
        switch_every: Optimizer steps of one turn.
        high_share: Share of the turns that the high-noise expert gets when both train.
        most_steps: Steps after which an expert's turns go to the other; None for no end.
    """

    stages: Literal["both", "high", "low"] = "both"
    switch_every: int = 10
    high_share: float = 0.5
    most_steps: Mapping[Expert, int | None] | None = None


class ExpertTurns:
    """The experts' turns over a run.

    Attributes:
        experts: The experts that train, high noise first.
        total_steps: Optimizer steps of the run: those asked for, or fewer when every expert has
            reached its own most.
    """

    def __init__(self, settings: TurnSettings, steps: int) -> None:
        self.experts = {
            "high": (Expert.HIGH,),
            "low": (Expert.LOW,),
            "both": (Expert.HIGH, Expert.LOW),
        }[settings.stages]
        most = settings.most_steps or {}
        self._taken: dict[Expert, list[int]] = {expert: [0] for expert in Expert}
        self._schedule: list[Expert] = []
        for step in range(steps):
            expert = self._turn(settings, step)
            if self._has_ended(expert, most):
                expert = next((other for other in self.experts if not self._has_ended(other, most)), None)
                if expert is None:
                    break
            self._schedule.append(expert)
            for each, counts in self._taken.items():
                counts.append(counts[-1] + (each is expert))
        self.total_steps = len(self._schedule)

    def expert_at(self, step: int) -> Expert:
        """The expert that takes optimizer step `step`, counted from 0."""
        return self._schedule[step]

    def steps_taken(self, expert: Expert, step: int) -> int:
        """How many of the first `step` optimizer steps were this expert's."""
        return self._taken[expert][step]

    def steps_of(self, expert: Expert) -> int:
        """How many of the run's steps are this expert's."""
        return self._taken[expert][-1]

    def step_from(self, step: int, experts: Container[Expert]) -> int | None:
        """The first optimizer step, not before `step`, that one of these experts takes; None for none."""
        for place in range(step, self.total_steps):
            if self._schedule[place] in experts:
                return place
        return None

    def _turn(self, settings: TurnSettings, step: int) -> Expert:
        if len(self.experts) == 1:
            return self.experts[0]
        # Turn k is the high expert's when its share of k + 1 turns, rounded up, is one more than of k:
        # so it begins, and its share is kept to within one turn at any moment.
        turn = step // settings.switch_every
        before, after = (math.ceil(settings.high_share * count - 1e-9) for count in (turn, turn + 1))
        return Expert.HIGH if after > before else Expert.LOW

    def _has_ended(self, expert: Expert, most: Mapping[Expert, int | None]) -> bool:
        limit = most.get(expert)
        return limit is not None and self._taken[expert][-1] >= limit
