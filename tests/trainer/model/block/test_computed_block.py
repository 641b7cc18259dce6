"""The block computed by hand against diffusers' own under autograd, which knows nothing of it."""

from contextlib import nullcontext
from dataclasses import replace
from functools import cache

import pytest
import torch
from peft import LoraConfig
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.trainer.small_experts import (
    SMALL,
    block_inputs,
    distance,
    expert_inputs,
    expert_weights,
    one_step,
    plain_expert,
    put_lora,
    small_expert,
)
from trainer.model.assemble import serve
from trainer.model.block.activations import KEPT, put_together, taken_apart
from trainer.model.block.attention import Attended
from trainer.model.block.computed_block import BlockPlan, ComputedBlock
from trainer.model.expert_plan import ExpertPlan
from trainer.model.frozen.weights import DenseWeight
from trainer.model.lora import LoraSettings, load_lora_state, lora_disabled, lora_state, lora_strength
from trainer.model.lora_layers import ADAPTER

ROUNDING = 1e-5
"""How far sums of float32 numbers lie apart that were added in another order, relative to all of them."""


ONE_BLOCK = replace(SMALL, layers=1)


class Pair:
    """The same block twice: diffusers' own, and the one computed by hand."""

    def __init__(self, dress=put_lora, mode="none"):
        source = expert_weights(ONE_BLOCK)
        self.plain = plain_expert(source)
        self.expert = small_expert(source, ExpertPlan(mode=mode, recovery_rank=8))
        if mode != "none":
            self.let_the_plain_one_have_the_rounded_weights()
        for transformer in (self.plain, self.expert.transformer):
            dress(transformer)
        block = self.expert.transformer.blocks[0]
        self.computed = ComputedBlock(0, block, self.expert.groups[0], BlockPlan())

    def let_the_plain_one_have_the_rounded_weights(self):
        for block, frozen in zip(self.plain.blocks, self.expert.transformer.blocks, strict=True):
            for path in (one for group in self.expert.groups[0].values() for one in group.paths):
                block.get_submodule(path).weight.data = frozen.get_submodule(path).weight

    def both(self, plan=None, batch=2, context=nullcontext, of_input=True):
        """Output, gradient of the input and gradients of the LoRA of each."""
        self.computed.plan = plan or BlockPlan()
        found = []
        for transformer, compute in (
            (self.plain, self.plain.blocks[0]),
            (self.expert.transformer, self.computed),
        ):
            x, *others = block_inputs(transformer, batch)
            x.requires_grad_(of_input)
            with context(transformer):
                parameters = [one for one in transformer.blocks[0].parameters() if one.requires_grad]
                out = compute(x, *others)
                wanted = [x, *parameters] if of_input else parameters
                weights = torch.linspace(-1, 1, out.numel()).view_as(out)
                gradients = torch.autograd.grad(out, wanted, weights)
            found.append((out.detach(), *gradients))
        return found


@pytest.fixture(scope="module")
def pair():
    """With a LoRA on every linear; no test changes more of it than its plan."""
    return Pair()


@cache
def rounded(mode, dress):
    return Pair(dress, mode)


def no_lora(transformer):
    """Leave it as it is."""


def assert_alike(found, tolerance=ROUNDING):
    expected, given = found
    assert len(given) == len(expected)
    for number, (one, other) in enumerate(zip(given, expected, strict=True)):
        assert one.dtype == other.dtype
        assert distance(one, other) < tolerance, f"tensor {number} of {len(given)}"


# ---- The same numbers -------------------------------------------------------------------------


@pytest.mark.parametrize("keep", KEPT)
@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize("batch", [1, 2])
def test_output_and_every_gradient_are_those_of_autograd(pair, keep, chunks, batch):
    found = pair.both(BlockPlan(keep=keep, feed_forward_chunks=chunks), batch)
    assert len(found[0]) == 2 + 2 * 10
    assert_alike(found)


