import math

import pytest
import torch
from peft import LoraConfig

from trainer.model.experts import Experts
from trainer.model.layouts import open_base
from trainer.model.load import expert_config, load_expert
from trainer.model.lora import (
    LoraStateError,
    add_lora,
    load_lora_state,
    lora_disabled,
    lora_parameters,
    lora_state,
    lora_strength,
    lora_target_shapes,
)
from trainer.protocol.job import Expert

CPU = torch.device("cpu")
LAYERS = ["attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "attn2.to_q", "attn2.to_k"]
LAYERS += ["attn2.to_v", "attn2.to_out.0", "ffn.net.0.proj", "ffn.net.2"]


def expert_with_lora(folder, rank=4, alpha=4.0, seed=0, dtype=torch.float32):
    expert = load_expert(open_base(str(folder)), Expert.HIGH, dtype, CPU)
    add_lora(expert, rank, alpha, seed)
    return expert


def prediction(transformer, seed=0):
    """Bit-exact probe of the whole transformer."""
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(1, 16, 2, 4, 4, generator=generator)
    text = torch.randn(1, 512, 64, generator=generator)
    experts = Experts({Expert.HIGH: transformer}, 0.9)
    with torch.no_grad():
        return experts.predict(Expert.HIGH, latents, latents, torch.tensor([950.0]), text)


def random_state(transformer, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(tensor.shape, generator=generator) * 0.1
        for name, tensor in lora_state(transformer).items()
    }


def test_every_block_has_a_lora_on_its_ten_linears_and_nowhere_else(miniature_folder):
    expert = expert_with_lora(miniature_folder)
    expected = {
        f"blocks.{block}.{layer}.{half}.weight"
        for block in range(2)
        for layer in LAYERS
        for half in ("lora_A", "lora_B")
    }
    assert lora_state(expert).keys() == expected


def test_only_the_lora_trains_and_it_is_float32_whatever_the_base(miniature_folder):
    expert = expert_with_lora(miniature_folder, dtype=torch.bfloat16)
    trained = [parameter for parameter in expert.parameters() if parameter.requires_grad]
    assert {id(parameter) for parameter in trained} == {id(one) for one in lora_parameters(expert)}
    assert len(trained) == 40
    assert {parameter.dtype for parameter in trained} == {torch.float32}
    assert expert.blocks[0].attn1.to_q.base_layer.weight.dtype == torch.bfloat16
    assert expert.blocks[0].scale_shift_table.dtype == torch.float32


def test_a_fresh_lora_changes_nothing(miniature_folder):
    bare = load_expert(open_base(str(miniature_folder)), Expert.HIGH, torch.float32, CPU)
    assert torch.equal(prediction(expert_with_lora(miniature_folder)), prediction(bare))


def test_the_seed_alone_decides_how_a_lora_begins(miniature_folder):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = lora_state(expert_with_lora(miniature_folder, seed=7))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = lora_state(expert_with_lora(miniature_folder, seed=7))
    in_bfloat16 = lora_state(expert_with_lora(miniature_folder, seed=7, dtype=torch.bfloat16))
    other = lora_state(expert_with_lora(miniature_folder, seed=8))
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name])
        assert torch.equal(tensor, in_bfloat16[name])
        assert torch.equal(tensor, other[name]) == name.endswith("lora_B.weight")


