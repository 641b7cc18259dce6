"""Several processes that train one run together, each on its own part of every step's micro-batches.

torchrun (or `trainer.runtime.launch`) starts them and says by the environment who is who. Gradients are
added up on the devices; everything that is decided goes through the CPU, from the first process to all.
"""

import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch.nn import Parameter

from trainer.errors import TrainerError

T = TypeVar("T")

PATIENCE = timedelta(days=30)
"""How long others wait for the first, which may be paused or wait for room on the disk."""
ELASTIC = "TORCHELASTIC_RUN_ID"
"""In the environment of processes that torchrun has started."""


class TeamSizeError(TrainerError):
    """A run's micro-batches cannot be shared evenly by so many processes."""

    kind = "team_size"

    def __init__(self, micro_batches: int, size: int) -> None:
        fits = [number for number in range(1, micro_batches + 1) if micro_batches % number == 0]
        super().__init__(
            f"Each step of this run takes {micro_batches} batches, which {size} GPUs cannot share evenly.",
            f"Resume it with {' or '.join(map(str, fits))}.",
        )


class ExpertsShareError(TrainerError):
    """The job wants one expert for each GPU, which is not built."""

    kind = "gpu_share"

    def __init__(self) -> None:
        super().__init__(
            "One expert for each GPU is not possible yet.",
            "Set job.gpu_share to data: then each GPU takes a part of every step's batches.",
        )


class TeamOutOfStepError(TrainerError):
    """The processes' LoRAs, which must be the same, are not."""

    kind = "team_out_of_step"

    def __init__(self, step: int) -> None:
        super().__init__(
            f"At step {step} the LoRAs on the GPUs are no longer the same.",
            "Resume goes on from the last checkpoint; if it happens again, one of the GPUs computes wrongly.",
        )


class FirstHasEndedError(Exception):
    """The first process has stopped or failed, and has said so itself."""


def rank_in_environment() -> int:
    """Which of the processes this is; the first, 0, without others."""
    return int(os.environ.get("RANK", "0"))


@dataclass(frozen=True, slots=True)
class Team:
    """The processes of a run, as one of them sees them; one alone by default.

    Attributes:
        rank: Which this one is; the first, 0, speaks and writes for all.
        size: How many there are.
        local_rank: Which this one is on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this one speaks and writes for all."""
        return self.rank == 0

    def gpu(self, first: int, more: Sequence[int]) -> int:
        """The number of this process's GPU, of those that the job names, or else one for each in turn."""
        gpus = (first, *more)
        if self.local_rank < len(gpus):
            return gpus[self.local_rank]
        return self.local_rank

    def batches_of_step(self, accumulation: int, before: int | None) -> int:
        """Micro-batches of a step, all processes together.

        Args:
            accumulation: What the job wants of each process.
            before: What the run has had so far; None for a new one.

        Raises:
            TeamSizeError: they cannot be shared evenly.
        """
        micro_batches = self.size * accumulation if before is None else before
        if micro_batches % self.size:
            raise TeamSizeError(micro_batches, self.size)
        return micro_batches

    def sum_gradients(self, parameters: Sequence[Parameter]) -> None:
        """Add up the gradients of all processes, in one message; every process gets the very same sum."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.size == 1 or not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def share(self, value: T) -> T:
        """The first process's value, for all."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, 0, _cpu_group())
        return box[0]

    def gather(self, value: T) -> list[T]:
        """Every process's value, for all, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, _cpu_group())
        return cast("list[T]", values)

    def raise_together(self, error: Exception | None) -> None:
        """Raise what went wrong in any process in every one of them, the own before others'."""
        errors = [failed for failed in self.gather(error) if failed is not None]
        if error is not None:
            raise error
        if errors:
            raise errors[0]

    def after_first(self, work: Callable[[], object]) -> None:
        """Do work that fills a cache: the first process alone, then the others, who find it done.

        Raises:
            FirstHasEndedError: it did not get through, and has said why.
        """
        if self.is_first:
            is_done = False
            try:
                work()
                is_done = True
            finally:
                self.share(is_done)
            return
        if not self.share(False):  # noqa: FBT003 - the value of the others does not count
            raise FirstHasEndedError
        work()

    def check_equal(self, parameters: Sequence[Parameter], step: int) -> None:
        """Compare the weights of all processes, to the bit.

        Raises:
            TeamOutOfStepError: they differ.
        """
        if self.size == 1:
            return
        sums = [int(parameter.detach().view(torch.int32).long().sum()) for parameter in parameters]
        if len({pickle.dumps(one) for one in self.gather(sums)}) > 1:
            raise TeamOutOfStepError(step)


_groups: dict[str, dist.ProcessGroup] = {}


def _cpu_group() -> dist.ProcessGroup:
    return _groups["cpu"]


def join_team() -> Team:
    """Meet the other processes that the environment tells of; alone, when it tells of none."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Team()
    # On Windows there is no NCCL; gloo then takes the gradients through the CPU.
    on_gpu = torch.cuda.is_available() and dist.is_nccl_available()
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    _groups["cpu"] = cast("dist.ProcessGroup", dist.new_group(backend="gloo", timeout=PATIENCE))
    return Team(rank_in_environment(), size, int(os.environ.get("LOCAL_RANK", "0")))


def leave_team() -> None:
    """Part from the others; those who still wait are told by an error."""
    if dist.is_initialized():
        dist.destroy_process_group()
        _groups.clear()