def test_items_of_a_batch_have_the_modulation_of_their_own_timestep(pair):
    pair.computed.plan = BlockPlan()
    x, text, modulation, rotary = block_inputs(pair.plain)
    together = pair.computed(x, text, modulation, rotary)
    for item in range(2):
        only = slice(item, item + 1)
        alone = pair.computed(x[only], text[only], modulation[only], rotary)
        assert distance(together[only], alone) < ROUNDING
    swapped = pair.computed(x, text, modulation.flip(0), rotary)
    assert distance(swapped, together) > 0.01


@pytest.mark.parametrize("keep", ["nothing", "everything"])
def test_at_half_strength_gradients_are_those_of_autograd(pair, keep):
    plan = BlockPlan(keep=keep)
    full = pair.both(plan)
    halved = pair.both(plan, context=lambda transformer: lora_strength(transformer, 0.5))
    assert distance(halved[1][0], full[1][0]) > 0.01
    assert_alike(halved)


def test_a_disabled_lora_is_the_base(pair):
    found = pair.both(context=lora_disabled)
    assert_alike(found)
    assert torch.equal(rounded("none", no_lora).both()[1][0], found[1][0])


@pytest.mark.parametrize(
    "filters",
    [
        {"only_if_contains": ("self_attn.v", "cross_attn.k", "ffn.0")},
        {"ignore_if_contains": ("cross_attn",)},
        {"only_if_contains": ("self_attn.k",)},
    ],
)
def test_a_lora_on_some_of_the_layers(filters):
    def dress(transformer):
        put_lora(transformer, LoraSettings(rank=4, **filters))

    pair = Pair(dress)
    assert_alike(pair.both(BlockPlan(keep="nothing")))
    assert_alike(pair.both(BlockPlan(keep="everything")))


def test_layers_of_a_group_may_have_ranks_of_their_own():
    def dress(transformer):
        config = LoraConfig(
            r=4,
            lora_alpha=2,
            target_modules=r"blocks\.\d+\.attn1\.to_[qkv]",
            rank_pattern={"attn1.to_q": 2, "attn1.to_v": 7},
            alpha_pattern={"attn1.to_k": 12},
            init_lora_weights=False,
        )
        transformer.add_adapter(config, ADAPTER)
        generator = torch.Generator().manual_seed(0)
        load_lora_state(
            transformer,
            {k: torch.randn(v.shape, generator=generator) * 0.1 for k, v in lora_state(transformer).items()},
        )

    pair = Pair(dress)
    ranks = [one.down.shape[0] for one in pair.expert.groups[0]["self_qkv"].branches(pair.computed.block)]
    assert ranks == [2, 4, 7]
    assert_alike(pair.both())


@pytest.mark.parametrize("mode", ["float8", "nf4", "nf4_recovered"])
@pytest.mark.parametrize("keep", ["nothing", "everything"])
@pytest.mark.parametrize("dress", [put_lora, no_lora])
def test_rounded_weights_compute_as_the_plain_matrices_that_they_stand_for(mode, keep, dress):
    assert_alike(rounded(mode, dress).both(BlockPlan(keep=keep)), 2e-5)


class WithSideBranch(DenseWeight):
    """A weight with a branch beside it, as recovered ones have."""

    def __init__(self, weight_OI, down_RI, up_OR):
        super().__init__(weight_OI - up_OR @ down_RI)
        self.side_branch_of = (down_RI, up_OR)

    @property
    def side_branch(self):
        return self.side_branch_of


@pytest.mark.parametrize("only", [(), ("self_attn.q", "ffn.2")])
def test_a_side_branch_acts_in_both_directions_and_is_not_trained(only):
    pair = Pair(lambda one: put_lora(one, LoraSettings(rank=4, only_if_contains=only)))
    generator = torch.Generator().manual_seed(0)
    for group in pair.expert.groups[0].values():
        outputs, inputs = group.weight.out_features, group.weight.in_features
        down = torch.randn(5, inputs, generator=generator) * 0.1
        up = torch.randn(outputs, 5, generator=generator) * 0.1
        # What the branch adds the weight has less of: together they are the plain one's.
        group.weight = WithSideBranch(group.weight.stored["weight"], down, up)
    assert_alike(pair.both(), 2e-5)


