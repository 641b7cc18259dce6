"""Each mode of the job's quantization: what it makes, what it stores, and that it is found again."""

import typing

import pytest
import torch

from trainer.model.frozen.nf4 import Nf4WidthError
from trainer.model.frozen.quantizer import Mode, StoredMismatchError, from_stored, quantized, stored_layout
from trainer.model.frozen.weights import DenseWeight, Float8ComputeWeight, Float8Weight
from trainer.protocol.job import QuantizationSection

MODES = typing.get_args(Mode)
SHAPES = [(96, 128), (8, 320), (128, 64)]


def some_weight(shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def made(mode, shape, dtype=torch.bfloat16, rank=16):
    return quantized(some_weight(shape), mode, recovery_rank=rank, dtype=dtype)


def test_the_modes_are_those_of_the_job():
    job_modes = typing.get_type_hints(QuantizationSection)["transformer"]
    assert set(MODES) == set(typing.get_args(job_modes))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", MODES)
def test_the_layout_is_exactly_what_is_stored(mode, shape, dtype):
    weight = made(mode, shape, dtype)
    layout = stored_layout(mode, shape, 16, dtype)
    assert list(layout) == list(weight.stored)
    for name, tensor in weight.stored.items():
        assert layout[name] == (tuple(tensor.shape), tensor.dtype)
        assert layout[name].size_bytes == tensor.untyped_storage().nbytes()
        assert tensor.is_contiguous()


@pytest.mark.parametrize("mode", MODES)
def test_the_real_models_layout_needs_no_tensors(mode):
    bytes_a_value = {"none": 2, "float8": 1, "float8_compute": 1, "nf4": 0.5625, "nf4_recovered": 0.5625}
    found = sum(one.size_bytes for one in stored_layout(mode, (13824, 5120), 64).values())
    assert found == pytest.approx(bytes_a_value[mode] * 13824 * 5120, rel=0.07)


@pytest.mark.parametrize("mode", MODES)
def test_a_weight_comes_back_from_its_stored_tensors_without_a_copy(mode):
    weight = made(mode, (96, 128))
    again = from_stored(mode, (96, 128), weight.stored)
    assert type(again) is type(weight)
    assert torch.equal(again.dense(torch.float32), weight.dense(torch.float32))
    assert all(again.stored[name] is tensor for name, tensor in weight.stored.items())


@pytest.mark.parametrize("mode", MODES)
def test_stored_tensors_of_another_weight_are_refused(mode):
    with pytest.raises(StoredMismatchError):
        from_stored(mode, (96, 192), made(mode, (96, 128)).stored)
    with pytest.raises(StoredMismatchError):
        from_stored(mode, (96, 128), {})


@pytest.mark.parametrize(
    ("mode", "tolerance"), [("none", 0.003), ("float8", 0.04), ("float8_compute", 0.04), ("nf4", 0.1)]
)
def test_each_mode_is_as_exact_as_its_bits_allow(mode, tolerance):
    weight = some_weight((96, 128))
    error = (made(mode, (96, 128)).dense(torch.float32) - weight).norm() / weight.norm()
    assert tolerance / 3 < error < tolerance


def test_plain_and_float8_weights_take_any_width():
    assert isinstance(made("none", (5, 7)), DenseWeight)
    assert type(made("float8", (5, 7))) is Float8Weight
    assert type(made("float8_compute", (5, 7))) is Float8ComputeWeight
    for mode in ("nf4", "nf4_recovered"):
        with pytest.raises(Nf4WidthError):
            made(mode, (5, 7))
        with pytest.raises(Nf4WidthError):
            stored_layout(mode, (5, 7), 4)


@pytest.mark.parametrize("mode", ["float8_compute", "nf4", "nf4_recovered"])
def test_every_mode_computes_both_products_of_its_dense_matrix(mode):
    weight = made(mode, (96, 128))
    x = torch.randn(10, 128, generator=torch.Generator().manual_seed(1)).bfloat16()
    grad = torch.randn(10, 96, generator=torch.Generator().manual_seed(2)).bfloat16()
    found, back = weight.forward(x).float(), weight.input_gradient(grad).float()
    if weight.side_branch is not None:
        down, up = (one.float() for one in weight.side_branch)
        found, back = found + x.float() @ down.T @ up.T, back + grad.float() @ up @ down
    dense = weight.dense(torch.float32)
    # float8_compute rounds the inputs too.
    tolerance = 0.05 if mode == "float8_compute" else 0.01
    assert (found - x.float() @ dense.T).norm() < tolerance * (x.float() @ dense.T).norm()
    assert (back - grad.float() @ dense).norm() < tolerance * (grad.float() @ dense).norm()
