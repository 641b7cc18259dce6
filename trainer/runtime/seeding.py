"""Random numbers as a function of what they are for.

Every draw gets a generator of its own, seeded from the job's seed and the draw's name and number.
A resumed run then draws exactly what the uninterrupted one would have, with no state to save.
"""

import hashlib

import torch


def derived_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for this purpose, e.g. ``derived_seed(42, "noise", step, micro_batch)``."""
    text = "/".join((str(seed), *map(str, purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_for(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for this purpose, so that the same job draws the same noise on every device."""
    return torch.Generator("cpu").manual_seed(derived_seed(seed, *purpose))
