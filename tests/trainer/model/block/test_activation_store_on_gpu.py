"""The activation store on a real GPU: the same bits, less memory, little time."""

import pytest
import torch

from tests.trainer.slow_copies import SlowCopies, milliseconds_of, pause
from trainer.model.block.activation_store import ActivationStore
from trainer.runtime.device import release_memory

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]

BLOCKS = 8
WIDTH = 2048
HEADS = 16


@pytest.fixture
def device():
    release_memory()
    yield torch.device("cuda", torch.cuda.current_device())
    torch.cuda.synchronize()


def matrices(device):
    generator = torch.Generator(device).manual_seed(0)
    return [
        (torch.randn(WIDTH, WIDTH, generator=generator, device=device) / WIDTH**0.5).bfloat16()
        for _ in range(BLOCKS)
    ]


def some_input(device, tokens=4096):
    return torch.randn(1, tokens, WIDTH, generator=torch.Generator().manual_seed(1)).to(
        device, torch.bfloat16
    )


def step(store, own, x, repeats=1, slow=False):
    """A chain of products whose backward pass depends on all that was kept."""
    handles = []
    for index, matrix in enumerate(own):
        heads = x.unflatten(2, (HEADS, -1)).transpose(1, 2).contiguous().transpose(1, 2)
        handles.append(store.keep(index, [x, heads, x.float().mean(2)]))
        if slow:
            pause()
        for _ in range(repeats):
            x = torch.tanh(x @ matrix)
        del heads
    grad = torch.ones_like(x)
    del x
    while handles:
        kept, heads, mean = store.fetch(handles.pop())
        assert not heads.is_contiguous()
        if slow:
            pause()
        for _ in range(2 * repeats):
            grad = (
                (grad @ own[len(handles)].T).tanh() * kept + heads.flatten(2) - mean[..., None].to(grad.dtype)
            )
    return grad


def stores(device, slow_copies):
    pair = {"out": SlowCopies(device), "back": SlowCopies(device)} if slow_copies else {}
    return ActivationStore(device, enabled=False), ActivationStore(device, enabled=True, **pair)


@pytest.mark.parametrize("slow", ["computation", "copies", "neither"])
def test_steps_of_all_sizes_are_those_without_offloading_bit_for_bit(device, slow):
    own = matrices(device)
    off, on = stores(device, slow == "copies")
    for tokens in (1024, 4096, 512, 4096):
        x = some_input(device, tokens)
        results = [step(on, own, x, slow=slow == "computation") for _ in range(2)]
        expected = step(off, own, x)
        assert torch.isfinite(expected).all()
        assert all(torch.equal(result, expected) for result in results)


def test_steps_that_break_off_in_the_middle_of_copies_do_no_harm(device):
    own, x = matrices(device), some_input(device)
    off, on = stores(device, slow_copies=True)
    expected = step(off, own, x)
    for fetched in (0, 1, 4):
        handles = [on.keep(index, [x + index]) for index in range(BLOCKS)]
        for _ in range(fetched):
            on.fetch(handles.pop())
        handles.clear()
        assert torch.equal(step(on, own, x), expected)


def test_memory_falls_to_a_few_blocks(device):
    own, x = matrices(device), some_input(device, tokens=16384)
    block_bytes = 2 * x.numel() * x.element_size()

    def peak(store):
        step(store, own, x)
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step(store, own, x)
        torch.cuda.synchronize()
        assert torch.cuda.memory_allocated(device) == before, "nothing is left of a step"
        return torch.cuda.max_memory_allocated(device) - before

    off, on = stores(device, slow_copies=False)
    saved = peak(off) - peak(on)
    # Two are on their way out and the current one is at work.
    assert saved >= (BLOCKS - 4) * block_bytes
    assert on.refusal == ""


def test_the_program_never_waits_for_the_gpu(device):
    own, x = matrices(device), some_input(device)
    _, on = stores(device, slow_copies=False)
    step(on, own, x)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(10):
            pause()
        step(on, own, x)
        still_busy = not torch.cuda.current_stream().query()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert still_busy, "the step was launched before the pause was over"


def test_offloading_costs_little_where_computing_takes_longer_than_copying(device):
    own, x = matrices(device), some_input(device, tokens=8192)
    off, on = stores(device, slow_copies=False)
    block = torch.empty(2 * x.numel(), dtype=x.dtype, device=device)
    host = torch.empty(block.shape, dtype=block.dtype, pin_memory=True)
    copy_ms = milliseconds_of(lambda: host.copy_(block, non_blocking=True))
    product_ms = milliseconds_of(lambda: torch.tanh(x @ own[0]))
    repeats = int(2 * copy_ms / product_ms) + 1
    off_ms, on_ms = (milliseconds_of(lambda one=one: step(one, own, x, repeats)) for one in (off, on))
    print(
        f"copy {copy_ms:.2f} ms, product {product_ms:.2f} ms x {repeats}; off {off_ms:.1f}, on {on_ms:.1f} ms"
    )
    assert on_ms < 1.1 * off_ms
