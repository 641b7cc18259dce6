"""Configs of the model's parts, derived from the shapes of their weights: for files that bring none.

All names are the classes' own (see `weight_names`).
"""

import math
import re
from collections.abc import Mapping
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]

HEAD_DIM = 128
"""Width of an attention head in every size of Wan."""


class UnusualShapesError(ValueError):
    """The shapes make no model of this kind; the text says why."""


def expert_config_of(shapes: Shapes, stored: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Config of `WanTransformer3DModel`.

    Args:
        shapes: By diffusers' names.
        stored: The original release's own config, for what shapes do not tell: heads and epsilon.

    Raises:
        UnusualShapesError: these are no weights of the model.
    """
    stored = stored or {}
    dim, in_channels, *patch_size = _shape(shapes, "patch_embedding.weight", 5)
    heads = int(stored.get("num_heads", dim // HEAD_DIM))
    if heads < 1 or dim % heads:
        raise UnusualShapesError(f"its width of {dim} is not made of heads of {HEAD_DIM}")
    time_dim, freq_dim = _shape(shapes, "condition_embedder.time_embedder.linear_1.weight", 2)
    if time_dim != dim:
        raise UnusualShapesError(f"its time embedding is {time_dim} wide instead of {dim}")
    return {
        "patch_size": tuple(patch_size),
        "num_attention_heads": heads,
        "attention_head_dim": dim // heads,
        "in_channels": in_channels,
        "out_channels": _shape(shapes, "proj_out.weight", 2)[0] // math.prod(patch_size),
        "text_dim": _shape(shapes, "condition_embedder.text_embedder.linear_1.weight", 2)[1],
        "freq_dim": freq_dim,
        "ffn_dim": _shape(shapes, "blocks.0.ffn.net.0.proj.weight", 2)[0],
        "num_layers": _count(shapes, r"blocks\.(\d+)\."),
        "cross_attn_norm": "blocks.0.norm2.weight" in shapes,
        "qk_norm": "rms_norm_across_heads",
        "eps": float(stored.get("eps", 1e-6)),
        "image_dim": None,
        "added_kv_proj_dim": None,
        "rope_max_seq_len": 1024,
    }


def vae_config_of(shapes: Shapes) -> dict[str, Any]:
    """Config of `AutoencoderKLWan`; the latents' mean and deviation are the class's defaults.

    Raises:
        UnusualShapesError: these are no weights of the model.
    """
    base_dim, in_channels = _shape(shapes, "encoder.conv_in.weight", 5)[:2]
    folded = math.isqrt(in_channels // 3)
    if in_channels != 3 * folded**2:
        raise UnusualShapesError(f"it takes {in_channels} channels instead of pictures")
    # Levels of the encoder end at layers that resample; the last one just ends.
    ends = sorted(_numbers(shapes, r"encoder\.down_blocks\.(\d+)\.resample\."))
    if not ends:
        raise UnusualShapesError("its encoder has one level only")
    last = _count(shapes, r"encoder\.down_blocks\.(\d+)\.") - 1
    widths = [
        _shape(shapes, f"encoder.down_blocks.{end - 1}.conv2.weight", 5)[0] for end in (*ends, last + 1)
    ]
    return {
        "base_dim": base_dim,
        "z_dim": _shape(shapes, "post_quant_conv.weight", 5)[0],
        "dim_mult": [width // base_dim for width in widths],
        "num_res_blocks": ends[0],
        "temperal_downsample": [f"encoder.down_blocks.{end}.time_conv.weight" in shapes for end in ends],
        "in_channels": in_channels,
        "out_channels": _shape(shapes, "decoder.conv_out.weight", 5)[0],
        "patch_size": None if folded == 1 else folded,
    }


def text_config_of(shapes: Shapes) -> dict[str, Any]:
    """Config of `UMT5EncoderModel`.

    Raises:
        UnusualShapesError: these are no weights of the model.
    """
    vocabulary, dim = _shape(shapes, "shared.weight", 2)
    first = "encoder.block.0.layer"
    buckets, heads = _shape(shapes, f"{first}.0.SelfAttention.relative_attention_bias.weight", 2)
    width = _shape(shapes, f"{first}.0.SelfAttention.q.weight", 2)[0]
    return {
        "vocab_size": vocabulary,
        "d_model": dim,
        "d_kv": width // heads,
        "d_ff": _shape(shapes, f"{first}.1.DenseReluDense.wi_0.weight", 2)[0],
        "num_layers": _count(shapes, r"encoder\.block\.(\d+)\."),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "pad_token_id": 0,
        "eos_token_id": 1,
    }


def _shape(shapes: Shapes, name: str, dimensions: int) -> tuple[int, ...]:
    if name not in shapes:
        raise UnusualShapesError(f"it lacks {name}")
    shape = shapes[name]
    if len(shape) != dimensions or 0 in shape:
        raise UnusualShapesError(f"{name} has the shape {shape}")
    return shape


def _numbers(shapes: Shapes, pattern: str) -> set[int]:
    return {int(found[1]) for name in shapes if (found := re.match(pattern, name))}


def _count(shapes: Shapes, pattern: str) -> int:
    return max(_numbers(shapes, pattern), default=-1) + 1
