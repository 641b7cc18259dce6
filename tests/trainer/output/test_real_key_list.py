"""A LoRA of the real model's sizes, checked against the list that its own config makes."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainer.model.a14b_config import A14B_I2V_CONFIG
from trainer.model.lora import lora_target_shapes
from trainer.output.export import ExportOptions, export_pair
from trainer.output.lora_file import LoraFileError, LoraFileSpec, read_lora_file, write_lora_file
from trainer.output.verify import verify_lora_file
from trainer.protocol.job import Expert

RANK = 2
# Wan's own names of a block's layers, in the order of the diffusers paths in the model.
ORIGINAL_LAYERS = [
    *(f"{attention}.{letter}" for attention in ("self_attn", "cross_attn") for letter in "qkvo"),
    "ffn.0",
    "ffn.2",
]
NAMES = [f"blocks.{block}.{layer}" for block in range(40) for layer in ORIGINAL_LAYERS]
EXPECTED = {
    "original": {f"diffusion_model.{name}.lora_{half}.weight" for name in NAMES for half in "AB"},
    "kohya": {
        f"lora_unet_{name.replace('.', '_')}.{part}"
        for name in NAMES
        for part in ("lora_down.weight", "lora_up.weight", "alpha")
    },
}
A = "diffusion_model.blocks.39.cross_attn.k.lora_A.weight"
B = "diffusion_model.blocks.39.cross_attn.k.lora_B.weight"


@pytest.fixture(scope="module")
def shapes():
    return lora_target_shapes(A14B_I2V_CONFIG)


@pytest.fixture(scope="module")
def exported(shapes, tmp_path_factory) -> Path:
    """The high-noise LoRA of a checkpoint as ComfyUI reads it."""
    folder = tmp_path_factory.mktemp("a14b")
    generator = torch.Generator().manual_seed(0)
    state = {}
    for path, (rows, columns) in shapes.items():
        state[f"{path}.lora_A.weight"] = torch.randn(RANK, columns, generator=generator)
        state[f"{path}.lora_B.weight"] = torch.randn(rows, RANK, generator=generator)
    checkpoint = folder / "high_noise.safetensors"
    write_lora_file(checkpoint, state, LoraFileSpec("bf16", RANK, 1.0))
    (path,) = export_pair({Expert.HIGH: checkpoint}, {Expert.HIGH: shapes}, folder, "l")
    return path


def test_it_exports_to_exactly_the_800_keys_of_the_original_names(exported, shapes):
    assert len(EXPECTED["original"]) == 800
    assert set(load_file(exported)) == EXPECTED["original"]
    verified = verify_lora_file(exported, shapes)
    assert (verified.keys, verified.rank, verified.format, verified.is_inert) == (
        800,
        RANK,
        "original",
        False,
    )


def test_kohyas_names_are_complete_and_hold_the_same_lora(exported, shapes, tmp_path):
    (path,) = export_pair(
        {Expert.HIGH: exported}, {Expert.HIGH: shapes}, tmp_path, "l", ExportOptions("kohya")
    )
    assert set(load_file(path)) == EXPECTED["kohya"]
    first, second = read_lora_file(exported).state, read_lora_file(path).state
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("fault", "words", "named"),
    [
        ("wrong key", "wrong keys", A.replace("cross_attn.k", "cross_attn.key")),
        ("diffusers name", "wrong keys", A.replace("cross_attn.k", "attn2.to_k")),
        ("missing layer", "without a LoRA", "blocks.39.attn2.to_k"),
        ("missing half", "only one half", "blocks.39.attn2.to_k"),
        ("image layer of 2.1", "wrong keys", A.replace("cross_attn.k", "cross_attn.k_img")),
        ("41st block", "does not have", "blocks.40.attn2.to_k"),
        ("width of the 5B model", "wrong shape", "blocks.39.attn2.to_k"),
    ],
)
def test_each_fault_is_refused_by_its_name(exported, shapes, tmp_path, fault, words, named):
    tensors = load_file(exported)
    a, b = tensors.pop(A), tensors.pop(B)
    tensors |= {
        "wrong key": {A.replace("cross_attn.k", "cross_attn.key"): a, B: b},
        "diffusers name": {A.replace("cross_attn.k", "attn2.to_k"): a, B: b},
        "missing layer": {},
        "missing half": {A: a},
        "image layer of 2.1": {A: a, B: b, A.replace("cross_attn.k", "cross_attn.k_img"): a.clone()},
        "41st block": {A: a, B: b, A.replace("39", "40"): a.clone(), B.replace("39", "40"): b.clone()},
        "width of the 5B model": {A: a[:, :3072].clone(), B: b[:3072].clone()},
    }[fault]
    path = tmp_path / "spoilt.safetensors"
    save_file(tensors, path)
    with pytest.raises(LoraFileError, match=words) as caught:
        verify_lora_file(path, shapes)
    assert caught.value.keys == [named]
    assert str(path) in caught.value.message
    assert ("Wan 2.1" in caught.value.hint) == (fault == "image layer of 2.1")
