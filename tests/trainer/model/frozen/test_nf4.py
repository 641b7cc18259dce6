"""Weights in 4 bits: against NF4 written anew from its code book, and against themselves."""

import sys

import pytest
import torch

from trainer.model.frozen import nf4
from trainer.model.frozen.nf4 import Nf4LibraryError, Nf4Weight, Nf4WidthError, pack
from trainer.model.frozen.nf4_rounding import CODE_BOOK, pack_for
from trainer.model.frozen.packing import PackedBlock

DTYPES = [torch.float32, torch.bfloat16]


def some_weight(outputs=24, inputs=192, seed=0):
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed))


def by_the_book(weight):
    """NF4 value by value: the nearest of sixteen numbers times the largest of each 64."""
    book = torch.tensor(CODE_BOOK)
    blocks = weight.float().reshape(-1, 64)
    peaks = blocks.abs().amax(1, keepdim=True)
    codes = (blocks[:, :, None] / peaks[:, :, None] - book).abs().argmin(-1)
    return (book[codes] * peaks).reshape(weight.shape)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_stored_weight_is_nf4_by_its_code_book(dtype):
    weight = some_weight().to(dtype)
    found = Nf4Weight.quantized(weight).dense(torch.float32)
    torch.testing.assert_close(found, by_the_book(weight), atol=1e-5, rtol=1e-5)
    error = (found - weight.float()).norm() / weight.float().norm()
    assert 0.08 < error < 0.1


@pytest.mark.parametrize("dtype", DTYPES)
def test_both_products_are_those_of_the_dense_matrix(dtype):
    weight = Nf4Weight.quantized(some_weight())
    dense = weight.dense(dtype)
    assert dense.dtype == dtype
    x = torch.randn(7, 192, generator=torch.Generator().manual_seed(1)).to(dtype)
    grad = torch.randn(7, 24, generator=torch.Generator().manual_seed(2)).to(dtype)
    bias = torch.randn(24, generator=torch.Generator().manual_seed(3)).to(dtype)
    assert torch.equal(weight.forward(x, bias), torch.nn.functional.linear(x, dense, bias))
    assert torch.equal(weight.input_gradient(grad), grad @ dense)


def test_rows_are_views_and_hold_what_the_whole_holds_there():
    weight = Nf4Weight.quantized(some_weight())
    rows = weight.rows(5, 17)
    assert torch.equal(rows.dense(torch.float32), weight.dense(torch.float32)[5:17])
    assert torch.equal(rows.rows(2, 3).dense(torch.float32), weight.dense(torch.float32)[7:8])
    for name, tensor in rows.stored.items():
        assert tensor.is_contiguous()
        assert tensor.untyped_storage().data_ptr() == weight.stored[name].untyped_storage().data_ptr()


def test_other_tensors_may_take_the_place_of_the_stored_ones():
    weight, other = (Nf4Weight.quantized(some_weight(seed=seed)) for seed in (0, 1))
    weight.rebind({name: tensor.clone() for name, tensor in other.stored.items()})
    assert torch.equal(weight.dense(torch.float32), other.dense(torch.float32))


def test_a_packed_block_computes_what_its_weights_did():
    weight = Nf4Weight.quantized(some_weight())
    before = weight.dense(torch.float32)
    PackedBlock([Nf4Weight.quantized(some_weight(3, 64)), weight], pin=False)
    assert torch.equal(weight.dense(torch.float32), before)


@pytest.mark.parametrize("inputs", [96, 63, 32])
def test_rows_that_do_not_divide_into_blocks_are_refused_with_a_way_out(inputs):
    with pytest.raises(Nf4WidthError, match=f"24 x {inputs}.*float8"):
        Nf4Weight.quantized(some_weight(24, inputs))


def test_with_peaks_chosen_the_format_stays_and_the_columns_that_count_err_less():
    weight = some_weight(64, 512)
    importance = torch.exp(torch.randn(512, generator=torch.Generator().manual_seed(1)))
    stored = pack_for(weight, importance)
    plain = pack(weight)
    assert {name: (one.shape, one.dtype) for name, one in stored.items()} == {
        name: (one.shape, one.dtype) for name, one in plain.items()
    }

    def errors(tensors):
        rest = Nf4Weight((64, 512), tensors).dense(torch.float32) - weight
        return (rest * importance).reshape(-1, 64).square().sum(1)

    assert (errors(stored) <= errors(plain) * (1 + 1e-5)).all()
    assert errors(stored).sum() < 0.8 * errors(plain).sum()


def test_rounding_in_pieces_gives_what_rounding_at_once_gives(monkeypatch):
    weight, importance = some_weight(), torch.ones(192)
    at_once = pack_for(weight, importance)
    monkeypatch.setattr("trainer.model.frozen.nf4_rounding._VALUES_AT_ONCE", 5 * 192)
    in_pieces = pack_for(weight, importance)
    assert all(torch.equal(in_pieces[name], at_once[name]) for name in at_once)


@pytest.mark.parametrize("stored", [pack, lambda weight: pack_for(weight, torch.ones(128))])
def test_zeros_stay_zeros(stored):
    weight = torch.zeros(4, 128)
    weight[1, 3] = 2.0
    found = Nf4Weight((4, 128), stored(weight)).dense(torch.float32)
    torch.testing.assert_close(found, weight, atol=0.0, rtol=0.3)
    assert torch.isfinite(found).all()


def test_without_bitsandbytes_the_error_says_what_to_do(monkeypatch):
    nf4._bitsandbytes.cache_clear()
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(Nf4LibraryError, match="Install it"):
        pack(some_weight())
    nf4._bitsandbytes.cache_clear()
