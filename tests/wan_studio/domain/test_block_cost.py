"""Operations of a block by formulas of their own, and by the trainer's floor."""

import pytest

from trainer.model.block.groups import GROUPS as TRAINER_GROUPS
from trainer.recipes.measure_floor import BlockTimes, ExpertShape, floor_seconds
from wan_studio.domain.block_cost import (
    BLOCK_PARAMETERS,
    BLOCKS,
    FEED_FORWARD,
    GROUPS,
    TEXT_TOKENS,
    WIDTH,
    BlockPlan,
    block_work,
)

L, D, F, S = 11_264, 5120, 13_824, 512
KEEPS = ("nothing", "attention", "sums", "everything")


def test_the_sizes_are_those_of_the_model():
    shape = ExpertShape()
    assert (shape.width, shape.feed_forward, shape.layers) == (WIDTH, FEED_FORWARD, BLOCKS)
    assert BLOCK_PARAMETERS == 8 * D * D + 2 * D * F
    assert {name: len(group.layers) for name, group in GROUPS.items()} == {
        name: len(paths) for name, paths in TRAINER_GROUPS.items()
    }


def test_the_forward_pass_by_hand():
    work = block_work(BlockPlan(), L, 1).forward
    # Queries, keys, values and output of self-attention, query and output of cross-attention, feed-forward; text.
    assert work.frozen == 2 * L * (6 * D * D + 2 * D * F) + 2 * S * 2 * D * D
    assert work.attention == 4 * L * L * D + 4 * L * S * D
    assert work.attention_gradient == 0


@pytest.mark.parametrize("keep", KEEPS)
def test_both_passes_have_the_products_of_the_trainers_floor(keep):
    """With every product's operations for its seconds, the floor is the number of operations."""
    square, widen, text = 2 * L * D * D, 2 * L * D * F, 2 * S * D * D
    own, cross = 4 * L * L * D, 4 * L * S * D
    times = BlockTimes(square, widen, widen, text, own, 2.5 * own, cross, 2.5 * cross)
    both = block_work(BlockPlan(keep=keep), L, 1)
    counted = both.forward + both.backward
    found = counted.frozen + counted.attention + counted.attention_gradient
    assert found == pytest.approx(floor_seconds(times, keep, 1), rel=1e-12)


def test_attention_grows_with_the_square_of_tokens_and_with_the_batch_only_in_proportion():
    one, two = block_work(BlockPlan(), L, 1).backward, block_work(BlockPlan(), L, 2).backward
    double = block_work(BlockPlan(), 2 * L, 1).backward
    assert two.attention_gradient == 2 * one.attention_gradient
    assert double.attention_gradient == pytest.approx(4 * one.attention_gradient, rel=0.03)
    assert double.frozen == two.frozen


def test_low_rank_products_by_hand():
    work = block_work(
        BlockPlan(rank=32, shares=tuple((name, float(name == "widen")) for name in GROUPS)), L, 1
    )
    assert work.forward.low_rank == 2 * L * 32 * (D + F)
    # Computed again once (it is among the products that are), the gradient of inner, input and both halves.
    assert work.backward.low_rank == 2 * L * 32 * (D + F) * 3


def test_traffic_between_products_pass_by_pass():
    """What `trainer/model/block/walk.py` reads and writes without LoRA, in tensors of tokens by width; bf16."""
    wide = F / D
    norm, sum_and_norm, gated_sum = 1 + 1, 2 + 2, 2 + 1
    queries_and_keys, cross_query, gelu = 2 + 2, 1 + 1, 2 * wide
    forward = norm + queries_and_keys + sum_and_norm + cross_query + gated_sum + norm + gelu + gated_sum
    # The queries of cross-attention are wanted by attention and by its gradient.
    again = sum_and_norm + 2 * cross_query + gated_sum + norm + gelu + norm + queries_and_keys
    norm_gradient, gated, gelu_gradient = 3 + 1, 1 + 1, 3 * wide
    query_gradient, all_queries_gradient = 2 + 1, 2 + 3 + 3
    gradient = gated + gelu_gradient + norm_gradient
    gradient += query_gradient + norm_gradient
    gradient += gated + all_queries_gradient + norm_gradient
    work = block_work(BlockPlan(shares=tuple((name, 0.0) for name in GROUPS)), L, 1)
    assert work.forward.traffic == pytest.approx(forward * 2 * L * D)
    assert work.backward.traffic == pytest.approx((again + gradient) * 2 * L * D)


def test_elementwise_traffic_falls_with_what_is_kept():
    traffic = [block_work(BlockPlan(keep=keep), L, 1).backward.traffic for keep in KEEPS]
    assert traffic == sorted(traffic, reverse=True)
    assert len(set(traffic)) == len(traffic)


def test_storage_in_fewer_bits_costs_unpacking_at_every_product_and_for_every_part():
    plain, stored = block_work(BlockPlan(), L, 1), block_work(BlockPlan(mode="float8"), L, 1)
    assert stored.forward.frozen == plain.forward.frozen
    extra = stored.forward.traffic - plain.forward.traffic
    assert extra == pytest.approx(7 * BLOCK_PARAMETERS)
    parts = block_work(BlockPlan(mode="float8", chunks=4), L, 1).forward.traffic
    whole = block_work(BlockPlan(chunks=4), L, 1).forward.traffic
    assert parts - whole == pytest.approx(7 * (BLOCK_PARAMETERS + 3 * 2 * D * F))


def test_diffusers_own_block_computes_everything_again_in_more_passes():
    by_hand, eager = block_work(BlockPlan(), L, 1), block_work(BlockPlan(by_hand=False), L, 1)
    again = 2 * L * (6 * D * D + 2 * D * F) + 2 * S * 2 * D * D
    gradient = 2 * L * (6 * D * D + 2 * D * F)
    assert eager.backward.frozen == again + gradient
    assert eager.backward.traffic > 1.3 * by_hand.backward.traffic


def test_the_text_is_counted_once_for_every_clip():
    one, two = block_work(BlockPlan(), L, 1).forward, block_work(BlockPlan(), L, 2).forward
    assert two.frozen == 2 * one.frozen
    assert TEXT_TOKENS == S
