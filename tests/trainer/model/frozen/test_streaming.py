"""Streaming gives what resident weights give, in every order, and moves no more than it must."""

import pytest
import torch

from tests.trainer.late_copies import (
    CopiesNobodyWaitsFor,
    CopiesThatDoNotWait,
    RaceError,
    Streams,
    WatchedCopies,
)
from trainer.model.frozen.packing import PackedBlock
from trainer.model.frozen.slots import BlockSlots
from trainer.model.frozen.streaming import (
    SlotsInUseError,
    StreamedExpert,
    memory_report,
    visiting_order,
)
from trainer.model.frozen.weights import DenseWeight, Float8Weight

CPU = torch.device("cpu")
WIDTH = 8
X = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(99))


class Model:
    """Blocks of two weights and a residual sum; with `expert`, each is used inside its context only."""

    def __init__(self, seed, block_count=5):
        generator = torch.Generator().manual_seed(seed)

        def matrix():
            return torch.randn(WIDTH, WIDTH, generator=generator)

        self.weights = [[DenseWeight(matrix()), Float8Weight.quantized(matrix())] for _ in range(block_count)]
        self.expert = None

    def pack(self):
        return [PackedBlock(weights, pin=False) for weights in self.weights]

    def apply(self, index, x):
        inner, outer = self.weights[index]
        return x + 0.1 * outer.forward(torch.tanh(inner.forward(x)))

    def apply_backward(self, index, x, grad):
        inner, outer = self.weights[index]
        h = torch.tanh(inner.forward(x))
        return grad + inner.input_gradient(0.1 * outer.input_gradient(grad) * (1 - h * h))


def forward(model, x, **options):
    """All blocks; returns what went into each, and the output."""
    inputs = [x]
    for index in range(len(model.weights)):
        with model.expert.block(index, 1, **options):
            inputs.append(model.apply(index, inputs[-1]))
    return inputs


def training_step(model, x):
    inputs = forward(model, x)
    grad = torch.ones_like(x)
    for index in reversed(range(len(model.weights))):
        with model.expert.block(index, -1):
            grad = model.apply_backward(index, inputs[index], grad)
    return inputs[-1], grad


def expected_step(model, x):
    inputs = [x]
    for index in range(len(model.weights)):
        inputs.append(model.apply(index, inputs[-1]))
    grad = torch.ones_like(x)
    for index in reversed(range(len(model.weights))):
        grad = model.apply_backward(index, inputs[index], grad)
    return inputs[-1], grad


def two_models(resident, ring, streams=None, copies=WatchedCopies, **options):
    """Both experts over common slots, what their steps should give, and the slots."""
    models = [Model(seed=1), Model(seed=2)]
    expected = [expected_step(model, X) for model in models]
    packed = [model.pack() for model in models]
    stream = None if streams is None else copies(streams, "in", to_device=True)
    slots = BlockSlots.for_experts(CPU, packed, resident, ring, stream)
    for model, blocks in zip(models, packed, strict=True):
        model.expert = StreamedExpert(blocks, slots, **options)
        for index, block in enumerate(blocks):
            if streams is not None:
                streams.keep_from_computation(block.host.data_N, f"the RAM of block {index}")
    return models, expected, slots


def assert_equal(results, expected):
    assert all(torch.equal(one, other) for one, other in zip(results, expected, strict=True))


@pytest.fixture(params=["late", "early"])
def streams(request):
    return Streams(late=request.param == "late")


@pytest.mark.parametrize("ahead", [1, 2, 4])
@pytest.mark.parametrize("ring", [1, 2, 3])
@pytest.mark.parametrize("resident", range(6))
def test_steps_of_alternating_experts_are_those_of_resident_ones(resident, ring, ahead, streams):
    with streams:
        models, expected, _ = two_models(resident, ring, streams, ahead=ahead)
        for turn in (0, 1, 0, 0, 1, 1, 0):
            assert_equal(training_step(models[turn], X), expected[turn])


