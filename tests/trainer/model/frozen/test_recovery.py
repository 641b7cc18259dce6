"""4-bit weights with a side branch: smaller errors than plain NF4, never larger ones."""

import pytest
import torch

from trainer.model.frozen.nf4 import Nf4Weight, Nf4WidthError
from trainer.model.frozen.packing import PackedBlock
from trainer.model.frozen.realistic import (
    channel_sizes,
    common_directions,
    realistic_inputs,
    realistic_weight,
)
from trainer.model.frozen.recovery import RecoveredWeight, leading_part, recovered

OUTPUTS, INPUTS, RANK = 512, 768, 8


@pytest.fixture(scope="module")
def given():
    """A weight, inputs whose sizes are gathered, and others of the same kind."""
    generator = torch.Generator().manual_seed(0)
    weight = realistic_weight((OUTPUTS, INPUTS), generator)
    sizes, directions = channel_sizes(INPUTS, generator), common_directions(INPUTS, generator)
    known, new = (realistic_inputs(300, sizes, directions, generator) for _ in range(2))
    return weight, known.square().mean(0).sqrt(), new


def output_error(weight, stored, x):
    right = x @ weight.T
    return float((x @ stored.dense(torch.float32).T - right).norm() / right.norm())


def test_on_realistic_weights_and_new_inputs_the_error_is_at_most_0_6_of_that_of_nf4(given):
    weight, rms, x = given
    plain = output_error(weight, Nf4Weight.quantized(weight), x)
    with_statistics = output_error(weight, recovered(weight, RANK, rms), x)
    without = output_error(weight, recovered(weight, RANK), x)
    print(f"\nNF4 {plain:.2%}; recovered {with_statistics:.2%} ({with_statistics / plain:.2f})")
    print(f"without statistics {without:.2%} ({without / plain:.2f})")
    assert with_statistics <= 0.6 * plain
    assert with_statistics < without < plain


@pytest.mark.parametrize("spectrum", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("rank", [1, 16, 64])
def test_it_is_never_worse_than_nf4_whatever_the_spectrum(spectrum, rank):
    generator = torch.Generator().manual_seed(1)
    weight = realistic_weight((256, 320), generator, spectrum)
    sizes = channel_sizes(320, generator)

    def expected_error(stored):
        return float(((stored.dense(torch.float32) - weight) * sizes).norm())

    ratio = expected_error(recovered(weight, rank, sizes)) / expected_error(Nf4Weight.quantized(weight))
    print(f"\nspectrum {spectrum}, rank {rank} of 256: {ratio:.2f} of NF4's error")
    assert ratio < 1.0


def test_more_rank_leaves_less_error(given):
    weight, rms, x = given
    errors = [output_error(weight, recovered(weight, rank, rms), x) for rank in (2, 8, 32, 128)]
    assert errors == sorted(errors, reverse=True)


def test_the_same_weight_gives_the_same_bits_whatever_was_drawn_before(given):
    weight, rms, _ = given
    first = recovered(weight, RANK, rms)
    torch.manual_seed(77)
    before = torch.get_rng_state()
    second = recovered(weight, RANK, rms)
    assert all(torch.equal(first.stored[name], second.stored[name]) for name in first.stored)
    assert torch.equal(before, torch.get_rng_state())


def test_the_leading_part_is_that_of_the_weighted_singular_value_decomposition():
    generator = torch.Generator().manual_seed(2)
    matrix = realistic_weight((96, 160), generator, 0.5)
    importance = channel_sizes(160, generator)
    found = (leading_part(matrix, 12, importance, torch.float32).matrix() - matrix) * importance
    left, sizes, right = torch.linalg.svd(matrix * importance, full_matrices=False)
    best = (left[:, :12] * sizes[:12]) @ right[:12] - matrix * importance
    assert float(found.norm() / best.norm()) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_products_leave_the_branch_out_and_the_dense_matrix_has_it(given, dtype):
    weight = recovered(given[0], RANK, given[1], dtype)
    down, up = weight.side_branch
    assert (down.shape, up.shape) == ((RANK, INPUTS), (OUTPUTS, RANK))
    assert down.dtype == up.dtype == dtype
    base = Nf4Weight((OUTPUTS, INPUTS), {name: weight.stored[name] for name in ("packed", "peaks")})
    x, grad = given[2][:5].to(dtype), torch.ones(5, OUTPUTS, dtype=dtype)
    assert torch.equal(weight.forward(x), base.forward(x))
    assert torch.equal(weight.input_gradient(grad), base.input_gradient(grad))
    whole = base.dense(torch.float32) + up.float() @ down.float()
    assert weight.dense(dtype).dtype == dtype
    torch.testing.assert_close(weight.dense(torch.float32), whole, atol=1e-5, rtol=1e-5)


def test_rows_keep_the_lower_half_whole_and_are_views(given):
    weight = recovered(given[0], RANK, given[1])
    rows = weight.rows(100, 228)
    assert isinstance(rows, RecoveredWeight)
    torch.testing.assert_close(rows.dense(torch.float32), weight.dense(torch.float32)[100:228])
    assert rows.stored["down"] is weight.stored["down"]
    assert rows.stored["up"].untyped_storage().data_ptr() == weight.stored["up"].untyped_storage().data_ptr()


def test_the_branch_travels_with_its_block(given):
    weight = recovered(given[0], RANK, given[1])
    before = weight.dense(torch.float32)
    block = PackedBlock([weight], pin=False)
    assert {place.name for place in block.layout} == {"packed", "peaks", "down", "up"}
    assert torch.equal(weight.dense(torch.float32), before)
    elsewhere = torch.zeros(block.byte_count, dtype=torch.uint8)
    elsewhere.copy_(block.host.data_N[: block.byte_count])
    block.bind(block.views(elsewhere))
    assert torch.equal(weight.dense(torch.float32), before)


def test_silent_channels_and_useless_statistics_do_no_harm(given):
    weight, rms, x = given
    silent = rms.clone()
    silent[:100] = 0.0
    plain = output_error(weight, Nf4Weight.quantized(weight), x)
    for statistics in (silent, torch.zeros(INPUTS), torch.full((INPUTS,), torch.nan)):
        assert output_error(weight, recovered(weight, RANK, statistics), x) < plain


def test_a_rank_beyond_the_weight_gives_all_there_is():
    weight = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    stored = recovered(weight, 64, dtype=torch.float32)
    assert stored.stored["down"].shape == (16, 64)
    torch.testing.assert_close(stored.dense(torch.float32), weight, atol=1e-4, rtol=1e-4)


def test_a_weight_of_zeros_stays_one():
    assert not recovered(torch.zeros(64, 64), 4).dense(torch.float32).any()


def test_a_width_that_does_not_divide_is_refused():
    with pytest.raises(Nf4WidthError):
        recovered(torch.ones(8, 96), 4)
