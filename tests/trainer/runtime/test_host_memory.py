import mmap
from types import SimpleNamespace

import pytest
import torch

from trainer.runtime import host_memory
from trainer.runtime.host_memory import HostBuffer


class Cudart:
    """CUDA's runtime as far as pinning goes."""

    def __init__(self, code=0):
        self.code, self.pinned, self.calls = code, {}, []

    def cudaHostRegister(self, address, byte_count, flags):  # noqa: N802
        if self.code == 0:
            self.pinned[address] = byte_count
        return self.code

    def cudaHostUnregister(self, address):  # noqa: N802
        self.calls.append("unpinned")
        del self.pinned[address]
        return 0


def with_cuda(monkeypatch, cudart):
    monkeypatch.setattr(torch.cuda, "cudart", lambda: cudart)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: cudart.calls.append("waited"))
    return cudart


def test_memory_begins_on_a_page_and_is_as_long_as_asked_for():
    buffer = HostBuffer(10_000, pin=False)
    assert buffer.data_N.data_ptr() % mmap.PAGESIZE == 0
    assert buffer.byte_count == buffer.data_N.numel() == 10_000
    assert not buffer.pinned
    assert not buffer.refusal


def test_whole_pages_are_pinned_until_nobody_holds_the_buffer(monkeypatch):
    cudart = with_cuda(monkeypatch, Cudart())
    buffer = HostBuffer(10_000, pin=True)
    assert buffer.pinned
    assert cudart.pinned == {buffer.data_N.data_ptr(): 3 * mmap.PAGESIZE}
    buffer.data_N.fill_(1)
    del buffer
    assert not cudart.pinned
    assert cudart.calls == ["waited", "unpinned"], "a copy may be under way"


def test_refused_pinning_leaves_plain_memory_the_reason_and_no_error_for_the_next_kernel(monkeypatch):
    cudart = with_cuda(monkeypatch, Cudart(code=2))
    monkeypatch.setattr(torch, "ones", lambda *_, device: cudart.calls.append(f"kernel on {device}"))
    monkeypatch.setattr(torch.cuda, "CudaError", lambda code: RuntimeError(f"out of memory ({code})"))
    buffer = HostBuffer(10_000, pin=True)
    assert not buffer.pinned
    assert buffer.refusal == "out of memory (2)"
    assert cudart.calls == ["kernel on cuda"]
    buffer.data_N.fill_(1)


def test_without_cuda_the_reason_is_that():
    if not torch.cuda.is_available():
        assert HostBuffer(1, pin=True).refusal


def test_nothing_is_pinned_for_no_bytes(monkeypatch):
    cudart = with_cuda(monkeypatch, Cudart())
    assert not HostBuffer(0, pin=True).pinned
    assert not cudart.pinned


@pytest.fixture
def ram(monkeypatch):
    memory = SimpleNamespace(total=32 * host_memory.GIB, available=20 * host_memory.GIB)
    monkeypatch.setattr(host_memory.psutil, "virtual_memory", lambda: memory)


def test_more_ram_than_there_is_is_refused_before_it_is_taken(ram):
    with pytest.raises(
        host_memory.RamTooSmallError, match="would take 54 GiB of RAM, and this machine has 32"
    ):
        host_memory.check_ram(54 * host_memory.GIB, lambda *words: None)


def test_more_ram_than_is_free_is_warned_of_and_less_is_not(ram):
    warnings = []
    for size in (27, 20):
        host_memory.check_ram(size * host_memory.GIB, lambda *words: warnings.append(words[0]))
    assert len(warnings) == 1
    assert "take 27 GiB of RAM, and 20 GiB are free" in warnings[0]


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.mark.gpu
@needs_cuda
def test_memory_is_pinned_for_as_long_as_the_buffer_lives():
    buffer = HostBuffer(1_000_001, pin=True)
    data_N = buffer.data_N
    assert buffer.pinned, buffer.refusal
    # Pages that are pinned cannot be pinned again.
    assert host_memory._pin(data_N.data_ptr(), mmap.PAGESIZE)
    del buffer
    assert not host_memory._pin(data_N.data_ptr(), mmap.PAGESIZE)
    host_memory._unpin(data_N.data_ptr(), data_N)


@pytest.mark.gpu
@needs_cuda
def test_a_real_refusal_has_a_reason_and_does_not_disturb_the_next_kernel():
    buffer = HostBuffer(1_000_000, pin=True)
    assert host_memory._pin(buffer.data_N.data_ptr(), mmap.PAGESIZE), "it is pinned already"
    assert torch.arange(10, device="cuda").sum().item() == 45
