"""The real model's config as data: its layers and size without its weights."""

import torch
from diffusers import WanTransformer3DModel

from trainer.model.a14b_config import A14B_I2V_CONFIG
from trainer.model.lora import lora_target_shapes
from trainer.model.part_kinds import INPUT_CHANNELS, LATENT_CHANNELS

# Widths written down from the model's description, not from the config.
WIDTH, FFN, BLOCKS = 5120, 13824, 40


def test_the_real_model_has_400_layers_to_train_of_the_known_sizes():
    shapes = lora_target_shapes(A14B_I2V_CONFIG)
    expected = {}
    for block in range(BLOCKS):
        for attention in ("attn1", "attn2"):
            for layer in ("to_q", "to_k", "to_v", "to_out.0"):
                expected[f"blocks.{block}.{attention}.{layer}"] = (WIDTH, WIDTH)
        expected[f"blocks.{block}.ffn.net.0.proj"] = (FFN, WIDTH)
        expected[f"blocks.{block}.ffn.net.2"] = (WIDTH, FFN)
    assert shapes == expected
    assert len(shapes) == 400
    # Weights that a LoRA of rank 1 adds, and those of the layers themselves: 4.79 million, 14.05 billion.
    assert sum(rows + columns for rows, columns in shapes.values()) == 4_792_320
    assert round(sum(rows * columns for rows, columns in shapes.values()) / 1e9, 2) == 14.05


def test_the_config_makes_the_whole_expert():
    with torch.device("meta"):
        expert = WanTransformer3DModel.from_config(A14B_I2V_CONFIG)
    assert round(sum(parameter.numel() for parameter in expert.parameters()) / 1e9, 1) == 14.3
    assert expert.patch_embedding.weight.shape == (WIDTH, INPUT_CHANNELS, 1, 2, 2)
    assert expert.proj_out.out_features == LATENT_CHANNELS * 4
    assert expert.condition_embedder.image_embedder is None
    assert not any("add_k" in name for name, _ in expert.named_parameters())
