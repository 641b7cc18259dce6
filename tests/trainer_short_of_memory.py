"""`python -m trainer`, on a card that is too small: the environment says for what.

SHORT_OF: a setting, `section.field=value`, that the job has to have; until then memory runs out in the third
micro-batch of the process, or, for a rehearsal, in its first.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from trainer.__main__ import main
from trainer.recipes import train_lora as recipe


def install(wanted: str, at_pass: int) -> None:
    """Have memory run out in the forward pass."""
    take, losses, passes, is_full = recipe.backward_micro_batch, recipe.item_losses, 0, False
    name, _, value = wanted.partition("=")
    section, _, field = name.partition(".")

    def backward(parts, *arguments, **named):
        nonlocal passes, is_full
        passes += 1
        has_it = str(getattr(getattr(parts.context.job, section), field)).lower() == value
        is_full = passes == at_pass and not has_it
        return take(parts, *arguments, **named)

    def item_losses(*arguments, **named):
        if is_full:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB.")
        return losses(*arguments, **named)

    recipe.backward_micro_batch, recipe.item_losses = backward, item_losses


if __name__ == "__main__":
    words = sys.argv[sys.argv.index("trainer") + 1 :]
    if os.environ.get("SHORT_OF"):
        install(os.environ["SHORT_OF"], at_pass=1 if words[0] == "rehearse" else 3)
    sys.exit(main(words))