@pytest.mark.parametrize("chunks", [1, 3])
def test_products_in_float8_stay_near_the_plain_ones(chunks):
    found = rounded("float8_compute", put_lora).both(BlockPlan(feed_forward_chunks=chunks))
    (out, of_input, *gradients), (given_out, given_of_input, *given_gradients) = found
    # Numbers with 3 bits behind the leading one are wrong by 2.6 % each, and the sums average that.
    assert distance(given_out, out) < 0.03
    assert distance(given_of_input, of_input) < 0.03
    assert distance(given_gradients, gradients) < 0.06


@pytest.mark.parametrize("keep", ["nothing", "sums"])
def test_bfloat16_stays_as_near_to_float32_as_diffusers_own_does(keep):
    source = expert_weights()
    exact, rounded, given = [], [], []
    for kind, dtype in ((exact, torch.float32), (rounded, torch.bfloat16), (given, torch.bfloat16)):
        if kind is given:
            expert = small_expert(source, dtype=dtype)
            put_lora(expert.transformer)
            transformer = expert.transformer
            serve({"high": expert}, ExpertPlan(keep=keep), torch.device("cpu"), print)
        else:
            transformer = plain_expert(source, dtype)
            put_lora(transformer)
        out, gradients = one_step(transformer, expert_inputs(transformer, batch=2))
        kind += [out.float(), gradients]
    for part in range(2):
        assert distance(given[part], exact[part]) < 1.3 * distance(rounded[part], exact[part]) + 1e-3


# ---- What is kept and what is not -------------------------------------------------------------


class CountingKeeper:
    """Keeps tensors in place and tells which."""

    def __init__(self):
        self.kept: list[list[Tensor]] = []

    def keep(self, index, tensors):
        self.kept.append(list(tensors))
        return len(self.kept) - 1

    def fetch(self, handle):
        return self.kept[handle]


@pytest.mark.parametrize("keep", KEPT)
@pytest.mark.parametrize("chunks", [1, 3])
def test_kept_is_what_the_plan_names_and_nothing_else(pair, keep, chunks):
    keeper = CountingKeeper()
    pair.computed.plan = BlockPlan(keep=keep, feed_forward_chunks=chunks, keeper=keeper)
    x, text, modulation, rotary = block_inputs(pair.plain)
    pair.computed(x, text, modulation, rotary)
    (tensors,) = keeper.kept
    tokens, width, rows, feed_forward = x.shape[1], x.shape[2], text.shape[1], SMALL.ffn_dim
    sizes = {
        "self_attention": tokens * width,
        "cross_kv": rows * 2 * width,
        "sum1": tokens * width,
        "cross_q": tokens * width,
        "cross_attention": tokens * width,
        "sum2": tokens * width,
        "self_qkv": tokens * 3 * width,
        # In parts, the widest tensor is never whole.
        "widened": tokens * feed_forward if chunks == 1 else 0,
    }
    assert tensors[0].data_ptr() == x.data_ptr()
    assert sum(one.numel() for one in tensors[1:]) == x.shape[0] * sum(sizes[name] for name in KEPT[keep])
    for one in tensors:
        assert one.untyped_storage().nbytes() == one.numel() * one.element_size(), "memory of another tensor"


class Births(TorchDispatchMode):
    """Knows every piece of memory that was taken inside."""

    def __init__(self):
        super().__init__()
        self.born = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for one in tree_leaves(result):
            if isinstance(one, Tensor) and not func.is_view:
                storage = one.untyped_storage()
                self.born[storage.data_ptr()] = (StorageWeakRef(storage), storage.nbytes())
        return result

    def alive_bytes(self, beside):
        known = {one.untyped_storage().data_ptr() for one in beside}
        return sum(
            size for where, (memory, size) in self.born.items() if where not in known and not memory.expired()
        )


