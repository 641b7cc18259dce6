"""The transformer config of Wan 2.2 I2V A14B, as data: both experts have it.

With it the real model's list of layers can be made on the meta device, without its weights: LoRA
files of any origin are checked against that.
"""

from typing import Any

MODEL_NAME = "Wan 2.2 I2V A14B"

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
