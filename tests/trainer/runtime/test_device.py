import pytest
import torch

from trainer.runtime.device import (
    DeviceNotFoundError,
    GpuNotServedError,
    NoGpuError,
    check_served,
    choose_device,
    compute_dtype,
    device_name,
    has_code_for,
    peak_reserved_bytes,
    release_memory,
)


def test_without_a_wish_for_a_gpu_it_is_the_cpu_in_float32():
    device = choose_device(None)
    assert device == torch.device("cpu")
    assert compute_dtype(device) == torch.float32
    assert device_name(device) == "CPU"
    assert peak_reserved_bytes(device) == 0


def test_without_any_gpu_it_is_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(0) == torch.device("cpu")


@pytest.mark.parametrize(("count", "words"), [(1, "one GPU, number 0"), (2, "2 GPUs, numbers 0 to 1")])
def test_a_gpu_that_is_not_there_is_told_with_those_that_are(monkeypatch, count, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(DeviceNotFoundError, match=f"no GPU number 5: this machine has {words}"):
        choose_device(5)


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((7, 5), torch.float32), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16), ((12, 0), torch.bfloat16)],
)
def test_bfloat16_is_for_gpus_that_have_it(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert compute_dtype(torch.device("cuda", 0)) == dtype


def test_releasing_memory_needs_no_gpu():
    release_memory()


@pytest.mark.gpu
def test_memory_of_a_gpu_is_counted_and_given_back():
    device = choose_device(0)
    held = torch.zeros(64 * 2**20, dtype=torch.uint8, device=device)
    assert peak_reserved_bytes(device) >= held.numel()
    del held
    release_memory()
    assert torch.cuda.memory_reserved(device) < 64 * 2**20


@pytest.mark.parametrize(
    ("capability", "runs"),
    [
        ((5, 2), False),
        ((7, 5), True),
        ((8, 0), False),
        ((8, 6), True),
        ((8, 9), True),
        ((9, 0), True),
        ((12, 0), True),
    ],
)
def test_a_card_runs_code_of_its_generation_and_what_is_compiled_for_it_at_the_start(capability, runs):
    assert has_code_for(capability, ["sm_75", "sm_86", "sm_90a", "compute_90"]) is runs


def test_a_card_that_pytorch_has_no_code_for_is_refused_before_anything_is_computed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA GeForce GTX 1080")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90"])
    with pytest.raises(GpuNotServedError, match=r"GTX 1080 \(compute capability 6.1\).*sm_80, sm_90 alone"):
        check_served(torch.device("cuda", 0), 5120)


def test_the_real_models_width_is_refused_on_a_cpu_and_the_miniatures_is_not():
    check_served(torch.device("cpu"), 128)
    with pytest.raises(NoGpuError, match="no GPU that PyTorch can use"):
        check_served(torch.device("cpu"), 5120)
