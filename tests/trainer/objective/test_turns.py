"""Turns: who trains when."""

import pytest

from trainer.objective.turns import ExpertTurns
from trainer.protocol.job import Expert


def test_the_high_noise_expert_begins_and_the_experts_alternate_every_three_steps():
    turns = ExpertTurns("both", switch_every=3)
    names = "".join("H" if turns.expert_at(step) is Expert.HIGH else "L" for step in range(9))
    assert names == "HHHLLLHHH"


@pytest.mark.parametrize("stages", ["both", "high", "low"])
@pytest.mark.parametrize("switch_every", [1, 3, 10])
def test_steps_taken_equals_counting_them(stages, switch_every):
    turns = ExpertTurns(stages, switch_every)
    for expert in Expert:
        for step in range(50):
            counted = sum(turns.expert_at(earlier) is expert for earlier in range(step))
            assert turns.steps_taken(expert, step) == counted


def test_a_single_stage_never_switches():
    turns = ExpertTurns("low", switch_every=1)
    assert turns.experts == (Expert.LOW,)
    assert {turns.expert_at(step) for step in range(10)} == {Expert.LOW}
