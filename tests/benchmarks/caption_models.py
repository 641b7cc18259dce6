"""What the recommended caption models' weights take: the real shapes, without a byte of them.

Run: python -m tests.benchmarks.caption_models
"""

import torch
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from trainer.model.vision_language import size_of

GIB = 2**30
SHAPES = {
    "Qwen/Qwen2.5-VL-3B-Instruct": (2048, 11008, 36, 16, 2, True),
    "Qwen/Qwen2.5-VL-7B-Instruct": (3584, 18944, 28, 28, 4, False),
    "Qwen/Qwen3-VL-2B-Instruct": (2048, 6144, 28, 16, 8, True),
    "Qwen/Qwen3-VL-4B-Instruct": (2560, 9728, 36, 32, 8, True),
    "Qwen/Qwen3-VL-8B-Instruct": (4096, 12288, 36, 32, 8, False),
}
"""Width, width of the feed-forward, layers, heads, key-value heads, and whether the head is the embedding."""


def made(name: str) -> torch.nn.Module:
    width, feed, layers, heads, key_heads, is_tied = SHAPES[name]
    text = {
        "hidden_size": width,
        "intermediate_size": feed,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "vocab_size": 152064 if name.endswith("5-VL-7B-Instruct") else 151936,
    }
    with torch.device("meta"):
        if "2.5" in name:
            vision = {"hidden_size": 1280, "out_hidden_size": width}
            config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=is_tied)
            return Qwen2_5_VLForConditionalGeneration(config)
        small = "8B" not in name
        vision = {"out_hidden_size": width}
        if small:
            vision |= {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096}
            vision |= {"deepstack_visual_indexes": [5, 11, 17]}
        text |= {"head_dim": 128}
        config = Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=is_tied)
        return Qwen3VLForConditionalGeneration(config)


def main() -> None:
    print(f"{'model':32} weights  16 bits   8 bits   4 bits")
    for name in SHAPES:
        named = list(made(name).named_parameters())
        count = sum(one.numel() for _, one in named)
        sizes = [
            sum(size_of(key, tuple(one.shape), quantization, 2) for key, one in named) / GIB
            for quantization in ("none", "int8", "nf4")
        ]
        print(f"{name:32} {count / 1e9:5.2f} B " + " ".join(f"{size:5.1f} GiB" for size in sizes))


if __name__ == "__main__":
    main()
