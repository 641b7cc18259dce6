"""What a block kept comes back as it was, whatever happens between, and RAM stays bounded."""

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from tests.trainer.late_copies import (
    CopiesNobodyWaitsFor,
    CopiesThatDoNotWait,
    CopiesThatGuardNothing,
    RaceError,
    Streams,
    WatchedCopies,
)
from trainer.model.block.activation_store import ActivationStore, is_dense

CPU = torch.device("cpu")


@pytest.fixture(params=["late", "early"])
def streams(request):
    return Streams(late=request.param == "late")


def store_of(streams=None, copies=WatchedCopies, **options):
    if streams is None:
        return ActivationStore(CPU, enabled=True, **options)
    out, back = copies(streams, "out", to_device=False), copies(streams, "back", to_device=True)
    return ActivationStore(CPU, enabled=True, out=out, back=back, **options)


def kept_by(index, size=64):
    """Tensors that a block might keep: its input, and two of attention's in their own order of dimensions."""
    generator = torch.Generator().manual_seed(index)
    x = torch.randn(1, size, 16, generator=generator).bfloat16()
    attention = torch.randn(1, 4, size, 8, generator=generator).bfloat16().transpose(1, 2)
    log_sum = torch.randn(1, 4, size, generator=generator)
    return [x, attention, log_sum]


def forward(store, block_count=5, size=64):
    return [store.keep(index, kept_by(index, size)) for index in range(block_count)]


def kept_of(handles):
    return [handle._kept for handle in handles]


def check_backward(store, handles, size=64):
    while handles:
        handle = handles.pop()
        back = store.fetch(handle)
        # Work on the results, so that they are seen being read.
        for one, wanted in zip(back, kept_by(handle.index, size), strict=True):
            assert torch.equal(one + 0, wanted)
            assert (one.dtype, one.shape, one.stride()) == (wanted.dtype, wanted.shape, wanted.stride())
        del back, handle


@pytest.mark.parametrize("in_flight", [0, 1, 2, 9])
def test_tensors_come_back_as_they_were(streams, in_flight):
    with streams:
        store = store_of(streams, in_flight=in_flight)
        for _ in range(3):
            check_backward(store, forward(store))


def test_the_same_without_streams():
    store = store_of()
    for _ in range(3):
        check_backward(store, forward(store))


@pytest.mark.parametrize("copies", [CopiesThatDoNotWait, CopiesNobodyWaitsFor])
def test_streams_that_do_not_wait_for_each_other_are_found_out(copies, streams):
    """The tests above could not fail otherwise."""

    def some_steps():
        store = store_of(streams, copies)
        for _ in range(3):
            check_backward(store, forward(store))

    with pytest.raises(RaceError), streams:
        some_steps()


def test_a_store_that_is_off_keeps_the_tensors_themselves():
    store = ActivationStore(CPU, enabled=False)
    x = torch.randn(3, 4, requires_grad=True)
    back = store.fetch(store.keep(0, [x]))
    assert back[0].data_ptr() == x.data_ptr()
    assert not back[0].requires_grad
    assert store.ram_bytes == store.traffic.bytes_out == 0


@pytest.mark.parametrize("enabled", [True, False])
def test_what_was_fetched_is_not_fetched_again(enabled):
    store = ActivationStore(CPU, enabled=enabled)
    handle = store.keep(3, kept_by(3))
    store.fetch(handle)
    with pytest.raises(RuntimeError, match="block 3"):
        store.fetch(handle)


def test_a_part_of_a_larger_tensor_comes_back_contiguous(streams):
    with streams:
        store = store_of(streams)
        wide = torch.arange(48.0).view(4, 12)
        parts = [wide[:, 4:8], wide[:1].expand(3, 12), wide[1:3]]
        wanted = [one.clone() for one in parts]
        back = store.fetch(store.keep(0, parts))
        assert all(torch.equal(one, other) for one, other in zip(back, wanted, strict=True))
        assert all(one.is_contiguous() for one in back)
        assert store.traffic.bytes_out == 4 * (16 + 36 + 24)


