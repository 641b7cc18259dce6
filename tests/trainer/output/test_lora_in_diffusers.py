"""The written pair does in diffusers' pipeline what the trained model does here."""

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanTransformer3DModel
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image

from tests.media import numbered_picture
from trainer.model.miniature import build_miniature
from trainer.output.lora_file import LoraFileSpec, write_lora_file
from trainer.output.verify import verify_lora_file
from trainer.protocol.job import Expert

RANK = 4
TARGETS = r"blocks\.\d+\.(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ffn\.net\.(0\.proj|2))"


@pytest.fixture(scope="module")
def miniature(tmp_path_factory):
    torch.set_num_threads(1)
    return build_miniature(tmp_path_factory.mktemp("miniature"))


def trained(
    miniature, subfolder: str, alpha: float, seed: int
) -> tuple[WanTransformer3DModel, dict[str, torch.Tensor]]:
    """An expert with a peft LoRA whose B is not zero, and its weights by module path."""
    torch.manual_seed(seed)
    transformer = WanTransformer3DModel.from_pretrained(miniature, subfolder=subfolder)
    transformer.add_adapter(LoraConfig(r=RANK, lora_alpha=alpha, target_modules=TARGETS))
    for name, parameter in transformer.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=1.0)
    state = {key: value.clone() for key, value in get_peft_model_state_dict(transformer).items()}
    assert len(state) == 40
    return transformer.eval(), state


def pipeline_of(miniature) -> WanImageToVideoPipeline:
    pipe = WanImageToVideoPipeline.from_pretrained(miniature)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def render(pipe: WanImageToVideoPipeline) -> np.ndarray:
    return pipe(
        image=Image.fromarray(numbered_picture(5, 32, 32)),
        prompt="a red cube turns",
        height=32,
        width=32,
        num_frames=5,
        num_inference_steps=4,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
    ).frames.numpy()


@pytest.mark.parametrize(
    ("file_format", "alpha"), [("original", 4.0), ("original", 1.0), ("diffusers", 9.0), ("kohya", 2.0)]
)
def test_the_pair_loads_in_diffusers_and_acts_as_trained(tmp_path, miniature, file_format, alpha):
    pipe = pipeline_of(miniature)
    base = render(pipe)
    for expert, subfolder, seed in ((Expert.HIGH, "transformer", 1), (Expert.LOW, "transformer_2", 2)):
        model, state = trained(miniature, subfolder, alpha, seed)
        path = tmp_path / f"{expert.value}.safetensors"
        write_lora_file(path, state, LoraFileSpec("fp32", RANK, alpha, file_format))
        shapes = {
            key.removesuffix(".lora_A.weight"): (
                len(state[key.replace("lora_A", "lora_B")]),
                state[key].shape[1],
            )
            for key in state
            if "lora_A" in key
        }
        assert verify_lora_file(path, shapes).keys == 40
        setattr(pipe, subfolder, model)
    by_peft = render(pipe)

    pipe = pipeline_of(miniature)
    assert np.array_equal(render(pipe), base)
    pipe.load_lora_weights(tmp_path / "high_noise.safetensors", adapter_name="high")
    assert pipe.get_list_adapters() == {"transformer": ["high"]}
    high_only = render(pipe)
    pipe.load_lora_weights(
        tmp_path / "low_noise.safetensors", adapter_name="low", load_into_transformer_2=True
    )
    assert pipe.get_list_adapters() == {"transformer": ["high"], "transformer_2": ["low"]}
    by_file = render(pipe)

    spread = np.abs(by_peft - base).mean()
    assert spread > 0.01
    assert np.abs(high_only - base).mean() > 0.001
    assert np.abs(by_file - high_only).mean() > 0.001
    assert np.abs(by_file - by_peft).max() <= 1e-5 * max(1.0, float(np.abs(by_peft).max()))

    pipe.disable_lora()
    assert np.array_equal(render(pipe), base)
    pipe.enable_lora()
    assert np.array_equal(render(pipe), by_file)
    pipe.unload_lora_weights()
    assert np.array_equal(render(pipe), base)


def test_sixteen_bits_stay_close_to_what_was_trained(tmp_path, miniature):
    model, state = trained(miniature, "transformer", 1.0, 1)
    pipe = pipeline_of(miniature)
    base = render(pipe)
    pipe.transformer = model
    by_peft = render(pipe)
    pipe = pipeline_of(miniature)
    write_lora_file(tmp_path / "l.safetensors", state, LoraFileSpec("bf16", RANK, 1.0))
    pipe.load_lora_weights(tmp_path / "l.safetensors")
    assert np.abs(render(pipe) - by_peft).mean() < 0.05 * np.abs(by_peft - base).mean()
