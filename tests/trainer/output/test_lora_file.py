"""LoRA files carry the names that other programs read, and the same LoRA whatever the format."""

import json
import math
from datetime import UTC, datetime

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from trainer.output.lora_file import (
    LoraFileError,
    LoraFileSpec,
    diffusers_name,
    kohya_name,
    original_name,
    read_lora_file,
    write_lora_file,
)
from trainer.output.lora_metadata import LoraMetadata
from trainer.output.lora_names import UnknownLayerError
from trainer.protocol.job import Expert

# Wan's own names, written down from its code: per block two attentions of four linears and a
# feed-forward of two. The order is that of the diffusers paths below.
ORIGINAL_LAYERS = [
    *(f"{attention}.{letter}" for attention in ("self_attn", "cross_attn") for letter in "qkvo"),
    "ffn.0",
    "ffn.2",
]
DIFFUSERS_LAYERS = [
    *(
        f"{attention}.{layer}"
        for attention in ("attn1", "attn2")
        for layer in ("to_q", "to_k", "to_v", "to_out.0")
    ),
    "ffn.net.0.proj",
    "ffn.net.2",
]
BLOCKS_14B = 40
SPEC = LoraFileSpec(dtype="fp32", rank=4, alpha=4.0)
ABOUT = LoraMetadata(
    name="orbit",
    expert=Expert.HIGH,
    boundary=0.9,
    rank=4,
    alpha=2.0,
    steps=500,
    trigger="0rbit",
    base_fingerprint="abc123",
)