def test_whole_memory_is_told_from_parts():
    whole = torch.zeros(2, 3, 4)
    assert is_dense(whole)
    assert is_dense(whole.permute(2, 0, 1))
    assert is_dense(whole[1:])
    assert is_dense(whole[:, :1, :1][:1])
    assert is_dense(torch.zeros(()))
    assert not is_dense(whole[:, 1:])
    assert not is_dense(whole[:1].expand(2, 3, 4))


def test_only_the_last_blocks_stay_on_the_device_and_are_not_copied_back():
    store = store_of(in_flight=2)
    handles = forward(store)
    block_bytes = store.traffic.bytes_out // 5
    check_backward(store, handles)
    assert store.traffic.bytes_back == 3 * block_bytes
    assert store.traffic.late_copies == 0


def test_what_was_given_up_is_freed(streams):
    with streams:
        store = store_of(streams, in_flight=1)
        x = torch.randn(16)
        held = StorageWeakRef(x.untyped_storage())
        handles = [store.keep(0, [x])]
        del x
        assert not held.expired(), "the copy may still be reading"
        handles.append(store.keep(1, [torch.randn(16)]))
        assert held.expired()


def test_another_order_costs_time_only(streams):
    with streams:
        store = store_of(streams, in_flight=0)
        handles = {handle.index: handle for handle in forward(store)}
        for index in (2, 4, 1, 0, 3):
            check_backward(store, [handles.pop(index)])
    assert store.traffic.late_copies == 2, "of 2 and 4: the block before was called back with each"


def test_ram_is_used_again_and_grows_with_the_largest_clip_only():
    store = store_of()
    check_backward(store, forward(store, size=64), size=64)
    small = store.ram_bytes
    check_backward(store, forward(store, size=128), size=128)
    large = store.ram_bytes
    assert small < large < 2.1 * small
    for size in (64, 128, 16, 100):
        check_backward(store, forward(store, size=size), size=size)
        assert store.ram_bytes == large


def test_two_passes_at_once_are_kept_apart(streams):
    with streams:
        store = store_of(streams)
        for _ in range(3):
            first, second = forward(store, size=64), forward(store, size=32)
            check_backward(store, second, size=32)
            check_backward(store, first, size=64)
        assert len(store._places) == 10


@pytest.mark.parametrize("fetched", [0, 1, 3])
def test_steps_without_a_backward_pass_leave_nothing_behind(streams, fetched):
    with streams:
        store = store_of(streams)
        for _ in range(4):
            handles = forward(store)
            for _ in range(fetched):
                store.fetch(handles.pop())
            handles.clear()
            check_backward(store, forward(store))
        assert len(store._places) == 5


@pytest.mark.parametrize("fetched", [0, 3])
def test_a_step_that_broke_off_holds_no_device_memory(fetched):
    """With 3 fetched, the block before was called back."""
    store = store_of(in_flight=2)
    handles = forward(store)
    for _ in range(fetched):
        store.fetch(handles.pop())
    on_device = [
        StorageWeakRef(one.untyped_storage()) for kept in kept_of(handles) for one in kept.tensors or ()
    ]
    assert on_device
    handles.clear()
    assert all(one.expired() for one in on_device)


def test_memory_of_what_nobody_fetches_is_not_used_again_during_the_copy():
    """Of a block that was called back, or not yet given up, when its step broke off."""
    early = Streams(late=False)

    def a_step_that_breaks_off():
        handles = forward(store_of(early, CopiesThatGuardNothing))
        handles.clear()
        torch.zeros(1)

    with pytest.raises(RaceError, match="freed during a copy"), early:
        a_step_that_breaks_off()


def test_ram_that_nobody_uses_is_given_up_on_demand():
    store = store_of()
    handles = forward(store)
    check_backward(store, handles[2:4])
    store.clear()
    del handles[2:4]
    assert len(store._places) == 3
    check_backward(store, handles)
    store.clear()
    assert store.ram_bytes == 0


def test_without_a_gpu_nothing_is_pinned_and_nothing_refused():
    store = store_of()
    handles = forward(store)
    assert store.refusal == ""
    assert all(not place.host.pinned for place in store._places)
    check_backward(store, handles)
