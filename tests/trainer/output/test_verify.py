"""A LoRA file passes only when each of the model's layers has a whole, finite LoRA of its shape."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainer.output.lora_file import LoraFileError, LoraFileSpec, write_lora_file
from trainer.output.verify import verify_lora_file

LAYERS = ["attn1.to_q", "attn2.to_out.0", "ffn.net.0.proj"]
SHAPES = {
    f"blocks.{block}.{layer}": (10 + index, 6 + index)
    for block in range(12)
    for index, layer in enumerate(LAYERS)
}
RANK = 3


def lora(rank: int = RANK) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    state = {}
    for module, (out_width, in_width) in SHAPES.items():
        state[f"{module}.lora_A.weight"] = torch.randn(rank, in_width, generator=generator)
        state[f"{module}.lora_B.weight"] = torch.randn(out_width, rank, generator=generator)
    return state


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "l.safetensors"
    write_lora_file(path, lora(), LoraFileSpec(dtype="bf16", rank=RANK, alpha=2.0))
    return path


def test_a_whole_file_passes_and_is_described(path):
    verified = verify_lora_file(path, SHAPES)
    assert verified.keys == 2 * len(SHAPES)
    assert (verified.rank, verified.format, verified.dtype) == (RANK, "original", "bf16")
    assert not verified.is_inert


def test_an_untrained_lora_passes_and_is_called_inert(path):
    state = {key: tensor * ("lora_A" in key) for key, tensor in lora().items()}
    write_lora_file(path, state, LoraFileSpec(dtype="bf16", rank=RANK, alpha=2.0))
    assert verify_lora_file(path, SHAPES).is_inert


KEY = "diffusion_model.blocks.11.self_attn.q.lora_{}.weight"


A, B = KEY.format("A"), KEY.format("B")


def changed(tensors, kind):
    """The tensors with one fault in the last block's query."""
    a, b = tensors.pop(A), tensors.pop(B)
    spoilt = b.clone()
    spoilt[2, 1] = {"not a number": math.nan, "infinite": math.inf}.get(kind, 1e5)
    replacement = {
        "half missing": {A: a},
        "layer missing": {},
        "wrong name": {A.replace("self_attn.q", "attn1.to_q"): a, B: b},
        "unknown block": {A: a, B: b, A.replace("11", "12"): a * 2, B.replace("11", "12"): b * 2},
        "transposed": {A: a.T.contiguous(), B: b},
        "other width": {A: a, B: torch.cat([b, b])},
        "other rank": {A: a[:2].clone(), B: b[:, :2].clone()},
        "nothing inside": {A: a[:0].clone(), B: b[:, :0].clone()},
        "alpha of two": {A: a, B: b, "diffusion_model.blocks.11.self_attn.q.alpha": torch.ones(2)},
    }.get(kind, {A: a, B: spoilt})
    return {**tensors, **replacement}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("half missing", "only one half"),
        ("layer missing", "without a LoRA"),
        ("wrong name", "wrong keys"),
        ("unknown block", "does not have"),
        ("transposed", "rank"),
        ("other width", "shape"),
        ("other rank", "rank"),
        ("nothing inside", "rank"),
        ("not a number", "no numbers"),
        ("infinite", "no numbers"),
        ("beyond fp16", "fp16"),
        ("alpha of two", "wrong keys"),
    ],
)
def test_each_fault_is_refused_by_file_and_key(path, kind, words):
    save_file(changed(load_file(path), kind), path)
    with pytest.raises(LoraFileError, match=words) as caught:
        verify_lora_file(path, SHAPES)
    assert str(path) in caught.value.message
    assert "blocks.1" in caught.value.message
    assert len(caught.value.keys) == 1


def test_a_partial_lora_passes_only_when_told(path):
    save_file(changed(load_file(path), "layer missing"), path)
    assert verify_lora_file(path, SHAPES, allow_partial=True).keys == 2 * len(SHAPES) - 2


def test_a_file_without_any_lora_is_refused(path):
    save_file({}, path)
    with pytest.raises(LoraFileError, match="holds no LoRA"):
        verify_lora_file(path, SHAPES)