def state_of(
    blocks: int = 2, rank: int = 4, width: int = 12, *, scale: float = 1.0
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    state = {}
    for block in range(blocks):
        for layer in DIFFUSERS_LAYERS:
            path = f"blocks.{block}.{layer}"
            state[f"{path}.lora_A.weight"] = torch.randn(rank, width, generator=generator) * scale
            state[f"{path}.lora_B.weight"] = torch.randn(width + 2, rank, generator=generator) * scale
    return state


def changes(state: dict[str, torch.Tensor], scale: float = 1.0) -> dict[str, torch.Tensor]:
    """What is added to each weight."""
    return {
        key.removesuffix(".lora_A.weight"): scale * state[key.replace("lora_A", "lora_B")] @ state[key]
        for key in state
        if key.endswith("lora_A.weight")
    }


def test_the_layers_of_the_14b_model_have_wans_own_names_each_once(tmp_path):
    state = {}
    for block in range(BLOCKS_14B):
        for layer in DIFFUSERS_LAYERS:
            state[f"blocks.{block}.{layer}.lora_A.weight"] = torch.ones(1, 2)
            state[f"blocks.{block}.{layer}.lora_B.weight"] = torch.ones(2, 1)
    write_lora_file(tmp_path / "l.safetensors", state, LoraFileSpec(dtype="bf16", rank=1, alpha=1.0))
    linears = [f"blocks.{block}.{layer}" for block in range(BLOCKS_14B) for layer in ORIGINAL_LAYERS]
    assert len(linears) == 400
    expected = {f"diffusion_model.{name}.lora_{half}.weight" for name in linears for half in "AB"}
    keys = set(load_file(tmp_path / "l.safetensors"))
    assert keys == expected
    assert "diffusion_model.blocks.0.self_attn.q.lora_A.weight" in keys


def test_names_turn_into_each_other():
    for original, path in zip(ORIGINAL_LAYERS, DIFFUSERS_LAYERS, strict=True):
        assert original_name(f"blocks.17.{path}") == f"blocks.17.{original}"
        assert diffusers_name(f"blocks.17.{original}") == f"blocks.17.{path}"
        assert kohya_name(f"blocks.17.{path}") == f"lora_unet_blocks_17_{original.replace('.', '_')}"
        assert diffusers_name(kohya_name(f"blocks.17.{path}")) == f"blocks.17.{path}"


@pytest.mark.parametrize(
    "name",
    [
        "blocks.0.attn1.to_x",
        "blocks.x.attn1.to_q",
        "attn1.to_q",
        "blocks.0.attn1",
        "proj_out",
        "blocks.01.attn1.to_q",
    ],
)
def test_a_name_of_no_trained_layer_is_refused(name):
    with pytest.raises(UnknownLayerError):
        original_name(name)


def test_original_names_are_no_module_paths_and_the_other_way_round():
    with pytest.raises(UnknownLayerError):
        original_name("blocks.0.self_attn.q")
    with pytest.raises(UnknownLayerError):
        diffusers_name("blocks.0.attn1.to_q")


@pytest.mark.parametrize("file_format", ["original", "diffusers", "kohya"])
@pytest.mark.parametrize("alpha", [4.0, 1.0, 10.0])
def test_the_lora_is_the_same_whatever_the_format_and_alpha(tmp_path, file_format, alpha):
    state = state_of()
    path = tmp_path / "l.safetensors"
    write_lora_file(path, state, LoraFileSpec(dtype="fp32", rank=4, alpha=alpha, format=file_format))
    lora = read_lora_file(path)
    assert (lora.format, lora.dtype) == (file_format, "fp32")
    assert lora.state.keys() == state.keys()
    expected = changes(state, alpha / 4)
    found = changes(lora.state)
    assert all(torch.allclose(found[module], expected[module], rtol=1e-5, atol=1e-6) for module in expected)
    if alpha == 4.0:
        assert all(torch.equal(lora.state[key], tensor) for key, tensor in state.items())


def test_alpha_is_shared_evenly_by_the_halves(tmp_path):
    state = state_of(blocks=1)
    write_lora_file(tmp_path / "l.safetensors", state, LoraFileSpec(dtype="fp32", rank=4, alpha=1.0))
    tensors = load_file(tmp_path / "l.safetensors")
    for half in "AB":
        written = tensors[f"diffusion_model.blocks.0.ffn.2.lora_{half}.weight"]
        assert torch.allclose(written, state[f"blocks.0.ffn.net.2.lora_{half}.weight"] * math.sqrt(1 / 4))
    assert not any("alpha" in key for key in tensors)


def test_kohyas_names_carry_alpha_and_the_weights_as_trained(tmp_path):
    state = state_of(blocks=1)
    write_lora_file(
        tmp_path / "l.safetensors", state, LoraFileSpec(dtype="fp32", rank=4, alpha=2.0, format="kohya")
    )
    tensors = load_file(tmp_path / "l.safetensors")
    name = "lora_unet_blocks_0_cross_attn_o"
    assert torch.equal(tensors[f"{name}.lora_down.weight"], state["blocks.0.attn2.to_out.0.lora_A.weight"])
    assert torch.equal(tensors[f"{name}.lora_up.weight"], state["blocks.0.attn2.to_out.0.lora_B.weight"])
    assert tensors[f"{name}.alpha"] == 2.0
    assert len(tensors) == 30


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_sixteen_bits_are_rounded_once(tmp_path, name, dtype):
    state = state_of()
    write_lora_file(tmp_path / "l.safetensors", state, LoraFileSpec(dtype=name, rank=4, alpha=4.0))
    lora = read_lora_file(tmp_path / "l.safetensors")
    assert lora.dtype == name
    assert all(torch.equal(lora.state[key], tensor.to(dtype).float()) for key, tensor in state.items())


@pytest.mark.parametrize(("dtype", "value"), [("fp16", 70_000.0), ("fp32", math.nan), ("bf16", math.inf)])
def test_values_that_the_type_cannot_hold_are_refused_before_anything_is_written(tmp_path, dtype, value):
    state = state_of()
    state["blocks.1.ffn.net.2.lora_B.weight"][3, 1] = value
    with pytest.raises(LoraFileError, match=r"diffusion_model\.blocks\.1\.ffn\.2\.lora_B\.weight"):
        write_lora_file(tmp_path / "l.safetensors", state, LoraFileSpec(dtype=dtype, rank=4, alpha=4.0))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "key", ["blocks.0.attn1.to_q.weight", "proj_out.lora_A.weight", "blocks.0.norm2.lora_A.weight", ""]
)
def test_weights_of_no_trained_layer_are_not_written(tmp_path, key):
    with pytest.raises(LoraFileError):
        write_lora_file(tmp_path / "l.safetensors", {**state_of(), key: torch.ones(1)}, SPEC)
    assert not list(tmp_path.iterdir())


