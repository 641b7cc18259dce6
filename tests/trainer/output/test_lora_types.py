"""A file of any type, read as each program reads it, changes the weights as the trained model does."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.media import numbered_picture
from trainer.model.layouts import open_base
from trainer.model.load import expert_config, load_expert
from trainer.model.lora import (
    LoraSettings,
    add_lora,
    load_lora_state,
    lora_file_state,
    lora_state,
    lora_target_shapes,
    start_from,
)
from trainer.output.lora_file import LoraFileError, LoraFileSpec, read_lora_file, write_lora_file
from trainer.output.lora_names import diffusers_name, kohya_name, original_name
from trainer.output.verify import verify_lora_file
from trainer.protocol.job import Expert

KINDS = [("lora", 2), ("dora", 2), ("lokr", 2), ("lokr", 8)]
PATHS = ["blocks.0.attn1.to_q", "blocks.1.attn2.to_out.0", "blocks.1.ffn.net.0.proj", "blocks.0.ffn.net.2"]


@pytest.fixture(scope="module")
def base(miniature_folder):
    return open_base(str(miniature_folder))


@pytest.fixture(scope="module")
def bare(base):
    return load_expert(base, Expert.HIGH, torch.float32, torch.device("cpu"))


@pytest.fixture(scope="module")
def shapes(base):
    return lora_target_shapes(expert_config(base, Expert.HIGH))


@pytest.fixture
def train(bare):
    """An expert that has learnt something, of the type asked for."""

    def train(kind, rank, alpha=3.0, **settings):
        expert = deepcopy(bare)
        add_lora(expert, LoraSettings(rank=rank, alpha=alpha, type=kind, **settings), 1)
        generator = torch.Generator().manual_seed(2)
        load_lora_state(
            expert,
            {
                name: tensor + 0.2 * torch.randn(tensor.shape, generator=generator)
                for name, tensor in lora_state(expert).items()
            },
        )
        return expert

    return train


def effective_weight(layer):
    with torch.no_grad():
        return (layer(torch.eye(layer.in_features)) - layer.get_base_layer().bias).T


def comfys_weight(weight, tensors, prefix):
    """What ComfyUI makes of a layer's weight, written from its rules."""
    found = {
        key.removeprefix(prefix): tensor.float() for key, tensor in tensors.items() if key.startswith(prefix)
    }
    alpha = found.get(".alpha")
    rank = None
    if ".lokr_w1" in found or ".lokr_w1_a" in found:
        factors = []
        for name in (".lokr_w1", ".lokr_w2"):
            if name in found:
                factors.append(found[name])
            else:
                factors.append(found[f"{name}_a"] @ found[f"{name}_b"])
                rank = found[f"{name}_b"].shape[0]
        change = torch.kron(*factors)
    else:
        up = found.get(".lora_up.weight", found.get(".lora_B.weight"))
        down = found.get(".lora_down.weight", found.get(".lora_A.weight"))
        rank = down.shape[0]
        change = up @ down
    # Whole factors have no rank, and their alpha is not heeded.
    change = change * (alpha / rank if alpha is not None and rank is not None else 1.0)
    if ".dora_scale" not in found:
        return weight + change
    scale = found[".dora_scale"]
    assert scale.shape == (len(weight), 1)
    return (weight + change) * (scale / weight.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("file_format", ["original", "kohya"])
@pytest.mark.parametrize(("kind", "rank"), KINDS)
def test_in_comfyui_each_type_makes_the_weight_that_was_trained(
    tmp_path, train, shapes, kind, rank, file_format
):
    expert = train(kind, rank)
    path = tmp_path / "l.safetensors"
    spec = LoraFileSpec("fp32", rank, 3.0, file_format)
    write_lora_file(path, lora_file_state(expert, lora_state(expert)), spec)
    tensors = load_file(path)
    for module in PATHS:
        prefix = kohya_name(module) if file_format == "kohya" else f"diffusion_model.{original_name(module)}"
        layer = expert.get_submodule(module)
        weight = layer.get_base_layer().weight.detach()
        expected = effective_weight(layer)
        assert (expected - weight).abs().max() > 0.05
        torch.testing.assert_close(comfys_weight(weight, tensors, prefix), expected, atol=2e-6, rtol=1e-4)
    verified = verify_lora_file(path, shapes)
    assert (verified.type, verified.rank) == (kind, 0 if rank == 8 else rank)
    assert verified.keys == len(lora_state(expert))
    assert not verified.is_inert


def render(pipe):
    return pipe(
        image=Image.fromarray(numbered_picture(5, 32, 32)),
        prompt="a red cube turns",
        height=32,
        width=32,
        num_frames=5,
        num_inference_steps=3,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
    ).frames.numpy()


def test_a_dora_loads_in_diffusers_and_acts_as_trained(tmp_path, miniature_folder, train, shapes):
    expert = train("dora", 2)
    path = tmp_path / "l.safetensors"
    state = lora_file_state(expert, lora_state(expert))
    write_lora_file(path, state, LoraFileSpec("fp32", 2, 3.0, "diffusers"))
    assert verify_lora_file(path, shapes).type == "dora"
    pipe = WanImageToVideoPipeline.from_pretrained(miniature_folder)
    pipe.set_progress_bar_config(disable=True)
    base = render(pipe)
    own = pipe.transformer
    pipe.transformer = expert
    trained = render(pipe)
    pipe.transformer = own
    pipe.load_lora_weights(path)
    loaded = render(pipe)
    assert np.abs(trained - base).mean() > 0.01
    assert np.abs(loaded - trained).max() <= 1e-4 * max(1.0, float(np.abs(trained).max()))


def test_diffusers_is_given_no_lokr_for_it_loads_none(tmp_path, train):
    expert = train("lokr", 2)
    with pytest.raises(LoraFileError, match="loads no LoKr"):
        write_lora_file(
            tmp_path / "l.safetensors", lora_state(expert), LoraFileSpec("fp32", 2, 3.0, "diffusers")
        )


@pytest.mark.parametrize(
    ("file_format", "lacking"), [("original", "dora_scale"), ("diffusers", "lora_magnitude")]
)
def test_a_dora_in_the_other_meaning_is_not_written_as_if_it_were_this_one(
    tmp_path, train, file_format, lacking
):
    expert = train("dora", 2)
    state = lora_file_state(expert, lora_state(expert))
    state = {name: tensor for name, tensor in state.items() if lacking not in name}
    with pytest.raises(LoraFileError, match="base model's weights"):
        write_lora_file(tmp_path / "l.safetensors", state, LoraFileSpec("fp32", 2, 3.0, file_format))


@pytest.mark.parametrize("file_format", ["original", "kohya", "diffusers"])
@pytest.mark.parametrize(("kind", "rank"), KINDS)
def test_what_is_read_back_starts_the_same_model(tmp_path, bare, train, kind, rank, file_format):
    if (kind, file_format) == ("lokr", "diffusers"):
        return
    expert = train(kind, rank)
    path = tmp_path / "l.safetensors"
    spec = LoraFileSpec("fp32", rank, 3.0, file_format)
    write_lora_file(path, lora_file_state(expert, lora_state(expert)), spec)
    lora = read_lora_file(path)
    assert (lora.type, lora.format, lora.dtype) == (kind, file_format, "fp32")
    other = deepcopy(bare)
    add_lora(other, LoraSettings(rank=rank, type=kind), 5)
    assert start_from(other, lora.state) == 20
    for module in PATHS:
        torch.testing.assert_close(
            effective_weight(other.get_submodule(module)),
            effective_weight(expert.get_submodule(module)),
            atol=2e-6,
            rtol=1e-4,
        )


def test_magnitudes_stay_float32_beside_16_bit_halves(tmp_path, train):
    expert = train("dora", 2)
    path = tmp_path / "l.safetensors"
    write_lora_file(path, lora_file_state(expert, lora_state(expert)), LoraFileSpec("bf16", 2, 3.0))
    dtypes = {key.rsplit(".", 1)[1]: tensor.dtype for key, tensor in load_file(path).items()}
    assert dtypes == {"weight": torch.bfloat16, "dora_scale": torch.float32}
    assert read_lora_file(path).dtype == "bf16"


def test_a_lokr_of_another_program_is_read_with_its_alpha_where_a_factor_is_split(tmp_path):
    key = "diffusion_model.blocks.0.self_attn.q"
    w1, whole, a, b = torch.randn(4, 4), torch.randn(5, 3), torch.randn(5, 2), torch.randn(2, 3)
    path = tmp_path / "l.safetensors"
    tensors = {
        f"{key}.lokr_w1": w1,
        f"{key}.lokr_w2_a": a,
        f"{key}.lokr_w2_b": b,
        f"{key}.alpha": torch.tensor(0.5),
    }
    save_file(tensors, path)
    state = read_lora_file(path).state
    module = diffusers_name("blocks.0.self_attn.q")
    product = state[f"{module}.lokr_w2_a"] @ state[f"{module}.lokr_w2_b"]
    torch.testing.assert_close(torch.kron(w1, product), 0.25 * torch.kron(w1, a @ b))
    # An alpha of 1e10 beside whole factors is common, and means nothing.
    save_file({f"{key}.lokr_w1": w1, f"{key}.lokr_w2": whole, f"{key}.alpha": torch.tensor(1e10)}, path)
    assert torch.equal(read_lora_file(path).state[f"{module}.lokr_w2"], whole)


def test_a_filtered_lora_is_whole_by_its_own_targets(tmp_path, base, train, shapes):
    settings = {"only_if_contains": ("self_attn",), "ignore_if_contains": ("blocks.0.",)}
    expert = train("dora", 2, **settings)
    path = tmp_path / "l.safetensors"
    write_lora_file(path, lora_file_state(expert, lora_state(expert)), LoraFileSpec("bf16", 2, 3.0))
    with pytest.raises(LoraFileError, match="without a LoRA"):
        verify_lora_file(path, shapes)
    trained = lora_target_shapes(expert_config(base, Expert.HIGH), LoraSettings(rank=2, **settings))
    assert verify_lora_file(path, trained).keys == 12


@pytest.mark.parametrize(("kind", "rank"), KINDS)
def test_an_untrained_file_is_called_inert(tmp_path, bare, shapes, kind, rank):
    expert = deepcopy(bare)
    add_lora(expert, LoraSettings(rank=rank, type=kind), 1)
    path = tmp_path / "l.safetensors"
    write_lora_file(path, lora_file_state(expert, lora_state(expert)), LoraFileSpec("bf16", rank, rank))
    assert verify_lora_file(path, shapes).is_inert


Q = "diffusion_model.blocks.1.self_attn.q"


@pytest.mark.parametrize(
    ("kind", "rank", "change", "words"),
    [
        ("dora", 2, lambda t: t.pop(f"{Q}.dora_scale"), "no dora"),
        ("dora", 2, lambda t: t.pop(f"{Q}.lora_A.weight"), "only one half"),
        ("dora", 2, lambda t: t.update({f"{Q}.dora_scale": torch.ones(1, 64)}), "wrong shape"),
        ("dora", 2, lambda t: t[f"{Q}.dora_scale"].fill_(torch.inf), "no numbers"),
        ("lokr", 2, lambda t: t.pop(f"{Q}.lokr_w1"), "only one half"),
        ("lokr", 2, lambda t: t.pop(f"{Q}.lokr_w2_b"), "only one half"),
        ("lokr", 2, lambda t: t.update({f"{Q}.lokr_w2": torch.ones(8, 8)}), "only one half"),
        ("lokr", 2, lambda t: t.update({f"{Q}.lora_A.weight": torch.ones(2, 64)}), "only one half"),
        ("lokr", 2, lambda t: t.update({f"{Q}.lokr_w2_b": torch.ones(3, 8)}), "rank"),
        ("lokr", 2, lambda t: t.update({f"{Q}.lokr_w2_b": torch.ones(2, 9)}), "wrong shape"),
        ("lokr", 8, lambda t: t.update({f"{Q}.lokr_w1": torch.ones(8, 9)}), "wrong shape"),
        ("lokr", 8, lambda t: t[f"{Q}.lokr_w1"].fill_(torch.nan), "no numbers"),
        ("lokr", 8, lambda t: t.update({f"{Q}.lokr_t2": torch.ones(2, 2)}), "wrong keys"),
    ],
)
def test_each_fault_of_a_file_is_refused_by_its_layer(tmp_path, train, shapes, kind, rank, change, words):
    expert = train(kind, rank)
    path = tmp_path / "l.safetensors"
    write_lora_file(path, lora_file_state(expert, lora_state(expert)), LoraFileSpec("fp32", rank, 3.0))
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(LoraFileError, match=words) as caught:
        verify_lora_file(path, shapes)
    assert "blocks.1" in caught.value.message
    assert len(caught.value.keys) == 1
