"""Out of GPU memory: what was being done, for which sizes, and how the memory stood."""

import re
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

import torch

from trainer.errors import TrainerError
from trainer.protocol.events import MemoryReport
from trainer.protocol.job import Expert
from trainer.runtime.device import device_name

GIB = 1024**3
NOTABLE_BYTES = 3 * GIB // 2
"""What others hold of a GPU is worth a word from here on: this process's own CUDA context counts as others'."""

_WANTED = re.compile(r"Tried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)")
_UNITS = {"bytes": 1, "KiB": 1024, "MiB": 1024**2, "GiB": GIB}
_OTHER_WORDS = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""How drivers and libraries word it, in plain errors: page-locked memory, handles of matrix products."""


class Doing(StrEnum):
    """What memory was wanted for, in words that end a sentence; the names are those of `MemoryReport.doing`."""

    LOADING = "while loading the model"
    CACHING_TEXT = "while caching captions"
    CACHING_LATENTS = "while caching clips"
    FORWARD = "in the forward pass"
    BACKWARD = "in the backward pass"
    UPDATE = "while the optimizer took its step"
    VALIDATING = "in the validation"
    PREVIEWING = "while rendering a preview"
    OTHER = "in this run"


@dataclass(frozen=True, slots=True)
class ClipSize:
    """Width and height in pixels, frames in number."""

    width: int
    height: int
    frames: int

    @property
    def tokens(self) -> int:
        """What the transformer sees of a clip of this size."""
        return ((self.frames - 1) // 4 + 1) * (self.height // 16) * (self.width // 16)

    def __str__(self) -> str:
        return f"{self.width} x {self.height} x {self.frames} frames ({self.tokens} tokens)"


@dataclass(frozen=True, slots=True)
class MemoryWork:
    """What was being done.

    Attributes:
        step: Number of the optimizer step, from 1; 0 outside of training.
        batch_size: Clips at once.
    """

    doing: Doing
    step: int = 0
    expert: Expert | None = None
    size: ClipSize | None = None
    batch_size: int = 1

    def __str__(self) -> str:
        expert = f" of the {self.expert.value.replace('_', '-')} expert" if self.expert else ""
        step = f" of step {self.step}" if self.step else ""
        many = f"{self.batch_size} clips of " if self.batch_size > 1 else ""
        size = f", at {many}{self.size}" if self.size else ""
        return f"{self.doing.value}{expert}{step}{size}"


@dataclass(frozen=True, slots=True)
class MemoryFigures:
    """How the memory stood, in bytes; None where it is not known.

    Attributes:
        needed: What was asked for in vain.
        allocated: In tensors of this process.
        reserved: Held by this process, tensors included.
        total: The GPU's.
        others: What is neither free nor reserved by this process.
    """

    needed: int | None = None
    allocated: int | None = None
    reserved: int | None = None
    total: int | None = None
    others: int | None = None

    def __str__(self) -> str:
        told = [
            f"{size / GIB:.2f} GiB {word}"
            for word, size in (
                ("more needed", self.needed),
                ("allocated", self.allocated),
                ("reserved", self.reserved),
                ("in all", self.total),
            )
            if size is not None
        ]
        return ", ".join(told)


class MemoryRanOutError(Exception):
    """Memory ran out in known work; a recipe turns it into advice, or goes on without that work."""

    def __init__(self, work: MemoryWork, figures: MemoryFigures, device: str) -> None:
        told = f": {figures}" if str(figures) else ""
        super().__init__(f"The memory of {device} does not suffice {work}{told}.")
        self.work = work
        self.figures = figures
        self._device = device

    @property
    def report(self) -> MemoryReport:
        """The same for programs."""
        size, figures = self.work.size, self.figures
        return MemoryReport(
            doing=self.work.doing.name.lower(),
            expert=self.work.expert,
            width=size.width if size else 0,
            height=size.height if size else 0,
            frames=size.frames if size else 0,
            batch=self.work.batch_size,
            needed_bytes=figures.needed,
            allocated_bytes=figures.allocated,
            reserved_bytes=figures.reserved,
            total_bytes=figures.total,
            others_bytes=figures.others,
        )

    def __reduce__(self) -> tuple[type["MemoryRanOutError"], tuple[MemoryWork, MemoryFigures, str]]:
        """From one process to another."""
        return MemoryRanOutError, (self.work, self.figures, self._device)

    def let_go(self) -> None:
        """Forget the local values of the frames that failed: they hold the tensors that fill the memory."""
        error: BaseException | None = self
        while error is not None:
            traceback.clear_frames(error.__traceback__)
            error = error.__cause__


class OutOfMemoryError(TrainerError):
    """The GPU's memory does not suffice for the job as it is.

    Attributes:
        remedy: The setting, `section.field=value`, that a resume is most worth a try with; empty for none.
        memory: What memory did not suffice for, and how it stood.
    """

    kind = "out_of_memory"

    def __init__(self, ran_out: MemoryRanOutError, step: int, hint: str, remedy: str) -> None:
        kept = f" The state after step {step} is saved." if step else ""
        others = ran_out.figures.others
        if others is not None and others > NOTABLE_BYTES:
            hint = f"Other programs hold {others / GIB:.1f} GiB of it; close them. {hint}"
        super().__init__(f"{ran_out}{kept}", hint)
        self.step = step
        self.remedy = remedy
        self.memory = ran_out.report


@contextmanager
def watching_memory(work: MemoryWork) -> Generator[None]:
    """Tell what was being done when memory runs out inside.

    Raises:
        MemoryRanOutError: it did; an inner one passes as it is.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        figures, device = _figures(str(error))
        raise MemoryRanOutError(work, figures, device) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch, the driver or a library says that GPU memory is full."""
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in _OTHER_WORDS)


def needed_bytes(message: str) -> int | None:
    """What torch says that it tried to allocate; None where it does not say."""
    found = _WANTED.search(message)
    return round(float(found[1]) * _UNITS[found[2]]) if found else None


def _figures(message: str) -> tuple[MemoryFigures, str]:
    """How the memory of the current device stands, and what the device is called."""
    needed = needed_bytes(message)
    if not torch.cuda.is_available():
        return MemoryFigures(needed=needed), device_name(torch.device("cpu"))
    device = torch.device("cuda", torch.cuda.current_device())
    reserved = torch.cuda.memory_reserved(device)
    free, total = torch.cuda.mem_get_info(device)
    figures = MemoryFigures(
        needed=needed,
        allocated=torch.cuda.memory_allocated(device),
        reserved=reserved,
        total=total,
        others=max(0, total - free - reserved),
    )
    return figures, device_name(device)
