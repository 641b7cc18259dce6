"""Streaming on a real GPU: the same bits, memory of the slots alone, and no time that computing can hide."""

import math

import pytest
import torch

from tests.trainer.slow_copies import SlowCopies, milliseconds_of, pause
from trainer.model.frozen.packing import PackedBlock
from trainer.model.frozen.slots import BlockSlots
from trainer.model.frozen.streaming import StreamedExpert, memory_report
from trainer.model.frozen.weights import DenseWeight, Float8Weight
from trainer.runtime.copy_stream import CudaCopies
from trainer.runtime.device import release_memory

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]

WIDTH = 4096
BLOCKS = 6
MIB = 2**20


@pytest.fixture
def device():
    release_memory()
    yield torch.device("cuda", torch.cuda.current_device())
    torch.cuda.synchronize()


def new_weights(device, seed, block_count=BLOCKS):
    """Per block one bfloat16 and one float8 weight: 48 MiB."""
    generator = torch.Generator(device).manual_seed(seed)

    def matrix():
        return (torch.randn(WIDTH, WIDTH, generator=generator, device=device) / 64).bfloat16()

    return [[DenseWeight(matrix()), Float8Weight.quantized(matrix())] for _ in range(block_count)]


def apply(weights, x):
    first, second = weights
    return x + second.forward(torch.tanh(first.forward(x)))


def apply_backward(weights, grad):
    first, second = weights
    return grad + first.input_gradient(second.input_gradient(grad))


