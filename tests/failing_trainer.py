"""`python -m trainer`, but the expert that the environment names fails in its third step, in the way it names."""

import os
import sys

import torch

from trainer.__main__ import main
from trainer.recipes import optimizer_step

WAY = "FAILING_TRAINER"


def fail(way: str) -> None:
    """As a full memory, an unknown fault or a killed process do."""
    if way == "memory":
        raise torch.OutOfMemoryError("Tried to allocate 2.50 GiB.")
    if way == "bug":
        raise ValueError("a fault")
    os._exit(9)


def install() -> None:
    """Put the failure in place."""
    expert, way = os.environ[WAY].split("/")
    take = optimizer_step.backward_micro_batch
    passes = 0

    def backward(parts, own, *arguments, **named):
        nonlocal passes
        passes += own.value == expert
        if passes == 3:
            with optimizer_step.watching_memory(optimizer_step.MemoryWork(optimizer_step.Doing.FORWARD)):
                fail(way)
        return take(parts, own, *arguments, **named)

    optimizer_step.backward_micro_batch = backward


if __name__ == "__main__":
    install()
    sys.exit(main())
