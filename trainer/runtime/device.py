"""The device that a run computes on, its number type, and its memory."""

import gc

import torch

from trainer.errors import TrainerError


class DeviceNotFoundError(TrainerError):
    """The job names a GPU that this machine does not have."""

    kind = "device_not_found"

    def __init__(self, gpu_index: int, gpu_count: int) -> None:
        present = "one GPU, number 0" if gpu_count == 1 else f"{gpu_count} GPUs, numbers 0 to {gpu_count - 1}"
        super().__init__(
            f"There is no GPU number {gpu_index}: this machine has {present}.",
            "Choose another GPU on the Hardware page, or set job.gpu.",
        )


def choose_device(gpu_index: int | None) -> torch.device:
    """The GPU of that number; the CPU when there is none or none is wanted.

    Args:
        gpu_index: Number of the GPU from 0; None asks for the CPU.

    Raises:
        DeviceNotFoundError: there are GPUs, but not this one.
    """
    if gpu_index is None or not torch.cuda.is_available():
        return torch.device("cpu")
    gpu_count = torch.cuda.device_count()
    if not 0 <= gpu_index < gpu_count:
        raise DeviceNotFoundError(gpu_index, gpu_count)
    device = torch.device("cuda", gpu_index)
    # Kernels of other libraries (bitsandbytes) run on the current device, not on their tensors'.
    torch.cuda.set_device(device)
    return device


def compute_dtype(device: torch.device) -> torch.dtype:
    """Number type of the frozen base: bfloat16 on GPUs that have it (capability 8 or newer), else float32."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8:
        return torch.bfloat16
    return torch.float32


def device_name(device: torch.device) -> str:
    """What the user calls the device, e.g. "NVIDIA GeForce RTX 4090" or "CPU"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def peak_reserved_bytes(device: torch.device) -> int:
    """Most GPU memory that this process has held at once so far; 0 on a CPU."""
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0


def release_memory() -> None:
    """Give unused GPU memory back, so that the next part of the run can have it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
