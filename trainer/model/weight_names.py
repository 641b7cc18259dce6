"""Names of weights: from those of the original release, which ComfyUI has too, to the classes' own.

The experts and the VAE become diffusers' names, the text encoder transformers' names. Each function
takes the names of a whole file and returns the class's name of each that it knows.
"""

import re
from collections.abc import Callable, Iterable

Renaming = Callable[[Iterable[str]], dict[str, str]]
"""From the names in a file to the class's own; names that are not the part's are left out."""

EXPERT_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "")
"""What may stand before every name of an expert; the longest first."""

_EXPERT_WHOLE = {
    "patch_embedding": "patch_embedding",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
}
_EXPERT_IN_BLOCK = {
    **{
        f"{theirs}.{layer}": f"{ours}.{name}"
        for theirs, ours in (("self_attn", "attn1"), ("cross_attn", "attn2"))
        for layer, name in (
            ("q", "to_q"),
            ("k", "to_k"),
            ("v", "to_v"),
            ("o", "to_out.0"),
            ("norm_q", "norm_q"),
            ("norm_k", "norm_k"),
        )
    },
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    # The norm before cross attention comes third there and second here; the other two have no weights.
    "norm3": "norm2",
}
_TEXT_WHOLE = {"token_embedding": "shared", "norm": "encoder.final_layer_norm"}
_TEXT_IN_BLOCK = {
    "norm1": "0.layer_norm",
    **{f"attn.{layer}": f"0.SelfAttention.{layer}" for layer in "qkvo"},
    "pos_embedding.embedding": "0.SelfAttention.relative_attention_bias",
    "norm2": "1.layer_norm",
    "ffn.gate.0": "1.DenseReluDense.wi_0",
    "ffn.fc1": "1.DenseReluDense.wi_1",
    "ffn.fc2": "1.DenseReluDense.wo",
}
_VAE_WHOLE = {
    "conv1": "quant_conv",
    "conv2": "post_quant_conv",
    **{
        f"{half}.{theirs}": f"{half}.{ours}"
        for half in ("encoder", "decoder")
        for theirs, ours in (("conv1", "conv_in"), ("head.0", "norm_out"), ("head.2", "conv_out"))
    },
}
_VAE_RESIDUAL = {
    "residual.0": "norm1",
    "residual.2": "conv1",
    "residual.3": "norm2",
    "residual.6": "conv2",
    "shortcut": "conv_shortcut",
}
_VAE_RESAMPLE = ("resample.1", "time_conv")


def expert_names(names: Iterable[str]) -> dict[str, str]:
    """Of an expert with original names, without prefix."""
    return _renamed(names, _expert_name)


def text_names(names: Iterable[str]) -> dict[str, str]:
    """Of a text encoder with original names."""
    return _renamed(names, _text_name)


def vae_names(names: Iterable[str]) -> dict[str, str]:
    """Of a VAE with original names.

    The decoder's levels are one list there; how long a level is shows at the first layer that resamples.
    """
    names = list(names)
    ends = [
        int(name.split(".")[2]) for name in names if re.match(r"decoder\.upsamples\.\d+\.resample\.", name)
    ]
    level_length = min(ends, default=len(names)) + 1
    return _renamed(names, lambda layer, leaf: _vae_name(layer, leaf, level_length))


def _renamed(names: Iterable[str], name_of: Callable[[str, str], str | None]) -> dict[str, str]:
    renamed: dict[str, str] = {}
    for name in names:
        layer, _, leaf = name.rpartition(".")
        own = name_of(layer, leaf)
        if own is not None:
            renamed[name] = own
    return renamed


def _expert_name(layer: str, leaf: str) -> str | None:
    if leaf == "modulation":
        if layer == "head":
            return "scale_shift_table"
        return f"{layer}.scale_shift_table" if re.fullmatch(r"blocks\.\d+", layer) else None
    if layer in _EXPERT_WHOLE:
        return f"{_EXPERT_WHOLE[layer]}.{leaf}"
    found = re.fullmatch(r"(blocks\.\d+)\.(.+)", layer)
    if found and found[2] in _EXPERT_IN_BLOCK:
        return f"{found[1]}.{_EXPERT_IN_BLOCK[found[2]]}.{leaf}"
    return None


def _text_name(layer: str, leaf: str) -> str | None:
    if layer in _TEXT_WHOLE:
        return f"{_TEXT_WHOLE[layer]}.{leaf}"
    found = re.fullmatch(r"blocks\.(\d+)\.(.+)", layer)
    if found and found[2] in _TEXT_IN_BLOCK:
        return f"encoder.block.{found[1]}.layer.{_TEXT_IN_BLOCK[found[2]]}.{leaf}"
    return None


def _vae_name(layer: str, leaf: str, level_length: int) -> str | None:
    if layer in _VAE_WHOLE:
        return f"{_VAE_WHOLE[layer]}.{leaf}"
    found = re.fullmatch(r"(encoder|decoder)\.(middle|downsamples|upsamples)\.(\d+)\.(.+)", layer)
    if not found:
        return None
    half, stage, number, rest = found[1], found[2], int(found[3]), found[4]
    if stage == "middle" and number == 1:
        return f"{half}.mid_block.attentions.0.{rest}.{leaf}"
    if stage == "middle":
        place = f"{half}.mid_block.resnets.{number // 2}"
    elif stage == "downsamples":
        place = f"{half}.down_blocks.{number}"
    else:
        level, position = divmod(number, level_length)
        if rest in _VAE_RESAMPLE:
            return f"{half}.up_blocks.{level}.upsamplers.0.{rest}.{leaf}"
        place = f"{half}.up_blocks.{level}.resnets.{position}"
    if rest in _VAE_RESAMPLE:
        return f"{place}.{rest}.{leaf}"
    return f"{place}.{_VAE_RESIDUAL[rest]}.{leaf}" if rest in _VAE_RESIDUAL else None
