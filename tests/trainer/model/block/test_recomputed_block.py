"""Blocks that autograd computes again: bit for bit what diffusers and torch's checkpoint give, dropout included."""

import pytest
import torch

from tests.trainer.small_experts import (
    CPU,
    expert_inputs,
    expert_weights,
    is_same,
    one_step,
    plain_expert,
    put_lora,
    small_expert,
)
from trainer.model.assemble import serve
from trainer.model.block.computed_block import ComputedBlock
from trainer.model.block.recomputed_block import RecomputedBlock
from trainer.model.expert_plan import ExpertPlan
from trainer.model.lora import LoraSettings, lora_disabled, lora_dropout

KINDS = {
    "LoRA with dropout": LoraSettings(rank=4, dropout=0.4),
    "DoRA": LoraSettings(rank=4, type="dora"),
    "DoRA with dropout": LoraSettings(rank=4, type="dora", dropout=0.4),
    "LoKr": LoraSettings(rank=4, type="lokr"),
    "LoKr with dropout": LoraSettings(rank=4, type="lokr", dropout=0.4),
}


@pytest.fixture(scope="module")
def source():
    return expert_weights()


def checkpointed(source, settings):
    """Diffusers' own with torch's checkpoint, and the same weights behind frozen linears."""
    plain = plain_expert(source)
    put_lora(plain, settings)
    plain.enable_gradient_checkpointing()
    return plain


def served(source, settings, **plan):
    expert = small_expert(source, ExpertPlan(**plan), in_ram="resident_blocks" in plan)
    put_lora(expert.transformer, settings)
    serve({"high": expert}, ExpertPlan(**plan), CPU, pytest.fail)
    assert all(isinstance(block.forward, RecomputedBlock) for block in expert.transformer.blocks)
    return expert.transformer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("plan", [{}, {"resident_blocks": 0, "checkpoint_offloading": True}])
def test_a_step_is_that_of_torchs_checkpoint_bit_for_bit(source, kind, plan):
    found = []
    for transformer in (checkpointed(source, KINDS[kind]), served(source, KINDS[kind], **plan)):
        torch.manual_seed(1)
        step = one_step(transformer, expert_inputs(transformer, 2), lora_dropout(transformer, 3))
        found.append((step, torch.get_rng_state()))
    (expected, state), (given, given_state) = found
    assert is_same(given, expected)
    assert torch.equal(given_state, state)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "dropout" in kind])
def test_dropout_draws_new_places_each_time_and_the_generators_go_on_as_they_would(source, kind):
    found = []
    for transformer in (checkpointed(source, KINDS[kind]), served(source, KINDS[kind])):
        with lora_dropout(transformer, 3):
            first, second = one_step(transformer), one_step(transformer)
            state = torch.get_rng_state()
        assert not is_same(first, second)
        found.append((first, second, state))
    assert is_same(found[1][0], found[0][0])
    assert is_same(found[1][1], found[0][1])
    assert torch.equal(found[1][2], found[0][2])


def test_only_the_input_is_kept_of_a_block(source):
    transformer = served(source, KINDS["DoRA"])
    kept = []

    class Keeper:
        def keep(self, index, tensors):
            kept.append(list(tensors))
            return kept[-1]

        def fetch(self, handle):
            return handle

    for block in transformer.blocks:
        block.forward.plan.keeper = Keeper()
    inputs = expert_inputs(transformer)
    transformer(**inputs)
    (tokens,) = {one.shape[1] for (one,) in kept}
    assert len(kept) == len(transformer.blocks)
    assert tokens == inputs["hidden_states"][0, 0].numel() // 4


def test_gradients_pass_through_a_block_whose_adapters_are_off(source):
    settings = KINDS["DoRA"]
    transformer, plain = served(source, settings), checkpointed(source, settings)
    found = []
    for one in (transformer, plain):
        inputs = expert_inputs(one)
        inputs["hidden_states"].requires_grad_()
        with lora_disabled(one):
            (out,) = one(**inputs)
            out.square().mean().backward()
        found.append(inputs["hidden_states"].grad)
    assert torch.equal(*found)


def test_a_plain_lora_is_computed_by_hand_and_a_mixture_of_blocks_is_possible(source):
    expert = small_expert(source)
    put_lora(expert.transformer, LoraSettings(rank=4, dropout=0.4, only_if_contains=("blocks.1.",)))
    serve({"high": expert}, ExpertPlan(), CPU, pytest.fail)
    kinds = [type(block.forward) for block in expert.transformer.blocks]
    assert kinds == [ComputedBlock, RecomputedBlock]