def test_a_begins_kaiming_uniform_and_b_at_zero(miniature_folder):
    state = lora_state(expert_with_lora(miniature_folder, rank=32))
    for name, tensor in state.items():
        if name.endswith("lora_B.weight"):
            assert tensor.abs().max() == 0
        else:
            bound = 1 / math.sqrt(tensor.shape[1])
            assert 0.95 * bound < tensor.abs().max() <= bound
            assert tensor.std() == pytest.approx(bound / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_with_its_lora_disabled_an_expert_is_the_base_bit_for_bit(miniature_folder, dtype):
    bare = load_expert(open_base(str(miniature_folder)), Expert.HIGH, dtype, CPU)
    expert = expert_with_lora(miniature_folder, dtype=dtype)
    load_lora_state(expert, random_state(expert))
    with_lora = prediction(expert)
    with lora_disabled(expert):
        assert torch.equal(prediction(expert), prediction(bare))
    assert torch.equal(prediction(expert), with_lora)
    assert not torch.equal(with_lora, prediction(bare))


def test_disabling_gives_back_what_trained_even_after_an_error(miniature_folder):
    expert = expert_with_lora(miniature_folder)
    lora_parameters(expert)[3].requires_grad_(False)
    with pytest.raises(RuntimeError, match="interrupted"), lora_disabled(expert):
        raise RuntimeError("interrupted")
    flags = [parameter.requires_grad for parameter in lora_parameters(expert)]
    assert flags == [index != 3 for index in range(40)]
    load_lora_state(expert, random_state(expert))
    assert not torch.equal(prediction(expert), prediction(expert_with_lora(miniature_folder)))


def test_disabling_inside_disabling_stays_disabled(miniature_folder):
    expert = expert_with_lora(miniature_folder)
    base = prediction(expert)
    load_lora_state(expert, random_state(expert))
    with lora_disabled(expert):
        with lora_disabled(expert):
            pass
        assert torch.equal(prediction(expert), base)


def test_disabling_leaves_a_bare_transformer_as_it_is(miniature_folder):
    bare = load_expert(open_base(str(miniature_folder)), Expert.HIGH, torch.float32, CPU)
    with lora_disabled(bare):
        assert prediction(bare).isfinite().all()


@pytest.mark.parametrize(("rank", "alpha", "strength"), [(4, 4.0, 1.0), (4, 2.0, 1.0), (2, 3.0, 0.5)])
def test_the_lora_adds_b_times_a_times_alpha_over_rank_times_strength(
    miniature_folder, rank, alpha, strength
):
    merged = load_expert(open_base(str(miniature_folder)), Expert.HIGH, torch.float32, CPU)
    expert = expert_with_lora(miniature_folder, rank=rank, alpha=alpha)
    state = random_state(expert)
    load_lora_state(expert, state)
    with torch.no_grad():
        for name in state:
            if name.endswith("lora_A.weight"):
                path = name.removesuffix(".lora_A.weight")
                delta = state[f"{path}.lora_B.weight"] @ state[name]
                merged.get_submodule(path).weight += delta * alpha / rank * strength
    with lora_strength(expert, strength):
        assert torch.allclose(prediction(expert), prediction(merged), atol=2e-5)


def test_strengths_multiply_and_come_back(miniature_folder):
    expert = expert_with_lora(miniature_folder)
    load_lora_state(expert, random_state(expert))
    whole = prediction(expert)
    with lora_strength(expert, 0.25):
        quarter = prediction(expert)
    with lora_strength(expert, 0.5), lora_strength(expert, 0.5):
        assert torch.equal(prediction(expert), quarter)
    assert torch.equal(prediction(expert), whole)


def test_a_state_comes_back_bit_for_bit_and_is_a_copy(miniature_folder):
    first, second = (expert_with_lora(miniature_folder, seed=seed) for seed in (1, 2))
    wanted = random_state(first)
    load_lora_state(first, wanted)
    state = lora_state(first)
    load_lora_state(second, state)
    assert all(torch.equal(state[name], wanted[name]) for name in wanted)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in lora_state(second).items())
    with torch.no_grad():
        lora_parameters(first)[0].zero_()
    assert torch.equal(next(iter(state.values())), next(iter(wanted.values())))
    assert torch.equal(prediction(second), prediction(second))


def test_parameters_keep_their_identity_when_a_state_is_loaded(miniature_folder):
    expert = expert_with_lora(miniature_folder)
    before = lora_parameters(expert)
    load_lora_state(expert, random_state(expert))
    assert all(one is other for one, other in zip(before, lora_parameters(expert), strict=True))
    assert all(parameter.requires_grad for parameter in before)


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(miniature_folder):
    expert = expert_with_lora(miniature_folder)
    before = lora_state(expert)
    name = "blocks.1.ffn.net.2.lora_B.weight"
    missing = random_state(expert)
    del missing[name]
    for state, problem in [
        (missing, rf"1 weights are missing, first {name}"),
        (random_state(expert) | {"blocks.9.attn1.to_q.lora_A.weight": torch.zeros(1)}, r"unknown.*blocks\.9"),
        (random_state(expert) | {name: torch.zeros(64, 8)}, r"\(64, 8\) instead of \(64, 4\)"),
    ]:
        with pytest.raises(LoraStateError, match=problem):
            load_lora_state(expert, state)
    assert all(torch.equal(tensor, before[key]) for key, tensor in lora_state(expert).items())


def test_target_shapes_are_those_of_the_loaded_expert(miniature_folder):
    base = open_base(str(miniature_folder))
    shapes = lora_target_shapes(expert_config(base, Expert.HIGH))
    expert = load_expert(base, Expert.HIGH, torch.float32, CPU)
    assert shapes == {
        f"blocks.{block}.{layer}": tuple(expert.get_submodule(f"blocks.{block}.{layer}").weight.shape)
        for block in range(2)
        for layer in LAYERS
    }


def test_the_real_model_has_four_hundred_targets():
    config = {
        "in_channels": 36,
        "out_channels": 16,
        "num_layers": 40,
        "num_attention_heads": 40,
        "attention_head_dim": 128,
        "ffn_dim": 13824,
        "text_dim": 4096,
    }
    shapes = lora_target_shapes(config)
    assert len(shapes) == 400
    assert shapes["blocks.39.ffn.net.0.proj"] == (13824, 5120)
    assert shapes["blocks.0.attn2.to_k"] == (5120, 5120)
    assert sum(rows + columns for rows, columns in shapes.values()) == 4_792_320


def test_a_config_of_no_transformer_is_refused_in_words():
    with pytest.raises(LoraStateError, match="makes no transformer"):
        lora_target_shapes({"num_layers": "many"})


def test_another_adapter_in_the_model_is_left_alone(miniature_folder):
    expert = expert_with_lora(miniature_folder)
    expert.add_adapter(LoraConfig(r=2, target_modules=["to_q"]), "speed")
    assert all(tensor.shape != (2, 64) for tensor in lora_state(expert).values())
    assert len(lora_parameters(expert)) == 40
