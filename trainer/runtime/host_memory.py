"""RAM that a GPU copies from and to by itself: pinned, so that copies run beside the computation."""

import mmap
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil
import torch
from torch import Tensor

from trainer.errors import TrainerError

GIB = 2**30


class RamTooSmallError(TrainerError):
    """What must wait in RAM is more than the machine has."""

    kind = "ram_too_small"

    def __init__(self, needed_bytes: int, total_bytes: int) -> None:
        super().__init__(
            f"The experts would take {needed_bytes / GIB:.0f} GiB of RAM, and this machine has "
            f"{total_bytes / GIB:.0f}.",
            "Store them in fewer bits: set quantization.transformer to float8_compute, float8 or nf4.",
        )


def check_ram(needed_bytes: int, warn: Callable[[str, str], None]) -> None:
    """Look whether RAM suffices before it is taken: the system would end the process without a word.

    Args:
        needed_bytes: That will be taken.
        warn: Told in two sentences when it might be too much beside what else is running.

    Raises:
        RamTooSmallError: it is more than the machine has.
    """
    memory = psutil.virtual_memory()
    if needed_bytes > memory.total:
        raise RamTooSmallError(needed_bytes, memory.total)
    if needed_bytes > memory.available:
        warn(
            f"The experts take {needed_bytes / GIB:.0f} GiB of RAM, and {memory.available / GIB:.0f} GiB are "
            "free: the system may become slow, or end the run.",
            "Close other programs, or store the experts in fewer bits (quantization.transformer).",
        )


_PORTABLE = 1
"""Of cudaHostRegister: pinned for every GPU of the process."""


class HostBuffer:
    """A stretch of RAM, pinned where that is wanted and the system grants it.

    Attributes:
        data_N: uint8, begins on a page, content undefined.
        pinned: Whether a GPU reaches it by itself; copies of other memory hold the computation up.
        refusal: Why it is not pinned although that was wanted, in CUDA's words; else empty.
    """

    def __init__(self, byte_count: int, *, pin: bool) -> None:
        """Take memory.

        Args:
            byte_count: Exactly this much is pinned, in whole pages. Torch's own pinned memory comes in
                powers of two: a block of an expert would take up to twice its size.
            pin: False on machines without CUDA.
        """
        pinned_bytes = -(-byte_count // mmap.PAGESIZE) * mmap.PAGESIZE
        whole = torch.empty(pinned_bytes + mmap.PAGESIZE, dtype=torch.uint8)
        start = -whole.data_ptr() % mmap.PAGESIZE
        self.data_N = whole[start : start + byte_count]
        wants_pin = pin and byte_count > 0
        self.refusal = _pin(self.data_N.data_ptr(), pinned_bytes) if wants_pin else ""
        self.pinned = wants_pin and not self.refusal
        if self.pinned:
            # `whole` goes along: the memory must outlive its registration.
            end = weakref.finalize(self, _unpin, self.data_N.data_ptr(), whole)
            # At the interpreter's end CUDA may be gone, and the memory goes with the process anyway.
            end.atexit = False

    @property
    def byte_count(self) -> int:
        return self.data_N.numel()


def _pin(address: int, byte_count: int) -> str:
    """Why the memory could not be pinned; empty when it is."""
    try:
        cudart: Any = torch.cuda.cudart()
        code = int(cudart.cudaHostRegister(address, byte_count, _PORTABLE))
    except (RuntimeError, AssertionError) as error:
        return str(error)
    if code == 0:
        return ""
    # CUDA remembers a refused call and would report it at the next kernel: provoke that here.
    with suppress(RuntimeError):
        torch.ones(1, device="cuda")
    return str(torch.cuda.CudaError(code))


def _unpin(address: int, _whole: Tensor) -> None:
    """Give pinned pages back, once no copy uses them any more."""
    # With an error that CUDA does not recover from, the process is about to end.
    with suppress(RuntimeError):
        torch.cuda.synchronize()
        cudart: Any = torch.cuda.cudart()
        cudart.cudaHostUnregister(address)
