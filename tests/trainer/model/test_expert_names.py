from pathlib import Path

import pytest

from trainer.model.base_parts import Part
from trainer.model.expert_names import expert_of, name_without_expert


@pytest.mark.parametrize(
    ("name", "expert"),
    [
        ("wan2.2_i2v_high_noise_14B_fp16.safetensors", Part.HIGH),
        ("wan2.2_i2v_low_noise_14B_fp8_scaled.safetensors", Part.LOW),
        ("Wan2.2-I2V-A14B-HighNoise-Q8.safetensors", Part.HIGH),
        ("Wan2_2-I2V-A14B-LOW_fp8_e4m3fn_scaled_KJ.safetensors", Part.LOW),
        ("my-HIGH.safetensors", Part.HIGH),
        ("wan22lowNoise.safetensors", Part.LOW),
        ("high_noise_model/diffusion_pytorch_model.safetensors", Part.HIGH),
        ("transformer/diffusion_pytorch_model.safetensors", Part.HIGH),
        ("transformer_2/diffusion_pytorch_model.safetensors", Part.LOW),
        ("high/wan_low_noise.safetensors", Part.LOW),
        ("wan_flow_slow_highway.safetensors", None),
        ("high_and_low.safetensors", None),
        ("wan2.2_i2v_14B.safetensors", None),
    ],
)
def test_the_expert_is_told_by_words_of_the_name_or_else_of_the_folder(name, expert):
    assert expert_of(Path("/models") / name) is expert


def test_the_two_files_of_a_pair_have_one_name_without_the_expert():
    names = [
        name_without_expert(Path(f"{name}.safetensors"))
        for name in ("wan2.2_i2v_high_noise_14B_fp16", "wan2.2_i2v_low_noise_14B_fp16", "a_high_noise_fp16")
    ]
    assert names[0] == names[1] != names[2]
