"""The RMS of input channels: what it is, and what a file of it may be used for."""

import pytest
import torch

from trainer.model.frozen.statistics import InputStatistics


def gathered(fingerprint="clips of today"):
    statistics = InputStatistics(fingerprint)
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(2, 5, 12, generator=generator), torch.randn(7, 12, generator=generator) * 4]
    for part in parts:
        statistics.add("0.attn1.qkv", part)
    statistics.add("0.ffn.up", torch.ones(3, 4, dtype=torch.bfloat16) * 2)
    return statistics, torch.cat([part.flatten(0, -2) for part in parts])


def test_it_is_the_rms_over_all_tokens_of_all_calls():
    statistics, x = gathered()
    assert statistics.names == ["0.attn1.qkv", "0.ffn.up"]
    torch.testing.assert_close(statistics.rms("0.attn1.qkv"), x.square().mean(0).sqrt())
    assert statistics.rms("0.ffn.up").tolist() == [2.0] * 4
    assert statistics.rms("0.ffn.up").dtype == torch.float32
    assert statistics.rms("of nothing") is None


def test_inputs_that_are_not_finite_are_as_if_nothing_was_gathered():
    statistics, _ = gathered()
    statistics.add("0.ffn.up", torch.tensor([[1.0, torch.inf, 1.0, 1.0]]))
    assert statistics.rms("0.ffn.up") is None
    assert statistics.rms("0.attn1.qkv") is not None


def test_loud_tokens_do_not_drown_the_many_that_follow():
    statistics = InputStatistics("")
    statistics.add("x", torch.full((100, 2), 1000.0))
    for _ in range(2000):
        statistics.add("x", torch.full((1, 2), 1.5))
    expected = ((100 * 1000.0**2 + 2000 * 1.5**2) / 2100) ** 0.5
    assert statistics.rms("x").tolist() == pytest.approx([expected] * 2, rel=1e-6)


def test_a_pass_that_is_differentiated_is_left_alone():
    statistics = InputStatistics("")
    x = torch.ones(2, 3, requires_grad=True)
    statistics.add("x", x)
    assert not statistics.rms("x").requires_grad


def test_what_is_saved_comes_back_and_goes_on(tmp_path):
    statistics, _ = gathered()
    path = tmp_path / "statistics.safetensors"
    statistics.save(path)
    loaded = InputStatistics.load(path, "clips of today")
    assert loaded is not None
    assert loaded.names == statistics.names
    more = torch.ones(4, 12)
    for one in (statistics, loaded):
        one.add("0.attn1.qkv", more)
    assert torch.equal(loaded.rms("0.attn1.qkv"), statistics.rms("0.attn1.qkv"))


def test_a_file_of_other_clips_or_none_or_damage_is_no_statistics(tmp_path):
    path = tmp_path / "statistics.safetensors"
    assert InputStatistics.load(path, "clips of today") is None
    gathered()[0].save(path)
    assert InputStatistics.load(path, "clips of tomorrow") is None
    path.write_bytes(path.read_bytes()[:-9])
    assert InputStatistics.load(path, "clips of today") is None
    path.write_bytes(b"not this")
    assert InputStatistics.load(path, "clips of today") is None
