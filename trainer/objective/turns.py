"""Which expert trains at which optimizer step: a function of the step alone, so a resume needs no state."""

from dataclasses import dataclass
from typing import Literal

from trainer.protocol.job import Expert


@dataclass(frozen=True, slots=True)
class ExpertTurns:
    """The experts' turns.

    Attributes:
        stages: Which experts train.
        switch_every: Optimizer steps of one turn; the high-noise expert begins.
    """

    stages: Literal["both", "high", "low"]
    switch_every: int

    @property
    def experts(self) -> tuple[Expert, ...]:
        """The experts that train, high noise first."""
        match self.stages:
            case "high":
                return (Expert.HIGH,)
            case "low":
                return (Expert.LOW,)
            case _:
                return (Expert.HIGH, Expert.LOW)

    def expert_at(self, step: int) -> Expert:
        """The expert that takes optimizer step `step`, counted from 0."""
        if self.stages != "both":
            return self.experts[0]
        return self.experts[(step // self.switch_every) % 2]

    def steps_taken(self, expert: Expert, step: int) -> int:
        """How many of the first `step` optimizer steps were this expert's."""
        if expert not in self.experts:
            return 0
        if self.stages != "both":
            return step
        whole_rounds, rest = divmod(step, 2 * self.switch_every)
        in_rest = min(rest, self.switch_every) if expert is Expert.HIGH else max(0, rest - self.switch_every)
        return whole_rounds * self.switch_every + in_rest