class Opened:
    """Stands for blocks that are on the GPU for good."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def step(weights, block, x, repeats=1, slow=False):
    """Forward and backward through all blocks; `block(index, direction)` opens one."""
    order = [*((index, 1) for index in range(len(weights)))]
    order += [(index, -1) for index, _ in reversed(order)]
    for index, direction in order:
        with block(index, direction):
            if slow:
                pause()
            for _ in range(repeats):
                own = weights[index]
                x = apply(own, x) if direction == 1 else apply_backward(own, x)
                x = x / x.abs().amax().clamp_min(1e-3)
            if slow:
                pause()
    return x


def resident_results(device, x, block_count=BLOCKS):
    return [step(new_weights(device, seed, block_count), lambda *_: Opened(), x) for seed in (1, 2)]


def two_experts(device, resident, ring=2, copies=None, block_count=BLOCKS):
    """Weights and streamed expert of both, over common slots; packed from the GPU, one after the other."""
    weights, packed = [], []
    for seed in (1, 2):
        weights.append(new_weights(device, seed, block_count))
        packed.append([PackedBlock(one, pin=True) for one in weights[-1]])
    slots = BlockSlots.for_experts(device, packed, resident, ring, copies)
    return weights, [StreamedExpert(blocks, slots) for blocks in packed]


@pytest.mark.parametrize("slow", ["computation", "copies", "neither"])
@pytest.mark.parametrize(("resident", "ring"), [(0, 1), (0, 2), (2, 2), (3, 3), (BLOCKS, 2)])
def test_steps_of_alternating_experts_are_those_of_resident_ones_bit_for_bit(device, resident, ring, slow):
    x = torch.randn(512, WIDTH, generator=torch.Generator().manual_seed(0)).to(device, torch.bfloat16)
    expected = resident_results(device, x)
    copies = SlowCopies(device) if slow == "copies" else CudaCopies(device)
    weights, experts = two_experts(device, resident, ring, copies)
    turns = (0, 1, 0, 0, 1)
    results = [step(weights[turn], experts[turn].block, x, slow=slow == "computation") for turn in turns]
    for turn, result in zip(turns, results, strict=True):
        assert torch.isfinite(result).all()
        assert torch.equal(result, expected[turn])


def test_the_program_never_waits_for_the_gpu(device):
    x = torch.randn(512, WIDTH, device=device, dtype=torch.bfloat16)
    weights, experts = two_experts(device, resident=2)
    step(weights[0], experts[0].block, x)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(10):
            pause()
        for turn in (1, 0):
            experts[turn].announce()
            step(weights[turn], experts[turn].block, x)
        still_busy = not torch.cuda.current_stream().query()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert still_busy, "the steps were launched before the pause was over"


def test_packing_frees_the_gpu_and_both_experts_take_the_slots_alone(device):
    x = torch.randn(64, WIDTH, device=device, dtype=torch.bfloat16)
    # So that what matrix products take for good is taken before.
    step(new_weights(device, seed=0, block_count=1), lambda *_: Opened(), x)
    before = torch.cuda.memory_allocated(device)
    weights, experts = two_experts(device, resident=2)
    slots = experts[0].slots
    assert torch.cuda.memory_allocated(device) - before <= slots.resident_bytes + slots.ring_bytes + 10 * MIB
    torch.cuda.reset_peak_memory_stats(device)
    for turn in (0, 1, 0):
        step(weights[turn], experts[turn].block, x)
    # A float8 weight is widened for its product: a matrix in bfloat16, and another with its scale.
    widened = 2 * WIDTH * WIDTH * 2
    peak = torch.cuda.max_memory_allocated(device) - before
    assert peak <= slots.resident_bytes + slots.ring_bytes + widened + 20 * MIB
    report = memory_report(experts)
    assert report.ram_pinned == 2 * BLOCKS * experts[0].blocks[0].byte_count, report.refusal
    assert report.ram_pageable == 0


def test_slots_given_up_in_the_middle_of_a_copy_do_no_harm(device):
    weights, experts = two_experts(device, resident=0, copies=SlowCopies(device))
    # Freed masters would be waited for; here it is the slots' turn.
    masters = [expert.blocks for expert in experts]
    size = experts[0].slots.ring_bytes // 2
    experts[0].announce()
    del experts
    new = [torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(4)]
    torch.cuda.synchronize()
    assert not any(one.any().item() for one in new)
    del masters, weights


def compute_that_hides_a_copy(device, weights, blocks):
    """An input, and how often a block must compute with it to take twice as long as its copy."""
    x = torch.randn(8192, WIDTH, device=device, dtype=torch.bfloat16)
    target = torch.empty(blocks[0].byte_count, dtype=torch.uint8, device=device)
    copy_ms = milliseconds_of(lambda: target.copy_(blocks[0].host.data_N, non_blocking=True))
    own = [weight.dense(torch.bfloat16).to(device) for weight in weights[0]]
    dense = [DenseWeight(one) for one in own]
    pass_ms = milliseconds_of(lambda: step([dense], lambda *_: Opened(), x)) / 2
    print(f"copy {copy_ms:.2f} ms, block {pass_ms:.2f} ms, {blocks[0].byte_count / copy_ms / 1e6:.1f} GB/s")
    return x, math.ceil(2 * copy_ms / pass_ms)


def test_streaming_and_switching_cost_little_where_computing_takes_longer_than_copying(device):
    block_count = 16
    weights, streamed = two_experts(device, resident=0, block_count=block_count)
    packed = [expert.blocks for expert in streamed]
    x, repeats = compute_that_hides_a_copy(device, weights[0], packed[0])
    slots = BlockSlots.for_experts(device, packed, resident=block_count)
    resident = [StreamedExpert(blocks, slots) for blocks in packed]
    turn = 0

    def switch():
        nonlocal turn
        turn = 1 - turn
        step(weights[turn], resident[turn].block, x, repeats)

    resident_ms = milliseconds_of(lambda: step(weights[0], resident[0].block, x, repeats))
    switched_ms = milliseconds_of(switch)
    streamed_ms = milliseconds_of(lambda: step(weights[0], streamed[0].block, x, repeats))
    print(f"resident {resident_ms:.1f} ms, switched {switched_ms:.1f} ms, streamed {streamed_ms:.1f} ms")
    assert switched_ms < 1.05 * resident_ms
    assert streamed_ms < 1.05 * resident_ms
