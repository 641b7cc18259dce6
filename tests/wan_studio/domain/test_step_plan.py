"""Which settings become part of a step's plan, and so of the key of a measurement."""

import pytest

from trainer.protocol.job import Expert
from wan_studio.domain.block_cost import BLOCKS
from wan_studio.domain.project import Settings
from wan_studio.domain.step_plan import StepPlan, step_plan


def plan(expert: Expert = Expert.HIGH, **sections: dict) -> StepPlan:
    return step_plan(Settings().with_values(sections), expert)


def test_the_jobs_defaults_are_a_plans_defaults():
    assert plan() == StepPlan()


@pytest.mark.parametrize(
    ("sections", "field", "value"),
    [
        ({"quantization": {"transformer": "nf4"}}, "mode", "nf4"),
        ({"quantization": {"transformer": "nf4_recovered"}}, "recovery_rank", 64),
        ({"quantization": {"recovery_rank": 32}}, "recovery_rank", 0),
        ({"training": {"gradient_checkpointing": False}}, "keep", "everything"),
        ({"training": {"kept_activations": "sums"}}, "keep", "sums"),
        ({"training": {"kept_blocks": 99}}, "kept_blocks", BLOCKS),
        ({"training": {"gradient_accumulation": 3}}, "accumulation", 3),
        ({"training": {"ema_decay": 0.99}}, "has_average", True),
        ({"model": {"layer_offloading": 0.25}}, "resident", 30),
        ({"model": {"layer_offloading": 0.25, "resident_blocks": 7}}, "resident", 7),
        ({"model": {"feed_forward_chunks": 4}}, "chunks", 4),
        ({"model": {"compile": False}}, "compiled", False),
        ({"target": {"dropout": 0.1}}, "by_hand", False),
        ({"target": {"type": "dora"}}, "by_hand", False),
    ],
)
def test_settings_that_decide_about_time_reach_the_plan(sections, field, value):
    assert getattr(plan(**sections), field) == value


def test_what_does_not_change_a_steps_time_does_not_change_its_plan():
    others = {"training": {"steps": 9, "learning_rate": 1e-5, "seed": 1}, "save": {"every": 7}}
    assert plan(**others) == plan()


def test_each_prompt_to_preserve_counts():
    both = {"diff_output_preservation": True, "blank_prompt_preservation": True}
    assert plan(training=both).preserved == 2


def test_an_experts_own_rank_is_its_alone():
    stages = {"multistage": {"low_rank": 64}, "target": {"rank": 8}}
    assert (plan(Expert.HIGH, **stages).rank, plan(Expert.LOW, **stages).rank) == (8, 64)
