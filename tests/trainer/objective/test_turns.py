"""Turns: who trains when."""

import pytest

from trainer.objective.turns import ExpertTurns, TurnSettings
from trainer.protocol.job import Expert


def letters(turns: ExpertTurns) -> str:
    names = [turns.expert_at(step) for step in range(turns.total_steps)]
    return "".join("H" if expert is Expert.HIGH else "L" for expert in names)


def test_the_high_noise_expert_begins_and_the_experts_alternate_every_three_steps():
    assert letters(ExpertTurns(TurnSettings(switch_every=3), 9)) == "HHHLLLHHH"


@pytest.mark.parametrize("stages", ["both", "high", "low"])
@pytest.mark.parametrize("switch_every", [1, 3, 10])
def test_steps_taken_equals_counting_them(stages, switch_every):
    turns = ExpertTurns(TurnSettings(stages, switch_every, high_share=0.3), 50)
    for expert in Expert:
        for step in range(51):
            counted = sum(turns.expert_at(earlier) is expert for earlier in range(step))
            assert turns.steps_taken(expert, step) == counted
        assert turns.steps_of(expert) == turns.steps_taken(expert, 50)


def test_a_single_stage_never_switches():
    turns = ExpertTurns(TurnSettings("low", switch_every=1), 10)
    assert turns.experts == (Expert.LOW,)
    assert letters(turns) == "L" * 10


@pytest.mark.parametrize("share", [0.1, 0.25, 0.4, 0.5, 0.75])
@pytest.mark.parametrize("switch_every", [1, 5, 20])
def test_the_share_is_kept_whatever_the_length_of_a_turn(share, switch_every):
    steps = 2000
    turns = ExpertTurns(TurnSettings("both", switch_every, share), steps)
    assert abs(turns.steps_of(Expert.HIGH) - share * steps) <= switch_every
    runs = [len(run) for run in letters(turns).replace("HL", "H L").replace("LH", "L H").split()]
    assert all(run % switch_every == 0 for run in runs)


def test_an_expert_that_has_reached_its_most_steps_leaves_its_turns_to_the_other():
    limited = TurnSettings(switch_every=2, most_steps={Expert.HIGH: 3, Expert.LOW: None})
    assert letters(ExpertTurns(limited, 10)) == "HHLLHLLLLL"


def test_the_run_ends_when_both_experts_have_reached_their_most_steps():
    limited = TurnSettings(switch_every=2, most_steps={Expert.HIGH: 3, Expert.LOW: 2})
    turns = ExpertTurns(limited, 100)
    assert letters(turns) == "HHLLH"
    assert turns.total_steps == 5
