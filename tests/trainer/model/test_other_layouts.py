"""Bases in other layouts than diffusers' load to the very same models."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import base_layouts as layouts
from trainer.model import stored_weights
from trainer.model.base_errors import NoTokenizerError
from trainer.model.layouts import expert_config, open_base
from trainer.model.load import load_expert, load_text_encoder, load_vae, sampling_scheduler
from trainer.model.miniature import MiniatureConfig, build_miniature
from trainer.model.stored_weights import _scaled
from trainer.model.text import encode_prompts
from trainer.model.vae import decode_latents, encode_clip
from trainer.protocol.job import Expert, ModelSection

CPU = torch.device("cpu")
PROMPTS = ["a red sphere on the floor, camera orbits slowly", ""]


@pytest.fixture(scope="module")
def full_base(tmp_path_factory):
    """In float32, with heads of 128 as every Wan has: single files tell no other."""
    config = MiniatureConfig(heads=1, head_dim=128)
    return build_miniature(tmp_path_factory.mktemp("full") / "base", config, seed=3)


@pytest.fixture(scope="module")
def half_base(full_base, tmp_path_factory):
    return layouts.rounded_base(full_base, tmp_path_factory.mktemp("half") / "base", torch.float16)


@pytest.fixture(scope="module")
def comfy(half_base, tmp_path_factory):
    return layouts.comfy_folder(half_base, tmp_path_factory.mktemp("comfy") / "models")


@pytest.fixture(scope="module")
def release(half_base, tmp_path_factory):
    return layouts.release_folder(half_base, tmp_path_factory.mktemp("release") / "Wan2.2-I2V-A14B")


@torch.no_grad()
def expert_output(base, expert, dtype=torch.float32):
    transformer = load_expert(base, expert, dtype, CPU)
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(1, 36, 2, 8, 8, generator=generator).to(dtype)
    text = torch.randn(1, 7, 64, generator=generator).to(dtype)
    return transformer(latents, torch.tensor([700.0]), text, return_dict=False)[0]


@torch.no_grad()
def vae_output(base):
    vae = load_vae(base, CPU)
    frames = torch.randint(0, 256, (5, 32, 32, 3), generator=torch.Generator().manual_seed(2))
    latents = encode_clip(vae, frames.numpy().astype("uint8")).x0_CTHW
    return latents, torch.from_numpy(decode_latents(vae, latents))


def text_output(base, dtype=torch.float32):
    return encode_prompts(load_text_encoder(base, dtype, CPU), PROMPTS)


def assert_same_model(one, other):
    for expert in Expert:
        assert torch.equal(expert_output(one, expert), expert_output(other, expert))
    for mine, theirs in zip(vae_output(one), vae_output(other), strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(text_output(one), text_output(other), strict=True):
        assert torch.equal(mine, theirs)


def test_comfyui_files_compute_what_the_diffusers_folder_computes_bit_for_bit(comfy, half_base):
    assert_same_model(open_base(str(comfy)), open_base(str(half_base)))


def test_the_original_release_computes_what_the_diffusers_folder_computes_bit_for_bit(release, half_base):
    assert_same_model(open_base(str(release)), open_base(str(half_base)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_expert_loaded_in_half_precision_is_the_same_from_every_layout(comfy, half_base, dtype):
    from_files = expert_output(open_base(str(comfy)), Expert.LOW, dtype)
    assert torch.equal(from_files, expert_output(open_base(str(half_base)), Expert.LOW, dtype))


def test_files_in_bfloat16_load_bit_for_bit(full_base, tmp_path):
    rounded = layouts.rounded_base(full_base, tmp_path / "rounded", torch.bfloat16)
    files = layouts.comfy_folder(rounded, tmp_path / "models", torch.bfloat16)
    assert_same_model(open_base(str(files)), open_base(str(rounded)))


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "diffusion_model."])
def test_prefixes_of_an_experts_names_do_not_matter(comfy, half_base, tmp_path, prefix):
    high = load_file(comfy / "diffusion_models" / layouts.HIGH_NAME)
    file = tmp_path / "any_high.safetensors"
    save_file({f"{prefix}{name}": tensor for name, tensor in high.items()}, file)
    base = open_base(ModelSection(base=str(comfy), high_noise=str(file)))
    expected = expert_output(open_base(str(half_base)), Expert.HIGH)
    assert torch.equal(expert_output(base, Expert.HIGH), expected)


def float8_files(full_base, comfy, folder, kind):
    """The experts and the text encoder in float8 beside the VAE, and what their weights stand for."""
    shutil.copytree(comfy / "vae", folder / "vae")
    (folder / "unet").mkdir()
    (folder / "clip").mkdir()
    meant = {}
    prefix = "model.diffusion_model." if "prefix" in kind else ""
    for part, name in (("transformer", layouts.HIGH_NAME), ("transformer_2", layouts.LOW_NAME)):
        tensors = layouts.original_expert(layouts.weights_of(full_base, part))
        stored, metadata = float8(tensors, kind, prefix)
        save_file(stored, folder / "unet" / name.replace("fp16", "fp8_scaled"), metadata=metadata)
        meant[part] = layouts.dequantized(stored, prefix)
    stored, metadata = float8(layouts.weights_of(full_base, "text_encoder"), kind, "")
    meant["text_encoder"] = layouts.dequantized(stored)
    spiece = torch.tensor(list(layouts.spiece_of(full_base / "tokenizer")), dtype=torch.uint8)
    save_file(
        {**stored, "spiece_model": spiece},
        folder / "clip" / "umt5_xxl_fp8_e4m3fn_scaled.safetensors",
        metadata=metadata,
    )
    return meant


def float8(tensors, kind, prefix):
    if kind.startswith("old"):
        return layouts.quantized_old(tensors, prefix), None
    if kind.startswith("plain"):
        stored = {
            f"{prefix}{name}": tensor.to(
                torch.float8_e4m3fn if layouts.is_quantized(name, tensor) else torch.float16
            )
            for name, tensor in tensors.items()
        }
        return stored, None
    by = "tensors" if "tensors" in kind else "metadata"
    return layouts.quantized_new(tensors, prefix, by, (-1, 1) if "rows" in kind else ())


@pytest.mark.parametrize(
    "kind", ["old", "old, prefix", "new", "new, tensors, prefix", "new, rows", "plain", "plain, prefix"]
)
def test_float8_files_of_every_kind_become_the_weights_that_they_stand_for(full_base, comfy, tmp_path, kind):
    meant = float8_files(full_base, comfy, tmp_path / "models", kind)
    base = open_base(str(tmp_path / "models"))
    for expert, part in ((Expert.HIGH, "transformer"), (Expert.LOW, "transformer_2")):
        source = base.expert_source(expert)
        exact = layouts.weights_of(full_base, part)
        originals = dict(zip(exact, layouts.original_expert(exact), strict=True))
        for name, original in originals.items():
            loaded = source.tensor(name)
            assert loaded.dtype in (torch.bfloat16, torch.float16)
            assert torch.equal(loaded.float(), meant[part][original].float()), name
    text = base.text_source()
    for name, tensor in meant["text_encoder"].items():
        assert torch.equal(text.tensor(name).float(), tensor.float()), name


@pytest.mark.parametrize("kind", ["old", "new", "new, rows"])
def test_an_expert_from_scaled_float8_stays_within_a_twentieth_of_its_outputs_spread(
    full_base, comfy, tmp_path, kind
):
    float8_files(full_base, comfy, tmp_path / "models", kind)
    exact = expert_output(open_base(str(full_base)), Expert.HIGH)
    rounded = expert_output(open_base(str(tmp_path / "models")), Expert.HIGH)
    error = (rounded - exact).std() / exact.std()
    assert 0 < error < 0.05


def test_scales_in_blocks_within_the_rows_multiply_their_own_block():
    values = torch.ones(2, 8).to(torch.float8_e4m3fn)
    scale = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])
    assert _scaled(values, scale).tolist() == [[1.0] * 4 + [2.0] * 4, [3.0] * 4 + [4.0] * 4]


@pytest.mark.parametrize("scale_shape", [(), (1,), (7,), (7, 1)])
@pytest.mark.parametrize("at_once", [1, 20, 2**20])
def test_scaling_some_rows_at_a_time_changes_nothing(monkeypatch, scale_shape, at_once):
    monkeypatch.setattr(stored_weights, "_ELEMENTS_AT_ONCE", at_once)
    values = torch.randn(7, 6).to(torch.float8_e4m3fn)
    scale = torch.rand(scale_shape) + 0.1
    expected = values.float() * (scale.reshape(7, 1) if scale.numel() == 7 else scale.reshape(()))
    assert torch.equal(_scaled(values, scale), expected.bfloat16())


def test_a_config_is_derived_from_the_shapes_of_a_file_that_brings_none(comfy, half_base):
    files, folder = open_base(str(comfy)), open_base(str(half_base))
    derived = expert_config(files, Expert.HIGH)
    stored = expert_config(folder, Expert.HIGH)
    own = {"rope_max_seq_len"}
    assert {key: stored[key] for key in derived.keys() - own} | {"patch_size": (1, 2, 2)} == {
        key: derived[key] for key in derived.keys() - own
    }
    assert files.vae_source().config.items() <= {**folder.vae_source().config}.items()
    text = files.text_source().config
    assert {key: folder.text_source().config[key] for key in text} == dict(text)


def test_the_release_tells_its_number_of_heads(miniature_folder, tmp_path):
    folder = layouts.release_folder(miniature_folder, tmp_path / "release", torch.float32)
    assert_same_model(open_base(str(folder)), open_base(str(miniature_folder)))


def test_bases_without_a_scheduler_sample_as_those_with_one(comfy, half_base):
    levels = []
    for base in (comfy, half_base):
        scheduler = sampling_scheduler(open_base(str(base)), "unipc", 5.0)
        scheduler.set_timesteps(9)
        levels.append((scheduler.sigmas, dict(scheduler.config)))
    assert torch.equal(levels[0][0], levels[1][0])
    assert levels[0][1]["solver_order"] == levels[1][1]["solver_order"]


def test_single_files_have_the_official_boundary(comfy, release):
    assert open_base(str(comfy)).boundary_ratio == open_base(str(release)).boundary_ratio == 0.9


@pytest.mark.parametrize("layout", ["comfy", "release"])
def test_a_copy_under_other_names_has_the_same_fingerprints(layout, comfy, release, tmp_path):
    source = {"comfy": comfy, "release": release}[layout]
    copy = shutil.copytree(source, tmp_path / "elsewhere")
    if layout == "comfy":
        (copy / "vae" / layouts.VAE_NAME).rename(copy / "vae" / "Wan2_1_VAE.safetensors")
    one, other = open_base(str(source)), open_base(str(copy))
    for name in ("fingerprint", "vae_fingerprint", "text_fingerprint"):
        assert getattr(one, name) == getattr(other, name)


def test_each_part_shows_in_its_own_fingerprint_only(comfy, tmp_path):
    before = open_base(str(comfy))
    other = shutil.copytree(comfy, tmp_path / "other")
    file = other / "vae" / layouts.VAE_NAME
    tensors = load_file(file)
    tensors["conv1.bias"][0] += 1
    save_file(tensors, file)
    after = open_base(str(other))
    assert before.vae_fingerprint != after.vae_fingerprint
    assert before.text_fingerprint == after.text_fingerprint
    assert before.fingerprint != after.fingerprint


def test_named_parts_replace_those_of_the_base(half_base, full_base, comfy):
    section = ModelSection(
        base=str(half_base),
        low_noise=str(comfy / "diffusion_models" / layouts.HIGH_NAME),
        vae=str(full_base / "vae"),
        text_encoder=str(comfy / "text_encoders" / layouts.TEXT_NAME),
    )
    base = open_base(section)
    own = open_base(str(half_base))
    assert torch.equal(expert_output(base, Expert.LOW), expert_output(own, Expert.HIGH))
    assert torch.equal(expert_output(base, Expert.HIGH), expert_output(own, Expert.HIGH))
    assert torch.equal(vae_output(base)[0], vae_output(open_base(str(full_base)))[0])
    assert torch.equal(text_output(base)[0], text_output(own)[0])
    assert base.vae_fingerprint != own.vae_fingerprint


def test_four_named_parts_need_no_base(comfy, release, half_base):
    section = ModelSection(
        high_noise=str(release / "high_noise_model"),
        low_noise=str(comfy / "diffusion_models" / layouts.LOW_NAME),
        vae=str(comfy / "vae" / layouts.VAE_NAME),
        text_encoder=str(half_base / "text_encoder"),
    )
    assert_same_model(open_base(section), open_base(str(half_base)))


def test_a_tokenizer_beside_the_text_encoder_is_found(comfy, half_base, tmp_path):
    other = shutil.copytree(comfy, tmp_path / "models")
    file = other / "text_encoders" / layouts.TEXT_NAME
    tensors = load_file(file)
    spiece = bytes(tensors.pop("spiece_model").tolist())
    save_file(tensors, file)
    with pytest.raises(NoTokenizerError, match=r"umt5_xxl_fp16.*google/umt5-xxl.*tokenizer beside"):
        open_base(str(other))
    (other / "text_encoders" / "tokenizer").mkdir()
    (other / "text_encoders" / "tokenizer" / "spiece.model").write_bytes(spiece)
    assert torch.equal(text_output(open_base(str(other)))[0], text_output(open_base(str(half_base)))[0])


def test_text_encoders_in_half_precision_are_the_same_from_every_layout(release, half_base):
    for dtype in (torch.bfloat16, torch.float16):
        encoders = [
            load_text_encoder(open_base(str(base)), dtype, CPU).model for base in (release, half_base)
        ]
        stored = [dict(encoder.named_parameters()) for encoder in encoders]
        assert stored[0].keys() == stored[1].keys()
        assert all(torch.equal(stored[0][name], stored[1][name]) for name in stored[0])
        assert (stored[0]["encoder.block.0.layer.1.DenseReluDense.wo.weight"].dtype == torch.float32) == (
            dtype == torch.float16
        )


def test_an_index_in_json_is_not_needed_for_a_single_shard(release, half_base, tmp_path):
    other = shutil.copytree(release, tmp_path / "release")
    folder = other / "high_noise_model"
    index = json.loads((folder / "diffusion_pytorch_model.safetensors.index.json").read_text())
    tensors = {}
    for shard in set(index["weight_map"].values()):
        tensors |= load_file(folder / shard)
    shutil.rmtree(folder)
    folder.mkdir()
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
    assert torch.equal(
        expert_output(open_base(str(other)), Expert.HIGH),
        expert_output(open_base(str(half_base)), Expert.HIGH),
    )
