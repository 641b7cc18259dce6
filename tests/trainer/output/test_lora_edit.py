"""Edits work on the factors; here they are compared with the full matrices."""

from pathlib import Path

import pytest
import torch

from trainer.output.lora_edit import (
    Factors,
    LoraEditError,
    change_norm,
    change_norms,
    changed_shapes,
    is_plain,
    layers_of,
    merged,
    padded,
    rank_in,
    resized,
    scaled,
    scaled_state,
    state_of,
)
from trainer.output.lora_file import LoraFileError

SHAPES = {
    "blocks.0.attn1.to_q": (20, 20),
    "blocks.0.ffn.net.0.proj": (50, 20),
    "blocks.1.ffn.net.2": (20, 50),
}
PATH = Path("l.safetensors")


def lora(rank=6, seed=0, modules=tuple(SHAPES)):
    generator = torch.Generator().manual_seed(seed)
    return {
        module: Factors(
            torch.randn(rank, SHAPES[module][1], generator=generator),
            torch.randn(SHAPES[module][0], rank, generator=generator),
        )
        for module in modules
    }


def full(factors):
    return factors.up.double() @ factors.down.double()


def assert_changes(layers, expected, tolerance=1e-5):
    assert layers.keys() == expected.keys()
    for module, matrix in expected.items():
        assert torch.allclose(
            full(layers[module]), matrix, rtol=0, atol=tolerance * float(matrix.abs().max())
        )


@pytest.mark.parametrize("strength", [0.5, 2.0, -1.5])
def test_scaling_multiplies_the_full_matrix_and_leaves_the_halves_alike(strength):
    layers = lora()
    result = scaled(layers, strength)
    assert_changes(result, {module: strength * full(factors) for module, factors in layers.items()})
    for module, factors in result.items():
        grown = [
            float(getattr(factors, half).norm() / getattr(layers[module], half).norm())
            for half in ("down", "up")
        ]
        assert grown == pytest.approx([abs(strength) ** 0.5] * 2)


def test_a_strength_of_one_changes_no_bit():
    layers = lora()
    result = scaled(layers, 1.0)
    assert all(torch.equal(result[module].down, layers[module].down) for module in layers)
    assert all(torch.equal(result[module].up, layers[module].up) for module in layers)


@pytest.mark.parametrize("strength", [0.0, float("nan"), float("inf")])
def test_a_strength_that_leaves_nothing_is_refused(strength):
    with pytest.raises(LoraEditError, match="strength"):
        scaled(lora(), strength)


def test_a_merged_lora_is_the_exact_sum_at_the_ranks_sum():
    first, second = lora(6, 0), lora(3, 1)
    result = merged(scaled(first, 0.7), scaled(second, -0.4))
    assert_changes(
        result, {module: 0.7 * full(first[module]) - 0.4 * full(second[module]) for module in SHAPES}
    )
    assert {factors.rank for factors in result.values()} == {9}


def test_a_layer_that_only_one_has_is_that_ones():
    first, second = lora(6, 0, tuple(SHAPES)[:2]), lora(3, 1, tuple(SHAPES)[1:])
    result = merged(first, second)
    a, b, c = SHAPES
    assert_changes(result, {a: full(first[a]), b: full(first[b]) + full(second[b]), c: full(second[c])})
    assert {factors.rank for factors in result.values()} == {9}


def test_loras_of_different_models_are_not_merged():
    other = {"blocks.0.attn1.to_q": Factors(torch.ones(1, 24), torch.ones(24, 1))}
    with pytest.raises(LoraEditError, match=r"blocks\.0\.attn1\.to_q.*\(20, 20\).*\(24, 24\)"):
        merged(lora(), other)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_a_smaller_rank_keeps_the_largest_singular_values_of_the_full_matrix(rank):
    layers = lora()
    result, errors = resized(layers, rank)
    for module, factors in layers.items():
        matrix = full(factors)
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        best = (left[:, :rank] * values[:rank]) @ right[:rank]
        assert result[module].rank == rank
        assert torch.allclose(full(result[module]), best, atol=1e-5 * float(values[0]))
        expected = float((matrix - best).norm() / matrix.norm())
        assert errors[module] == pytest.approx(expected, rel=1e-9)
        assert expected > 0.1


@pytest.mark.parametrize("rank", [6, 10])
def test_a_rank_that_is_enough_loses_nothing(rank):
    layers = lora()
    result, errors = resized(layers, rank)
    assert set(errors.values()) == {0.0}
    for module, factors in result.items():
        assert factors.rank == rank
        assert torch.equal(full(factors), full(layers[module]))


def test_a_rank_that_was_too_large_is_found_again():
    layers = lora(2)
    wide = merged(layers, layers)
    result, errors = resized(wide, 2)
    assert_changes(result, {module: 2 * full(factors) for module, factors in layers.items()})
    assert max(errors.values()) < 1e-7


def test_a_rank_above_a_layers_width_and_a_layer_without_effect_are_no_problem():
    small = Factors(torch.randn(8, 4), torch.randn(3, 8))
    nothing = Factors(torch.randn(8, 4), torch.zeros(3, 8))
    result, errors = resized({"a": small, "b": nothing}, 5)
    assert {factors.rank for factors in result.values()} == {5}
    assert torch.allclose(full(result["a"]), full(small), atol=1e-5)
    assert errors == {"a": pytest.approx(0.0, abs=1e-12), "b": 0.0}
    assert not full(result["b"]).any()


