"""The device that a run computes on, its number type, and its memory."""

import gc
from collections.abc import Sequence

import torch

from trainer.errors import TrainerError

GIB = 2**30
CONTEXT_GIB = 1.0
"""What CUDA and the desktop take of a card before torch may reserve anything."""


class DeviceNotFoundError(TrainerError):
    """The job names a GPU that this machine does not have."""

    kind = "device_not_found"

    def __init__(self, gpu_index: int, gpu_count: int) -> None:
        present = "one GPU, number 0" if gpu_count == 1 else f"{gpu_count} GPUs, numbers 0 to {gpu_count - 1}"
        super().__init__(
            f"There is no GPU number {gpu_index}: this machine has {present}.",
            "Choose another GPU on the Hardware page, or set job.gpu.",
        )


class GpuNotServedError(TrainerError):
    """The GPU is one that the installed PyTorch has no code for."""

    kind = "gpu_not_served"

    def __init__(self, name: str, capability: tuple[int, int], served: Sequence[str]) -> None:
        major, minor = capability
        super().__init__(
            f"{name} (compute capability {major}.{minor}) cannot be used: the installed PyTorch has code for "
            f"{', '.join(served)} alone.",
            "Train on another GPU, or install a PyTorch build for this one.",
        )


class NoGpuError(TrainerError):
    """A model that needs a GPU, on a machine that has none to offer."""

    kind = "no_gpu"

    def __init__(self) -> None:
        super().__init__(
            "There is no GPU that PyTorch can use, and on a CPU one step of this model takes many minutes.",
            "An NVIDIA card with a current driver is needed; the doctor command says what is missing. "
            'The base "miniature" trains on a CPU.',
        )


MOST_CPU_WIDTH = 2048
"""Widest expert that trains on a CPU: the real one has 5120."""


def check_served(device: torch.device, width: int) -> None:
    """Refuse at the start what would crash in the middle, or never end.

    Args:
        device: That would compute.
        width: Of the expert.

    Raises:
        GpuNotServedError: PyTorch has no code for the card.
        NoGpuError: the expert is too large for a CPU.
    """
    if device.type != "cuda":
        if width > MOST_CPU_WIDTH:
            raise NoGpuError
        return
    capability = torch.cuda.get_device_capability(device)
    served = torch.cuda.get_arch_list()
    if served and not has_code_for(capability, served):
        raise GpuNotServedError(device_name(device), capability, served)


def has_code_for(capability: tuple[int, int], served: Sequence[str]) -> bool:
    """Whether a build of PyTorch runs on a card.

    Machine code (``sm_86``) runs on cards of its own generation from its own step on; what is compiled for the
    card when it starts (``compute_90``) runs on that and all later ones.

    Args:
        capability: Major and minor number of the card.
        served: As ``torch.cuda.get_arch_list`` names them.
    """
    for name in served:
        kind, _, number = name.rstrip("af").partition("_")
        major, minor = divmod(int(number), 10)
        if kind == "sm" and major == capability[0] and minor <= capability[1]:
            return True
        if kind == "compute" and (major, minor) <= capability:
            return True
    return False


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


_peaks_before: dict[torch.device, int] = {}


def peak_reserved_bytes(device: torch.device) -> int:
    """Most GPU memory that this process has held at once so far; 0 on a CPU."""
    if device.type != "cuda":
        return 0
    return max(_peaks_before.get(device, 0), torch.cuda.max_memory_reserved(device))


def count_peaks_anew(device: torch.device) -> None:
    """Let torch's peaks be those from now on; `peak_reserved_bytes` stays that of the whole process."""
    if device.type == "cuda":
        _peaks_before[device] = peak_reserved_bytes(device)
        torch.cuda.reset_peak_memory_stats(device)


def outside_bytes(device: torch.device) -> int:
    """GPU memory that is neither free nor torch's: CUDA itself, libraries, other programs; 0 on a CPU."""
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    return max(0, total - free - torch.cuda.memory_reserved(device))


def emulate_card(device: torch.device, size_gib: float) -> None:
    """Let torch reserve no more than a card of this size would leave it; 0 for all that there is."""
    if device.type != "cuda":
        return
    total = torch.cuda.get_device_properties(device).total_memory
    share = (size_gib - CONTEXT_GIB) * GIB / total if size_gib else 1.0
    torch.cuda.set_per_process_memory_fraction(min(max(share, 0.0), 1.0), device)


def release_memory() -> None:
    """Give unused GPU memory back, so that the next part of the run can have it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
