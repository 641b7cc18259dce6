import math
from copy import deepcopy
from functools import cache

import msgspec
import pytest
import torch
from peft import LoraConfig

from tests.jobs import small_job
from trainer.model.experts import Experts
from trainer.model.layouts import open_base
from trainer.model.load import expert_config, load_expert
from trainer.model.lora import (
    LoraFilterError,
    LoraSettings,
    LoraStateError,
    add_lora,
    load_lora_state,
    lora_disabled,
    lora_dropout,
    lora_parameters,
    lora_settings,
    lora_state,
    lora_strength,
    lora_target_shapes,
)
from trainer.output.lora_names import original_name
from trainer.protocol.job import Expert, MultistageSection, TargetSection

CPU = torch.device("cpu")
LAYERS = ["attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "attn2.to_q", "attn2.to_k"]
LAYERS += ["attn2.to_v", "attn2.to_out.0", "ffn.net.0.proj", "ffn.net.2"]


TYPES = ["lora", "dora", "lokr"]


@cache
def loaded(folder, dtype):
    return load_expert(open_base(str(folder)), Expert.HIGH, dtype, CPU)


def load_bare(folder, dtype=torch.float32):
    """A copy, made in a fraction of the time that loading takes."""
    return deepcopy(loaded(folder, dtype))


def expert_with_lora(folder, seed=0, dtype=torch.float32, **settings):
    expert = load_bare(folder, dtype)
    add_lora(expert, LoraSettings(**{"rank": 4, **settings}), seed)
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
    """As if trained: DoRA's magnitudes, which begin as those of the base, a tenth or so away from them."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in lora_state(transformer).items():
        drawn = torch.randn(tensor.shape, generator=generator) * 0.1
        state[name] = (
            tensor * (1 + drawn)
            if name.endswith("magnitude_vector")
            else drawn * (3 if "lokr" in name else 1)
        )
    return state


def effective_weight(layer):
    """The weight by which a layer acts, from what it makes of unit vectors; (O, I)."""
    with torch.no_grad():
        return (layer(torch.eye(layer.in_features)) - layer.get_base_layer().bias).T


def formula(weight, parts, scale, strength=1.0):
    """The weight that each type promises, written out."""
    if "lokr_w2_a" in parts:
        parts = {**parts, "lokr_w2": parts["lokr_w2_a"] @ parts["lokr_w2_b"]}
    if "lokr_w1" in parts:
        changed = weight + scale * torch.kron(parts["lokr_w1"], parts["lokr_w2"])
    else:
        changed = weight + scale * parts["lora_B"] @ parts["lora_A"]
    if "lora_magnitude_vector" in parts:
        changed = changed / changed.norm(dim=1, keepdim=True) * parts["lora_magnitude_vector"][:, None]
    return weight + strength * (changed - weight)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", TYPES)
def test_a_fresh_lora_of_any_type_changes_no_bit(miniature_folder, kind, dtype):
    bare = load_bare(miniature_folder, dtype)
    fresh = expert_with_lora(miniature_folder, type=kind, alpha=3.0, dtype=dtype)
    assert torch.equal(prediction(fresh), prediction(bare))
    assert {parameter.dtype for parameter in lora_parameters(fresh)} == {torch.float32}


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_learns_with_all_its_parts_within_two_steps(miniature_folder, kind):
    expert = expert_with_lora(miniature_folder, type=kind, rank=2)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 16, 1, 4, 4, generator=generator)
    text = torch.randn(1, 512, 64, generator=generator)
    before = lora_state(expert)
    optimizer = torch.optim.SGD(lora_parameters(expert), lr=1.0)
    for _ in range(2):
        experts = Experts({Expert.HIGH: expert}, 0.9)
        experts.predict(Expert.HIGH, latents, latents, torch.tensor([950.0]), text).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(not torch.equal(tensor, before[name]) for name, tensor in lora_state(expert).items())


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
@pytest.mark.parametrize("kind", TYPES)
def test_with_its_lora_disabled_an_expert_is_the_base_bit_for_bit(miniature_folder, kind, dtype):
    bare = load_bare(miniature_folder, dtype)
    expert = expert_with_lora(miniature_folder, type=kind, dtype=dtype)
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
    bare = load_bare(miniature_folder)
    with lora_disabled(bare):
        assert prediction(bare).isfinite().all()


@pytest.mark.parametrize(("rank", "alpha", "strength"), [(4, 4.0, 1.0), (4, 2.0, 1.0), (2, 3.0, 0.5)])
def test_the_lora_adds_b_times_a_times_alpha_over_rank_times_strength(
    miniature_folder, rank, alpha, strength
):
    merged = load_bare(miniature_folder)
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


@pytest.mark.parametrize("strength", [1.0, 0.5, -0.5])
@pytest.mark.parametrize(("kind", "rank"), [("lora", 2), ("dora", 2), ("lokr", 2), ("lokr", 8)])
def test_each_type_makes_the_weight_of_its_formula(miniature_folder, kind, rank, strength):
    expert = expert_with_lora(miniature_folder, type=kind, rank=rank, alpha=3.0)
    state = random_state(expert)
    load_lora_state(expert, state)
    with lora_strength(expert, strength):
        for path in ("blocks.0.attn1.to_q", "blocks.1.ffn.net.0.proj", "blocks.1.ffn.net.2"):
            layer = expert.get_submodule(path)
            parts = {
                name.removeprefix(f"{path}.").removesuffix(".weight"): tensor
                for name, tensor in state.items()
                if name.startswith(f"{path}.")
            }
            weight = layer.get_base_layer().weight
            expected = formula(weight, parts, 3.0 / rank, strength)
            assert (expected - weight).abs().max() > 0.005
            torch.testing.assert_close(effective_weight(layer), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", TYPES)
def test_at_strength_0_every_type_is_the_base_bit_for_bit(miniature_folder, kind):
    bare = load_bare(miniature_folder)
    expert = expert_with_lora(miniature_folder, type=kind)
    load_lora_state(expert, random_state(expert))
    with lora_strength(expert, 0.0):
        assert torch.equal(prediction(expert), prediction(bare))


@pytest.mark.parametrize("kind", TYPES)
def test_strengths_multiply_and_come_back(miniature_folder, kind):
    expert = expert_with_lora(miniature_folder, type=kind)
    load_lora_state(expert, random_state(expert))
    whole = prediction(expert)
    with lora_strength(expert, 0.25):
        quarter = prediction(expert)
    with lora_strength(expert, 0.5), lora_strength(expert, 0.5):
        assert torch.equal(prediction(expert), quarter)
    assert torch.equal(prediction(expert), whole)


@pytest.mark.parametrize("kind", TYPES)
def test_a_state_comes_back_bit_for_bit_and_is_a_copy(miniature_folder, kind):
    first, second = (expert_with_lora(miniature_folder, type=kind, seed=seed) for seed in (1, 2))
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


@pytest.mark.parametrize("kind", TYPES)
def test_each_type_begins_alike_for_a_seed_whatever_the_global_generator(miniature_folder, kind):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = lora_state(expert_with_lora(miniature_folder, type=kind, seed=7))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = lora_state(expert_with_lora(miniature_folder, type=kind, seed=7))
    other = lora_state(expert_with_lora(miniature_folder, type=kind, seed=8))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in first.items())


def trained_layers(expert):
    return {
        original_name(name.removesuffix(".lora_A.weight")) for name in lora_state(expert) if "lora_A" in name
    }


@pytest.mark.parametrize(
    ("only", "ignored", "kept"),
    [
        (("self_attn",), (), lambda name: "self_attn" in name),
        (("blocks.1.",), (), lambda name: name.startswith("blocks.1.")),
        ((), ("ffn",), lambda name: "ffn" not in name),
        (
            ("self_attn", "ffn.0"),
            ("blocks.0", ".q"),
            lambda name: (
                name[:9] == "blocks.1." and name[9:] in {"self_attn.k", "self_attn.v", "self_attn.o", "ffn.0"}
            ),
        ),
    ],
)
def test_filters_choose_layers_by_their_original_names(miniature_folder, only, ignored, kept):
    settings = LoraSettings(rank=2, only_if_contains=only, ignore_if_contains=ignored)
    config = expert_config(open_base(str(miniature_folder)), Expert.HIGH)
    every = {original_name(path) for path in lora_target_shapes(config)}
    shapes = lora_target_shapes(config, settings)
    assert {original_name(path) for path in shapes} == set(filter(kept, every))
    expert = expert_with_lora(miniature_folder, rank=2, only_if_contains=only, ignore_if_contains=ignored)
    assert trained_layers(expert) == set(filter(kept, every))
    assert all(lora_target_shapes(config)[path] == shape for path, shape in shapes.items())
    kron = expert_with_lora(miniature_folder, type="lokr", only_if_contains=only, ignore_if_contains=ignored)
    assert {name.rsplit(".", 1)[0] for name in lora_state(kron)} == set(shapes)


def test_the_block_filter_with_its_dot_takes_one_block_of_forty():
    config = {
        "num_layers": 40,
        "num_attention_heads": 1,
        "attention_head_dim": 12,
        "ffn_dim": 16,
        "in_channels": 36,
    }
    settings = LoraSettings(rank=1, only_if_contains=("blocks.3.",))
    assert {path.split(".")[1] for path in lora_target_shapes(config, settings)} == {"3"}


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"only_if_contains": ("self_attn", "attn1")}, 'only_if_contains: no layer\'s name contains "attn1"'),
        ({"ignore_if_contains": ("blocks.7.",)}, 'ignore_if_contains: no layer\'s name contains "blocks.7."'),
        ({"ignore_if_contains": ("",)}, 'contains ""'),
        ({"only_if_contains": ("ffn",), "ignore_if_contains": ("blocks",)}, "leave no layer"),
    ],
)
def test_a_filter_that_does_nothing_or_leaves_nothing_is_named_with_names_that_exist(
    miniature_folder, fields, problem
):
    with pytest.raises(LoraFilterError, match=problem) as caught:
        expert_with_lora(miniature_folder, **fields)
    assert "blocks.0.self_attn.q" in caught.value.hint
    with pytest.raises(LoraFilterError, match=problem):
        lora_target_shapes(
            expert_config(open_base(str(miniature_folder)), Expert.LOW), LoraSettings(rank=2, **fields)
        )


def set_to_identity(layer):
    """Make the layer's change of the weight the identity."""
    with torch.no_grad():
        if hasattr(layer, "lokr_w1"):
            for factor in (layer.lokr_w1["default"], layer.lokr_w2["default"]):
                factor.copy_(torch.eye(len(factor)))
        else:
            layer.lora_A["default"].weight.copy_(torch.eye(64))
            layer.lora_B["default"].weight.copy_(torch.eye(64))


@pytest.mark.parametrize("kind", ["lora", "lokr"])
def test_dropout_drops_its_share_of_the_inputs_and_scales_the_rest(miniature_folder, kind):
    expert = expert_with_lora(miniature_folder, type=kind, rank=64, dropout=0.3)
    layer = expert.get_submodule("blocks.0.attn1.to_q")
    set_to_identity(layer)
    x = torch.ones(500, 64)
    with torch.no_grad(), lora_dropout(expert, 1):
        added = layer(x) - layer.get_base_layer()(x)
    kept = added.abs() > 0.5
    assert kept.float().mean() == pytest.approx(0.7, abs=0.01)
    assert torch.allclose(added[kept], torch.tensor(1 / 0.7), atol=1e-5)
    assert added[~kept].abs().max() < 1e-5


@pytest.mark.parametrize("kind", TYPES)
def test_dropout_is_a_function_of_its_seed_and_ends_with_its_context(miniature_folder, kind):
    expert = expert_with_lora(miniature_folder, type=kind, dropout=0.5)
    without = expert_with_lora(miniature_folder, type=kind)
    for one in (expert, without):
        load_lora_state(one, random_state(one))
    plain = prediction(without)
    assert torch.equal(prediction(expert), plain)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with lora_dropout(expert, 1):
        first = prediction(expert)
        with lora_disabled(expert):
            assert torch.equal(prediction(expert), prediction(load_bare(miniature_folder)))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    with lora_dropout(expert, 1):
        assert torch.equal(prediction(expert), first)
    with lora_dropout(expert, 2):
        assert not torch.equal(prediction(expert), first)
    assert not torch.equal(first, plain)
    assert torch.equal(prediction(expert), plain)
    with lora_dropout(without, 1):
        assert torch.equal(prediction(without), plain)


@pytest.mark.parametrize("kind", TYPES)
def test_checkpointed_gradients_see_the_same_dropout(miniature_folder, kind):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 16, 2, 4, 4, generator=generator)
    text = torch.randn(1, 512, 64, generator=generator)
    found = []
    for checkpointing in (False, True):
        expert = expert_with_lora(miniature_folder, type=kind, dropout=0.5)
        load_lora_state(expert, random_state(expert))
        experts = Experts({Expert.HIGH: expert}, 0.9, gradient_checkpointing=checkpointing)
        with lora_dropout(expert, 4):
            out = experts.predict(Expert.HIGH, latents, latents, torch.tensor([950.0]), text)
            out.square().mean().backward()
        found.append([parameter.grad for parameter in lora_parameters(expert)])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
        assert one.abs().max() > 0


def test_an_expert_takes_its_settings_from_target_and_its_own_rank(tmp_path, miniature_folder):
    job = small_job(tmp_path, miniature_folder)
    target = TargetSection(
        type="dora", rank=8, dropout=0.1, only_if_contains=("ffn",), ignore_if_contains=("ffn.2",)
    )
    job = msgspec.structs.replace(job, target=target, multistage=MultistageSection(low_rank=2))
    high, low = (lora_settings(job, expert) for expert in Expert)
    assert high == LoraSettings(8, None, "dora", 0.1, ("ffn",), ("ffn.2",))
    assert (low.rank, low.trained_alpha) == (2, 2.0)
    assert (
        lora_settings(
            msgspec.structs.replace(job, target=TargetSection(rank=8, alpha=3.0)), Expert.LOW
        ).trained_alpha
        == 3.0
    )