def test_a_rank_of_nothing_is_refused():
    with pytest.raises(LoraEditError, match="rank 0"):
        resized(lora(), 0)


def test_padding_brings_all_layers_to_one_rank():
    layers = {**lora(6), "blocks.0.attn1.to_q": lora(2)["blocks.0.attn1.to_q"]}
    result = padded(layers)
    assert {factors.rank for factors in result.values()} == {6}
    assert_changes(result, {module: full(factors) for module, factors in layers.items()}, 0.0)


def test_the_norm_is_that_of_the_full_matrix():
    for factors in lora().values():
        assert change_norm(factors) == pytest.approx(float(full(factors).norm()), rel=1e-12)
    assert change_norm(Factors(torch.ones(2, 3), torch.zeros(3, 2))) == 0.0


def test_states_turn_into_layers_and_back():
    state = state_of(lora())
    assert sorted(state) == sorted(f"{module}.lora_{half}.weight" for module in SHAPES for half in "AB")
    again = state_of(layers_of(PATH, state))
    assert all(torch.equal(again[key], tensor) for key, tensor in state.items())


@pytest.mark.parametrize(
    ("key", "tensor", "words"),
    [
        ("blocks.0.attn1.to_q.lora_B.weight", None, "one half"),
        ("blocks.0.attn1.to_q.lora_B.weight", torch.ones(20, 5), "do not fit"),
        ("blocks.0.attn1.to_q.lora_B.weight", torch.ones(20), "do not fit"),
        ("blocks.0.attn1.to_q.lora_magnitude_vector", torch.ones(20), "plain LoRA"),
    ],
)
def test_a_state_that_is_no_plain_lora_is_refused_by_file_and_layer(key, tensor, words):
    state = state_of(lora())
    if tensor is None:
        del state[key]
    else:
        state[key] = tensor
    with pytest.raises(LoraFileError, match=words) as caught:
        layers_of(PATH, state)
    assert "l.safetensors" in caught.value.message
    assert "blocks.0.attn1.to_q" in caught.value.message


def lokr_state():
    """A layer with both factors whole, and one with the second split."""
    first, second = "blocks.0.attn1.to_q", "blocks.0.ffn.net.0.proj"
    generator = torch.Generator().manual_seed(3)
    return {
        f"{first}.lokr_w1": torch.randn(4, 5, generator=generator),
        f"{first}.lokr_w2": torch.randn(5, 4, generator=generator),
        f"{second}.lokr_w1_a": torch.randn(5, 2, generator=generator),
        f"{second}.lokr_w1_b": torch.randn(2, 4, generator=generator),
        f"{second}.lokr_w2_a": torch.randn(10, 3, generator=generator),
        f"{second}.lokr_w2_b": torch.randn(3, 5, generator=generator),
    }


def lokr_changes(state):
    first, second = "blocks.0.attn1.to_q", "blocks.0.ffn.net.0.proj"
    split = [
        state[f"{second}.lokr_{w}_a"].double() @ state[f"{second}.lokr_{w}_b"].double() for w in ("w1", "w2")
    ]
    whole = [state[f"{first}.lokr_{w}"].double() for w in ("w1", "w2")]
    return {first: torch.kron(*whole), second: torch.kron(*split)}


def test_a_lokr_is_measured_and_scaled_as_its_full_matrix():
    state = lokr_state()
    expected = lokr_changes(state)
    assert changed_shapes(state) == {module: tuple(matrix.shape) for module, matrix in expected.items()}
    assert rank_in(state) == 3
    assert not is_plain(state)
    norms = change_norms(state)
    assert norms == {module: pytest.approx(float(matrix.norm())) for module, matrix in expected.items()}
    result = lokr_changes(scaled_state(PATH, state, -0.5))
    assert all(torch.allclose(result[module], -0.5 * matrix) for module, matrix in expected.items())
    with pytest.raises(LoraFileError, match="plain LoRA"):
        layers_of(PATH, state)


def test_a_dora_is_scaled_only_by_one_and_has_no_norm_of_its_own():
    state = {**state_of(lora()), "blocks.0.attn1.to_q.dora_scale": torch.ones(20, 1)}
    same = scaled_state(PATH, state, 1.0)
    assert same.keys() == state.keys()
    assert all(torch.equal(same[key], tensor) for key, tensor in state.items())
    with pytest.raises(LoraFileError, match="dora_scale"):
        scaled_state(PATH, state, 0.5)
    assert "blocks.0.attn1.to_q" not in change_norms(state)
    assert changed_shapes(state) == SHAPES


def test_a_plain_state_is_measured_and_scaled_as_its_layers():
    state = state_of(lora())
    assert is_plain(state)
    assert changed_shapes(state) == SHAPES
    assert rank_in(state) == 6
    assert_changes(
        layers_of(PATH, scaled_state(PATH, state, 3.0)), {m: 3 * full(f) for m, f in lora().items()}
    )
    assert change_norms(state) == {module: change_norm(factors) for module, factors in lora().items()}