@pytest.mark.parametrize("resident", [0, 2, 5])
def test_the_same_without_streams(resident):
    models, expected, _ = two_models(resident, ring=2)
    for turn in (0, 1, 0):
        assert_equal(training_step(models[turn], X), expected[turn])


@pytest.mark.parametrize("ring", [1, 2, 3])
@pytest.mark.parametrize("resident", [0, 2])
def test_blocks_in_any_order_are_the_right_ones(resident, ring, streams):
    generator = torch.Generator().manual_seed(resident + ring)
    with streams:
        models, _, _ = two_models(resident, ring, streams)
        wanted = [[Model(seed=seed).apply(index, X) for index in range(5)] for seed in (1, 2)]
        for _ in range(60):
            turn, index, back = (int(torch.randint(high, (), generator=generator)) for high in (2, 5, 2))
            with models[turn].expert.block(index, -1 if back else 1, backward_follows=index % 2 == 0):
                assert torch.equal(models[turn].apply(index, X), wanted[turn][index])


@pytest.mark.parametrize("resident", [0, 2, 5])
def test_after_the_memory_was_lent_to_something_else_steps_are_the_same(resident, streams):
    with streams:
        models, expected, slots = two_models(resident, 2, streams)
        assert_equal(training_step(models[0], X), expected[0])
        models[1].expert.announce()
        with slots.vacated():
            assert all(slot.buffer_N.numel() == 0 for slot in (*slots.resident, *slots.ring))
            # What else computes there meanwhile.
            torch.full((4096,), float("nan"))
        for turn in (1, 0):
            assert_equal(training_step(models[turn], X), expected[turn])


def test_memory_in_use_is_not_lent():
    models, _, slots = two_models(2, 2)
    with models[0].expert.block(0, 1), pytest.raises(RuntimeError, match="in use"), slots.vacated():
        pass


@pytest.mark.parametrize("copies", [CopiesThatDoNotWait, CopiesNobodyWaitsFor])
@pytest.mark.parametrize("resident", [0, 5])
def test_streams_that_do_not_wait_for_each_other_are_found_out(copies, resident, streams):
    """The tests above could not fail otherwise."""

    def some_steps():
        models, _, _ = two_models(resident, 2, streams, copies)
        for turn in (0, 1, 0):
            training_step(models[turn], X)

    with pytest.raises(RaceError), streams:
        some_steps()


def test_a_block_that_was_not_waited_for_is_not_there(monkeypatch):
    late = Streams(late=True)
    monkeypatch.setattr(late, "access", lambda *_, **__: None)
    with late:
        models, expected, _ = two_models(0, 2, late, CopiesNobodyWaitsFor)
        output, _ = training_step(models[0], X)
    assert not torch.equal(output, expected[0][0])


@pytest.mark.parametrize("ring", [1, 2, 3])
@pytest.mark.parametrize("resident", [0, 2, 4])
def test_a_streamed_block_moves_twice_a_step_except_where_the_direction_turns(resident, ring):
    models, _, slots = two_models(resident, ring)
    training_step(models[0], X)
    ring = len(slots.ring)
    streamed = 5 - resident
    assert slots.traffic.copies == 5 + (streamed - ring), "the ring still held the last blocks"
    before = slots.traffic.copies
    training_step(models[0], X)
    assert slots.traffic.copies - before == 2 * (streamed - ring), "and the first ones"
    assert slots.traffic.bytes_moved == slots.traffic.copies * models[0].expert.blocks[0].byte_count


def test_a_switch_moves_the_resident_blocks_once():
    models, _, slots = two_models(resident=3, ring=2)
    training_step(models[0], X)
    before = slots.traffic.copies
    training_step(models[1], X)
    assert slots.traffic.copies - before == 5
    before = slots.traffic.copies
    training_step(models[1], X)
    assert slots.traffic.copies == before, "two streamed blocks never leave a ring of two"


