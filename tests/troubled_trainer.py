"""`python -m trainer`, but in the third micro-batch of one expert something happens; the environment says what."""

import os
import sys

import torch

from trainer.__main__ import main
from trainer.protocol.commands import Stop
from trainer.protocol.run_folder import RunFolder
from trainer.recipes import train_lora as recipe

TROUBLE = "TROUBLE"


def happen(what: str, run: RunFolder) -> None:
    """A full memory, an unknown fault, a killed process, or a wish of the user's."""
    match what:
        case "memory":
            raise torch.OutOfMemoryError("Tried to allocate 2.50 GiB.")
        case "bug":
            raise ValueError("a fault")
        case "silence":
            os._exit(9)
        case "stop":
            run.send(Stop())


def install() -> None:
    """Have it happen."""
    expert, what = os.environ[TROUBLE].split("/")
    take = recipe.backward_micro_batch
    passes = 0

    def backward(parts, own, *arguments, **named):
        nonlocal passes
        passes += own.value == expert
        if passes == 3 and own.value == expert:
            with recipe.watching_memory(recipe.MemoryWork(recipe.Doing.FORWARD)):
                happen(what, parts.context.run)
        return take(parts, own, *arguments, **named)

    recipe.backward_micro_batch = backward


if __name__ == "__main__":
    install()
    sys.exit(main())
