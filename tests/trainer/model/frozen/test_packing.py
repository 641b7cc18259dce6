import pytest
import torch

from trainer.model.frozen.packing import ALIGNMENT_BYTES, PackedBlock
from trainer.model.frozen.weights import DenseWeight, Float8Weight

X = torch.randn(5, 24, generator=torch.Generator().manual_seed(1))


def some_weights():
    generator = torch.Generator().manual_seed(0)
    first, second, third = (torch.randn(rows, 24, generator=generator) for rows in (7, 16, 3))
    return [DenseWeight(first), Float8Weight.quantized(second), DenseWeight(third.bfloat16())]


def outputs(weights):
    return [weight.forward(X.to(weight.dense(torch.float32).dtype)).float() for weight in weights[:2]]


def test_packed_weights_compute_what_they_did_before():
    weights = some_weights()
    before = outputs(weights)
    PackedBlock(weights, pin=False)
    assert all(torch.equal(one, other) for one, other in zip(outputs(weights), before, strict=True))


def test_a_block_lies_in_one_piece_each_tensor_aligned_and_none_over_another():
    weights = some_weights()
    block = PackedBlock(weights, pin=False)
    names = [(place.weight_index, place.name) for place in block.layout]
    assert names == [(0, "weight"), (1, "values"), (1, "scale"), (2, "weight")]
    assert all(place.offset_bytes % ALIGNMENT_BYTES == 0 for place in block.layout)
    for place, after in zip(block.layout, block.layout[1:], strict=False):
        assert place.offset_bytes + place.byte_count <= after.offset_bytes
    assert block.byte_count == block.layout[-1].offset_bytes + 3 * 24 * 2
    memories = {one.untyped_storage().data_ptr() for weight in weights for one in weight.stored.values()}
    assert memories == {block.host.data_N.untyped_storage().data_ptr()}


def test_former_memory_is_left_alone():
    weight = torch.ones(4, 24)
    frozen = DenseWeight(weight)
    PackedBlock([frozen], pin=False)
    weight.zero_()
    assert frozen.dense(torch.float32).sum() == 4 * 24


def test_a_tensor_with_gaps_is_packed_without_them():
    wide = torch.randn(4, 48)
    frozen = DenseWeight(wide[:, ::2])
    PackedBlock([frozen], pin=False)
    assert frozen.stored["weight"].is_contiguous()
    assert torch.equal(frozen.stored["weight"], wide[:, ::2])


def test_a_block_computes_from_any_buffer_with_its_content_and_from_ram_again():
    weights = some_weights()
    block = PackedBlock(weights, pin=False)
    before = outputs(weights)
    buffer = torch.zeros(block.byte_count + 100, dtype=torch.uint8)
    buffer[: block.byte_count] = block.host.data_N
    block.bind(block.views(buffer))
    assert all(torch.equal(one, other) for one, other in zip(outputs(weights), before, strict=True))
    buffer.zero_()
    assert not outputs(weights)[0].any(), "still computing from elsewhere"
    block.bind_to_ram()
    assert all(torch.equal(one, other) for one, other in zip(outputs(weights), before, strict=True))


@pytest.mark.parametrize(
    "buffer", [torch.zeros(100, dtype=torch.uint8), torch.zeros(100_000, dtype=torch.float32)]
)
def test_a_buffer_that_is_too_short_or_not_of_bytes_is_refused(buffer):
    block = PackedBlock(some_weights(), pin=False)
    with pytest.raises(ValueError, match="does not fit"):
        block.views(buffer)