@pytest.mark.parametrize("resident", [0, 2, 5])
def test_only_the_first_block_of_a_turn_is_waited_for(resident):
    models, _, slots = two_models(resident, ring=2)
    for steps, turn in enumerate((0, 1, 0, 1)):
        training_step(models[turn], X)
        assert slots.traffic.late_copies == steps + 1


def test_an_announced_turn_is_not_waited_for_at_all():
    models, expected, slots = two_models(resident=2, ring=2)
    for turn in (0, 1, 0):
        models[turn].expert.announce()
        assert_equal(training_step(models[turn], X), expected[turn])
    assert slots.traffic.late_copies == 0


def test_with_a_ring_of_one_every_streamed_block_is_waited_for():
    models, _, slots = two_models(resident=0, ring=1)
    training_step(models[0], X)
    assert slots.traffic.late_copies == slots.traffic.copies == 5 + 4


def test_forward_passes_in_a_row_foresee_the_first_block():
    models, _, slots = two_models(resident=0, ring=2)
    with torch.no_grad():
        for _ in range(3):
            forward(models[0], X)
    assert slots.traffic.late_copies == 1


def test_inside_autograd_functions_the_caller_says_what_follows():
    models, _, slots = two_models(resident=0, ring=2)
    with torch.no_grad():
        forward(models[0], X, backward_follows=True)
    before = slots.traffic.copies
    with models[0].expert.block(4, -1), models[0].expert.block(3, -1):
        pass
    assert slots.traffic.copies == before, "both were still there"


class StopError(Exception):
    pass


@pytest.mark.parametrize("resident", [0, 2])
@pytest.mark.parametrize("stop_at", range(10))
def test_after_a_step_that_broke_off_the_next_is_right(resident, stop_at, streams):
    def broken_step(model):
        for count, (index, direction) in enumerate(
            [*((i, 1) for i in range(5)), *((i, -1) for i in range(4, -1, -1))]
        ):
            with model.expert.block(index, direction):
                model.apply(index, X)
                if count == stop_at:
                    raise StopError

    with streams:
        models, expected, _ = two_models(resident, 2, streams)
        for turn in (0, 1, 1):
            with pytest.raises(StopError):
                broken_step(models[turn])
            assert_equal(training_step(models[1 - turn], X), expected[1 - turn])


@pytest.mark.parametrize("resident", [0, 5])
def test_a_copy_that_fails_leaves_no_slot_that_passes_for_filled(monkeypatch, resident):
    models, expected, slots = two_models(resident, ring=2)
    training_step(models[0], X)

    def fail_halfway(pairs, after):
        for target, _ in pairs:
            target.fill_(255)
        raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(slots._copies, "copy", fail_halfway)
        with pytest.raises(StopError):
            training_step(models[1], X)
    for turn in (0, 1):
        assert_equal(training_step(models[turn], X), expected[turn])


def test_outside_its_context_a_block_is_bound_to_ram(streams):
    with streams:
        models, _, _ = two_models(2, 2, streams)
        training_step(models[0], X)
        for index in range(5):
            with pytest.raises(RaceError, match=f"RAM of block {index}"):
                models[0].apply(index, X)


def test_a_block_can_be_opened_inside_itself_and_stays_until_the_outer_end(streams):
    with streams:
        models, _, _ = two_models(0, 2, streams)
        wanted = Model(seed=1).apply(3, X)
        with models[0].expert.block(3, -1):
            with models[0].expert.block(3, -1):
                pass
            assert torch.equal(models[0].apply(3, X), wanted)
            with models[0].expert.block(1, -1):
                pass
            assert torch.equal(models[0].apply(3, X), wanted)


def test_more_blocks_inside_each_other_than_slots_is_an_error_that_does_no_harm():
    models, expected, _ = two_models(resident=0, ring=2)
    expert = models[0].expert
    with (
        pytest.raises(SlotsInUseError, match="block 4"),
        expert.block(0, 1),
        expert.block(2, 1),
        expert.block(4, 1),
    ):
        pass
    assert_equal(training_step(models[0], X), expected[0])


