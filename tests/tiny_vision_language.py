"""Models of the Qwen-VL family with random weights, a few layers deep: the real classes, made in a moment."""

from pathlib import Path

import torch
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2TokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
KINDS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


def make_vision_language(folder: Path, kind: str = "qwen2_5_vl") -> Path:
    """Write a whole model folder as the Hub has them; every byte is a token of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(bytes_to_unicode().values())
    tokenizer = Qwen2TokenizerFast(
        vocab={letter: number for number, letter in enumerate(alphabet)},
        merges=[],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token=None,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    tokenizer.save_pretrained(folder)
    patch = 16 if kind == "qwen3_vl" else 14
    half = [0.5, 0.5, 0.5]
    marks = {"image_mean": half, "image_std": half} if kind == "qwen3_vl" else {}
    Qwen2VLImageProcessorPil(patch_size=patch, **marks).save_pretrained(folder)
    torch.manual_seed(0)
    made = _model(kind, tokenizer)
    made.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
    made.save_pretrained(folder)
    return folder


def _model(kind, tokenizer):
    token = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "bos_token_id": None,
        "eos_token_id": token("<|im_end|>"),
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
    }
    marks = {
        "image_token_id": token("<|image_pad|>"),
        "video_token_id": token("<|video_pad|>"),
        "vision_start_token_id": token("<|vision_start|>"),
        "vision_end_token_id": token("<|vision_end|>"),
    }
    vision = {"depth": 2, "num_heads": 2, "in_channels": 3}
    match kind:
        case "qwen2_vl":
            vision |= {"embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}
            return Qwen2VLForConditionalGeneration(
                Qwen2VLConfig(text_config=text, vision_config=vision, **marks)
            )
        case "qwen2_5_vl":
            vision |= {"hidden_size": 32, "intermediate_size": 32, "out_hidden_size": 64, "window_size": 56}
            vision |= {"fullatt_block_indexes": [1]}
            return Qwen2_5_VLForConditionalGeneration(
                Qwen2_5_VLConfig(text_config=text, vision_config=vision, **marks)
            )
        case _:
            vision |= {"hidden_size": 32, "intermediate_size": 32, "out_hidden_size": 64}
            vision |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
            return Qwen3VLForConditionalGeneration(
                Qwen3VLConfig(text_config=text | {"head_dim": 16}, vision_config=vision, **marks)
            )