def test_the_metadata_is_text_that_managers_know_and_comes_back(tmp_path):
    path = tmp_path / "l.safetensors"
    spec = LoraFileSpec(dtype="fp32", rank=4, alpha=2.0, metadata=ABOUT)
    write_lora_file(path, state_of(), spec)
    with safe_open(path, framework="pt") as file:
        strings = file.metadata()
    assert (
        strings.items()
        >= {
            "format": "pt",
            "expert": "high_noise",
            "boundary": "0.9",
            "rank": "4",
            "alpha": "2",
            "steps": "500",
            "trigger": "0rbit",
            "base_fingerprint": "abc123",
            "modelspec.sai_model_spec": "1.0.0",
            "modelspec.title": "orbit (high noise)",
            "modelspec.trigger_phrase": "0rbit",
            "modelspec.timestep_range": "900,1000",
            "ss_output_name": "orbit_high_noise",
            "ss_network_dim": "4",
            # Folded: a reader that scales by this alpha over the dim must get 1.
            "ss_network_alpha": "4",
        }.items()
    )
    assert "modelspec.date" not in strings
    assert read_lora_file(path).metadata == ABOUT
    created = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    dated = LoraMetadata("l", Expert.LOW, 0.9, 4, 2.0, 500, created=created)
    write_lora_file(path, state_of(), LoraFileSpec("fp32", 4, 2.0, "kohya", dated))
    strings = read_lora_file(path).strings
    assert strings["modelspec.date"] == "2026-01-02T03:04:05+00:00"
    assert strings["ss_network_alpha"] == "2"
    assert strings["modelspec.timestep_range"] == "0,900"
    assert "modelspec.trigger_phrase" not in strings
    assert read_lora_file(path).metadata == dated


def test_the_same_lora_gives_the_same_bytes(tmp_path):
    spec = LoraFileSpec(dtype="bf16", rank=4, alpha=4.0, metadata=ABOUT)
    for name in "ab":
        write_lora_file(tmp_path / name, state_of(), spec)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    header = (tmp_path / "a").read_bytes()
    length = int.from_bytes(header[:8], "little")
    assert length % 8 == 0
    assert list(json.loads(header[8 : 8 + length])["__metadata__"]) == sorted(ABOUT.to_strings(4.0))


def test_files_of_other_programs_are_read_with_their_alpha(tmp_path):
    down, up = torch.randn(2, 6), torch.randn(8, 2)
    save_file(
        {
            "diffusion_model.blocks.3.ffn.0.lora_down.weight": down,
            "diffusion_model.blocks.3.ffn.0.lora_up.weight": up,
            "diffusion_model.blocks.3.ffn.0.alpha": torch.tensor(0.5),
        },
        tmp_path / "l.safetensors",
    )
    lora = read_lora_file(tmp_path / "l.safetensors")
    assert lora.metadata is None
    found = changes(lora.state)["blocks.3.ffn.net.0.proj"]
    assert torch.allclose(found, up @ down * 0.25, atol=1e-6)


@pytest.mark.parametrize("kind", ["missing", "text", "cut", "folder"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, kind):
    path = tmp_path / "l.safetensors"
    if kind == "text":
        path.write_text("no tensors")
    if kind == "cut":
        write_lora_file(path, state_of(), SPEC)
        path.write_bytes(path.read_bytes()[:-10])
    if kind == "folder":
        path.mkdir()
    with pytest.raises(LoraFileError, match=r"l\.safetensors"):
        read_lora_file(path)


def test_unknown_keys_are_named_the_first_of_them(tmp_path):
    path = tmp_path / "l.safetensors"
    save_file(
        {f"diffusion_model.blocks.{n}.self_attn.k_img.lora_A.weight": torch.ones(1, 1) for n in range(9)},
        path,
    )
    with pytest.raises(LoraFileError, match="and 4 more") as caught:
        read_lora_file(path)
    assert len(caught.value.keys) == 9
    assert "diffusion_model.blocks.0.self_attn.k_img.lora_A.weight" in caught.value.message