def test_contexts_that_nobody_closed_are_ended_by_abandoning_them(streams):
    with streams:
        models, expected, slots = two_models(0, 2, streams)
        left_open = [models[0].expert.block(index, 1) for index in (0, 1)]
        for one in left_open:
            one.__enter__()
        with pytest.raises(SlotsInUseError), models[1].expert.block(0, 1):
            pass
        slots.abandon()
        with models[1].expert.block(0, 1):
            for one in left_open:
                one.__exit__(None, None, None)
            assert torch.equal(models[1].apply(0, X), Model(seed=2).apply(0, X)), "closed too late, no effect"
        assert_equal(training_step(models[1], X), expected[1])


def test_contexts_that_were_forgotten_end_by_themselves():
    models, expected, _ = two_models(resident=0, ring=2)
    models[0].expert.block(0, 1).__enter__()
    models[0].expert.block(1, 1).__enter__()
    assert_equal(training_step(models[1], X), expected[1])


def test_a_weight_that_autograd_kept_beyond_the_context_is_told_not_taken_for_another():
    models, _, _ = two_models(resident=0, ring=2)
    x = X.clone().requires_grad_()
    outputs = forward(models[0], x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs[-1].sum().backward()


def test_the_order_is_foreseen_through_the_next_pass():
    assert visiting_order(4, 1, 1, backward_follows=True) == [2, 3, 3, 2, 1, 0]
    assert visiting_order(4, 1, 1, backward_follows=False) == [2, 3, 0, 1, 2, 3]
    assert visiting_order(4, 3, 1, backward_follows=True) == [3, 2, 1, 0]
    assert visiting_order(4, 2, -1, backward_follows=True) == [1, 0, 0, 1, 2, 3]


def test_slots_are_no_more_than_the_blocks_can_use():
    packed = [Model(seed=1).pack()]
    for resident, ring, expected in [(0, 2, (0, 2)), (4, 2, (4, 1)), (5, 2, (5, 0)), (9, 2, (5, 0))]:
        slots = BlockSlots.for_experts(CPU, packed, resident, ring)
        assert (len(slots.resident), len(slots.ring)) == expected


def test_blocks_that_cannot_be_served_are_refused():
    blocks = Model(seed=1).pack()
    with pytest.raises(ValueError, match="no ring"):
        StreamedExpert(blocks, BlockSlots(CPU, blocks[0].byte_count, resident=4, ring=0))
    with pytest.raises(ValueError, match="larger than a slot"):
        StreamedExpert(blocks, BlockSlots(CPU, blocks[0].byte_count - 1, resident=0))


def test_blocks_of_different_sizes_share_slots():
    small, large = Model(seed=1), Model(seed=2)
    large.weights[2].append(DenseWeight(torch.randn(50, WIDTH)))
    packed = [small.pack(), large.pack()]
    slots = BlockSlots.for_experts(CPU, packed, resident=1)
    for model, blocks in zip((small, large), packed, strict=True):
        model.expert = StreamedExpert(blocks, slots)
    wanted = large.weights[2][2].dense(torch.float32).clone()
    forward(small, X)
    with large.expert.block(2, 1):
        assert torch.equal(large.weights[2][2].dense(torch.float32), wanted)


def test_memory_is_reported_with_common_slots_counted_once():
    models, _, _ = two_models(resident=3, ring=2)
    block_bytes = models[0].expert.blocks[0].byte_count
    report = memory_report(model.expert for model in models)
    assert (report.device_resident, report.device_ring) == (3 * block_bytes, 2 * block_bytes)
    assert (report.ram_pinned, report.ram_pageable) == (0, 10 * block_bytes)
    assert report.refusal == ""


def test_the_idle_expert_holds_no_device_memory():
    models, _, slots = two_models(resident=3, ring=2)
    training_step(models[0], X)
    training_step(models[1], X)
    of_the_idle = set(models[0].expert.blocks)
    assert not [slot for slot in (*slots.resident, *slots.ring) if slot.holds in of_the_idle]
