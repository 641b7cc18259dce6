"""Configs from nothing but shapes: those of the real parts come out as the real ones."""

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

from trainer.model.a14b_config import A14B_I2V_CONFIG
from trainer.model.part_configs import UnusualShapesError, expert_config_of, text_config_of, vae_config_of

UMT5_XXL = {
    "vocab_size": 256384,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "relative_attention_num_buckets": 32,
    "pad_token_id": 0,
    "eos_token_id": 1,
}


def shapes_of(make):
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in make().state_dict().items()}


@pytest.fixture(scope="module")
def expert_shapes():
    return shapes_of(lambda: WanTransformer3DModel.from_config(A14B_I2V_CONFIG))


def test_the_real_experts_config_is_derived_from_its_shapes(expert_shapes):
    assert expert_config_of(expert_shapes) == A14B_I2V_CONFIG


def test_the_real_text_encoders_config_is_derived_from_its_shapes():
    assert text_config_of(shapes_of(lambda: UMT5EncoderModel(UMT5Config(**UMT5_XXL)))) == UMT5_XXL


def test_the_real_vaes_config_is_derived_from_its_shapes():
    derived = vae_config_of(shapes_of(AutoencoderKLWan))
    with torch.device("meta"):
        defaults = AutoencoderKLWan().config
    assert derived == {key: defaults[key] for key in derived}


@pytest.mark.parametrize(
    ("name", "shape", "found"),
    [
        ("patch_embedding.weight", (5000, 36, 1, 2, 2), "width of 5000"),
        ("patch_embedding.weight", (5120, 36), "patch_embedding.weight has the shape"),
        ("condition_embedder.time_embedder.linear_1.weight", (64, 256), "time embedding is 64 wide"),
        ("blocks.0.ffn.net.0.proj.weight", None, "lacks blocks.0.ffn.net.0.proj.weight"),
    ],
)
def test_shapes_that_make_no_expert_are_told(expert_shapes, name, shape, found):
    shapes = {key: value for key, value in expert_shapes.items() if key != name}
    if shape:
        shapes[name] = shape
    with pytest.raises(UnusualShapesError, match=found):
        expert_config_of(shapes)
