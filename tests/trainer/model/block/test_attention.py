"""Attention and its gradient, kept apart."""

import pytest
import torch

from trainer.model.block import attention
from trainer.model.block.attention import attend, attend_gradient, fastest_kernel


@pytest.mark.parametrize("keys", [5, 9])
def test_output_and_gradients_are_those_of_softmax_written_out(keys):
    generator = torch.Generator().manual_seed(0)

    def drawn(count):
        return torch.randn(2, count, 3, 8, generator=generator, dtype=torch.float64)

    query, key, value, grad = drawn(5), drawn(keys), drawn(keys), drawn(5)

    def written_out(query, key, value):
        scores = torch.einsum("blhd,bshd->bhls", query, key) / 8**0.5
        return torch.einsum("bhls,bshd->blhd", scores.softmax(-1), value)

    attended = attend(query, key, value)
    torch.testing.assert_close(attended.out_BLhd, written_out(query, key, value))
    wanted = torch.func.vjp(written_out, query, key, value)[1](grad)
    for given, expected in zip(attend_gradient(grad, query, key, value, attended), wanted, strict=True):
        torch.testing.assert_close(given, expected)


def test_it_reads_heads_out_of_wider_tensors_without_a_copy():
    qkv = torch.randn(2, 5, 3 * 16, generator=torch.Generator().manual_seed(0))
    cut = [one.unflatten(-1, (2, 8)) for one in qkv.chunk(3, -1)]
    whole = [one.contiguous() for one in cut]
    assert not cut[0].is_contiguous()
    torch.testing.assert_close(attend(*cut).out_BLhd, attend(*whole).out_BLhd)


def test_a_cpu_and_wide_numbers_take_the_plain_kernel():
    assert fastest_kernel(torch.ones(1, 4, 2, 8)) == "plain"
    assert fastest_kernel(torch.ones(1, 4, 2, 8, dtype=torch.bfloat16)) == "plain"


def test_a_kernel_that_fails_or_is_wrong_is_passed_over(monkeypatch):
    like = torch.randn(1, 256, 2, 8)

    def failing(*_):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(attention, "attend", failing)
    assert not attention._works("cudnn", like)
    monkeypatch.undo()

    def wrong(query, key, value, kernel=None):
        found = attend(query, key, value, "plain")
        return found if kernel == "plain" else found._replace(out_BLhd=found.out_BLhd + 1)

    monkeypatch.setattr(attention, "attend", wrong)
    monkeypatch.setattr(attention, "attend_gradient", lambda *_: (torch.ones(1),) * 3)
    assert not attention._works("cudnn", like)


def test_the_backward_pass_uses_the_kernel_of_the_forward_pass(monkeypatch):
    query = torch.randn(1, 4, 2, 8)
    attended = attend(query, query, query)
    monkeypatch.setattr(attention, "fastest_kernel", lambda like: pytest.fail("asked again"))
    assert attended.kernel == "plain"
    assert attended.saved == ()
    attend_gradient(query, query, query, query, attended)