@pytest.mark.parametrize("keep", KEPT)
def test_nothing_survives_the_forward_pass_but_what_is_kept(pair, keep):
    keeper = CountingKeeper()
    pair.computed.plan = BlockPlan(keep=keep, keeper=keeper)
    inputs = block_inputs(pair.plain)
    parameters = list(pair.computed.block.parameters())
    with Births() as births:
        out = pair.computed(*inputs)
    # The modulation, one plus its scales, and the rotary positions with their signs.
    modulation_bytes, positions_bytes = inputs[2].numel() * 4, inputs[3][0].numel() * 4
    known = [out, *keeper.kept[0], *inputs[:3], *inputs[3], *parameters]
    assert births.alive_bytes(known) <= 2 * modulation_bytes + 2 * positions_bytes


def test_the_gradient_of_the_first_blocks_input_is_not_computed():
    pair = Pair()
    products = []
    group = pair.expert.groups[0]["self_qkv"]

    class Watched(DenseWeight):
        def input_gradient(self, grad_NO):
            products.append("self_qkv")
            return super().input_gradient(grad_NO)

    group.weight = Watched(group.weight.stored["weight"])
    assert_alike(pair.both(of_input=False))
    assert not products
    pair.both(of_input=True)
    assert products


@pytest.mark.parametrize(
    ("keep", "again"),
    [
        ("nothing", ["cross_kv", "cross_out", "cross_q", "self_out", "self_qkv", "widen"]),
        ("attention", ["cross_out", "cross_q", "self_out", "self_qkv", "widen"]),
        ("sums", ["self_qkv", "widen"]),
        ("everything", []),
    ],
)
def test_what_was_kept_is_not_computed_again(keep, again):
    pair = Pair()
    pair.computed.plan = BlockPlan(keep=keep)
    products = []
    for name, group in pair.expert.groups[0].items():

        class Watched(DenseWeight):
            name = ""

            def forward(self, x_NI, bias_O=None):
                products.append(self.name)
                return super().forward(x_NI, bias_O)

        group.weight = Watched(group.weight.stored["weight"])
        group.weight.name = name
    x, *others = block_inputs(pair.plain)
    out = pair.computed(x.requires_grad_(), *others)
    assert sorted(products) == sorted(pair.expert.groups[0])
    products.clear()
    out.sum().backward()
    assert sorted(products) == again


def test_without_gradients_nothing_is_kept(pair):
    keeper = CountingKeeper()
    pair.computed.plan = BlockPlan(keeper=keeper)
    with torch.no_grad():
        quiet = pair.computed(*block_inputs(pair.plain))
    assert not keeper.kept
    assert torch.equal(pair.computed(*block_inputs(pair.plain)), quiet)


def test_loras_that_changed_between_the_passes_are_an_error(pair):
    pair.computed.plan = BlockPlan()
    x, *others = block_inputs(pair.plain)
    out = pair.computed(x.requires_grad_(), *others)
    with lora_disabled(pair.expert.transformer), pytest.raises(RuntimeError, match="LoRAs were changed"):
        out.sum().backward()


def test_attention_that_was_kept_comes_back_as_it_was():
    values = {
        "sum1": torch.ones(2),
        "self_attention": Attended(torch.zeros(3), "flash", (torch.ones(1), None, 7, torch.ones(4))),
    }
    tensors, shapes = taken_apart(values)
    assert len(tensors) == 4
    back = put_together(tensors, shapes)
    assert back["sum1"] is values["sum1"]
    assert back["self_attention"].kernel == "flash"
    assert back["self_attention"].saved[1:3] == (None, 7)
    assert [
        one is other
        for one, other in zip(back["self_attention"].saved, values["self_attention"].saved, strict=True)
    ] == [True] * 4
