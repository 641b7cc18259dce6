"""The names of the trained layers in the three spellings that programs read.

diffusers  ``blocks.0.attn1.to_q``             the module path in the transformer; used inside the trainer
original   ``blocks.0.self_attn.q``            Wan's own code, ComfyUI
kohya      ``lora_unet_blocks_0_self_attn_q``  the original with underscores

Only the ten linear layers of a block have names here; nothing else is trained.
"""

import re

_ORIGINAL_BY_DIFFUSERS = {
    "attn1.to_q": "self_attn.q",
    "attn1.to_k": "self_attn.k",
    "attn1.to_v": "self_attn.v",
    "attn1.to_out.0": "self_attn.o",
    "attn2.to_q": "cross_attn.q",
    "attn2.to_k": "cross_attn.k",
    "attn2.to_v": "cross_attn.v",
    "attn2.to_out.0": "cross_attn.o",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
}
_DIFFUSERS_BY_ORIGINAL = {original: diffusers for diffusers, original in _ORIGINAL_BY_DIFFUSERS.items()}
_DIFFUSERS_BY_KOHYA = {
    original.replace(".", "_"): diffusers for original, diffusers in _DIFFUSERS_BY_ORIGINAL.items()
}
_BLOCK = re.compile(r"blocks\.(0|[1-9]\d*)\.(.+)")
_KOHYA_BLOCK = re.compile(r"lora_unet_blocks_(0|[1-9]\d*)_(.+)")


class UnknownLayerError(ValueError):
    """A name that is none of a block's ten linear layers."""


def original_name(module_path: str) -> str:
    """``blocks.0.attn1.to_q`` -> ``blocks.0.self_attn.q``.

    Raises:
        UnknownLayerError: it is no trained layer.
    """
    return _renamed(module_path, _BLOCK, _ORIGINAL_BY_DIFFUSERS)


def diffusers_name(name: str) -> str:
    """``blocks.0.self_attn.q`` or ``lora_unet_blocks_0_self_attn_q`` -> ``blocks.0.attn1.to_q``.

    Raises:
        UnknownLayerError: it is no trained layer.
    """
    if name.startswith("lora_unet_"):
        return _renamed(name, _KOHYA_BLOCK, _DIFFUSERS_BY_KOHYA)
    return _renamed(name, _BLOCK, _DIFFUSERS_BY_ORIGINAL)


def kohya_name(module_path: str) -> str:
    """``blocks.0.attn1.to_q`` -> ``lora_unet_blocks_0_self_attn_q``.

    Raises:
        UnknownLayerError: it is no trained layer.
    """
    return "lora_unet_" + original_name(module_path).replace(".", "_")


def is_module_path(name: str) -> bool:
    """Whether the name is a trained layer's path in diffusers."""
    found = _BLOCK.fullmatch(name)
    return found is not None and found[2] in _ORIGINAL_BY_DIFFUSERS


def _renamed(name: str, pattern: re.Pattern[str], table: dict[str, str]) -> str:
    found = pattern.fullmatch(name)
    if found is None or found[2] not in table:
        raise UnknownLayerError(name)
    return f"blocks.{found[1]}.{table[found[2]]}"
