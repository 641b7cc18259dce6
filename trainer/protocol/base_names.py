"""How bases are named: what both programs must agree on."""

import re

NAMED_PARTS = ("high_noise", "low_noise", "vae", "text_encoder")
"""Fields of MODEL that name the files of a part, beside the base or instead of its own."""

_HUB_WORD = r"[A-Za-z0-9][\w.-]{0,95}"


def is_hub_name(base: str) -> bool:
    """Whether a base can be the name of a repository, such as ``Wan-AI/Wan2.2-I2V-A14B-Diffusers``.

    A folder may have such a name too: look whether it is there first.
    """
    return re.fullmatch(f"{_HUB_WORD}/{_HUB_WORD}", base) is not None
