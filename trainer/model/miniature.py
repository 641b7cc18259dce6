"""The miniature: the model's real classes in small, saved in the diffusers layout.

It has everything that the 14B model has (two experts with 36 input and 16 output channels, the
Wan VAE, UMT5, a tokenizer, the UniPC flow scheduler, boundary 0.9), so the same loading and
training code serves both. Widths are multiples of 64: bitsandbytes' NF4 on a CPU is wrong for
shorter rows.
"""

import json
import string
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5Tokenizer, UMT5Config, UMT5EncoderModel

BOUNDARY_RATIO = 0.9


@dataclass(frozen=True, slots=True)
class MiniatureConfig:
    """Sizes of a miniature.

    Attributes:
        heads: Attention heads of an expert.
        head_dim: Width of a head; heads x head_dim is the expert's width, a multiple of 64.
        layers: Blocks of an expert.
        ffn_dim: Width of a block's feed-forward part.
        text_dim: Width of the text encoder.
        vae_dim: Base width of the VAE.
        vae_multipliers: Width of the VAE's levels in multiples of `vae_dim`, the first level's first.
        vae_patch: Pixels along a side that the VAE folds into channels before its first level. 2 takes the
            place of one level: the strides stay (4, 8, 8), at a quarter of the work.
    """

    heads: int = 2
    head_dim: int = 32
    layers: int = 2
    ffn_dim: int = 128
    text_dim: int = 64
    vae_dim: int = 8
    vae_multipliers: tuple[int, ...] = (1, 2, 4, 4)
    vae_patch: int = 1


TINY = MiniatureConfig()
"""For tests: built in half a second."""


def build_miniature(folder: Path, config: MiniatureConfig = TINY, seed: int = 0) -> Path:
    """Save a miniature with random weights in the diffusers layout.

    Args:
        folder: Made if needed; existing files of the same names are replaced.
        config: Sizes.
        seed: Of the random weights; the global generator is left as it was.

    Returns:
        The folder.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        build_expert(config).save_pretrained(folder / "transformer")
        build_expert(config).save_pretrained(folder / "transformer_2")
        build_vae(config).save_pretrained(folder / "vae")
        tokenizer = build_tokenizer()
        build_text_encoder(config, len(tokenizer)).save_pretrained(folder / "text_encoder")
    tokenizer.save_pretrained(folder / "tokenizer")
    UniPCMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        num_train_timesteps=1000,
        flow_shift=5.0,
    ).save_pretrained(folder / "scheduler")
    write_model_index(folder)
    return folder


def build_expert(config: MiniatureConfig) -> WanTransformer3DModel:
    """One transformer with random weights; its output layer is not zero, so that losses move."""
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=config.heads,
        attention_head_dim=config.head_dim,
        in_channels=36,
        out_channels=16,
        text_dim=config.text_dim,
        freq_dim=64,
        ffn_dim=config.ffn_dim,
        num_layers=config.layers,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        image_dim=None,
        rope_max_seq_len=256,
    )


def build_vae(config: MiniatureConfig) -> AutoencoderKLWan:
    """The Wan VAE with 16 latent channels and its real strides (4, 8, 8)."""
    folded = config.vae_patch**2
    return AutoencoderKLWan(
        base_dim=config.vae_dim,
        z_dim=16,
        dim_mult=list(config.vae_multipliers),
        num_res_blocks=1,
        temperal_downsample=[False, True, True] if config.vae_patch == 1 else [True, True],
        in_channels=3 * folded,
        out_channels=3 * folded,
        patch_size=None if config.vae_patch == 1 else config.vae_patch,
    )


def build_text_encoder(config: MiniatureConfig, vocabulary_size: int) -> UMT5EncoderModel:
    """UMT5 in small."""
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=vocabulary_size,
            d_model=config.text_dim,
            d_kv=32,
            d_ff=2 * config.text_dim,
            num_layers=2,
            num_heads=2,
            relative_attention_num_buckets=16,
            pad_token_id=0,
            eos_token_id=1,
        )
    )


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A Unigram tokenizer over words of scenes and cameras, falling back to single characters.

    Every printable ASCII character is a piece, so that any English prompt has an encoding of its own.
    """
    words = [
        "a",
        "an",
        "the",
        "of",
        "in",
        "on",
        "at",
        "and",
        "with",
        "around",
        "orbit",
        "orbits",
        "orbiting",
        "camera",
        "view",
        "scene",
        "static",
        "still",
        "moves",
        "moving",
        "turns",
        "turning",
        "left",
        "right",
        "slowly",
        "quickly",
        "full",
        "degrees",
        "360",
        "red",
        "green",
        "blue",
        "yellow",
        "white",
        "purple",
        "orange",
        "sphere",
        "cube",
        "cylinder",
        "cone",
        "floor",
        "light",
        "shadow",
        "person",
        "hand",
        "hands",
        "sign",
        "signs",
        "signing",
        "word",
        "gesture",
        "bird",
        "film",
        "shot",
        "of",
    ]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0)]
    pieces += [(f"▁{word}", -6.0) for word in dict.fromkeys(words)]
    pieces += [(character, -10.0) for character in string.printable.strip()]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    return T5Tokenizer(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_ids=0,
        model_max_length=512,
    )


def write_model_index(folder: Path) -> None:
    """Write ``model_index.json`` as `WanImageToVideoPipeline` expects it."""
    index = {
        "_class_name": "WanImageToVideoPipeline",
        "_diffusers_version": "0.35.0",
        "boundary_ratio": BOUNDARY_RATIO,
        "expand_timesteps": False,
        "image_encoder": [None, None],
        "image_processor": [None, None],
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "T5TokenizerFast"],
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "transformer_2": ["diffusers", "WanTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
