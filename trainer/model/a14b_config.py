"""The configs of Wan 2.2 I2V A14B's parts, as data: of the experts, which have the same, VAE and text encoder.

With them the real model's parts can be made without their weights: LoRA files of any origin are checked
against the experts' list of layers, and measurements take random weights.
"""

from typing import Any

MODEL_NAME = "Wan 2.2 I2V A14B"
A14B_BOUNDARY = 0.9

A14B_I2V_CONFIG: dict[str, Any] = {
    "patch_size": (1, 2, 2),
    "in_channels": 36,
    "out_channels": 16,
    "num_layers": 40,
    "num_attention_heads": 40,
    "attention_head_dim": 128,
    "ffn_dim": 13824,
    "text_dim": 4096,
    "freq_dim": 256,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    # 2.2 has no image encoder, so none of 2.1's k_img and v_img.
    "image_dim": None,
    "added_kv_proj_dim": None,
    "rope_max_seq_len": 1024,
}

A14B_VAE_CONFIG: dict[str, Any] = {
    "base_dim": 96,
    "z_dim": 16,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_scales": [],
    "temperal_downsample": [False, True, True],
    "dropout": 0.0,
}
"""Of `AutoencoderKLWan`: Wan 2.1's, which 2.2 A14B has too."""

A14B_TEXT_CONFIG: dict[str, Any] = {
    "vocab_size": 256384,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "relative_attention_num_buckets": 32,
    "feed_forward_proj": "gated-gelu",
    "pad_token_id": 0,
    "eos_token_id": 1,
}
"""Of `UMT5EncoderModel`: UMT5-XXL."""
