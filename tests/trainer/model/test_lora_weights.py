"""States with all that files need, and a LoRA that starts from a file's state."""

from copy import deepcopy

import pytest
import torch

from trainer.model.layouts import open_base
from trainer.model.load import base_weights, load_expert
from trainer.model.lora import (
    LoraSettings,
    LoraStateError,
    add_lora,
    complete_dora,
    load_lora_state,
    lora_file_state,
    lora_parameters,
    lora_state,
    start_from,
)
from trainer.protocol.job import Expert

PATH = "blocks.1.ffn.net.0.proj"


@pytest.fixture(scope="module")
def bare(miniature_folder):
    return load_expert(open_base(str(miniature_folder)), Expert.HIGH, torch.float32, torch.device("cpu"))


@pytest.fixture
def make(bare):
    def make(seed=0, **settings):
        expert = deepcopy(bare)
        add_lora(expert, LoraSettings(**{"rank": 4, **settings}), seed)
        return expert

    return make


def train_a_little(expert, seed=3):
    generator = torch.Generator().manual_seed(seed)
    state = {
        name: tensor + torch.randn(tensor.shape, generator=generator) * 0.05
        for name, tensor in lora_state(expert).items()
    }
    load_lora_state(expert, state)
    return state


def ones(expert):
    return {name: torch.ones_like(tensor) for name, tensor in lora_state(expert).items()}


def test_parameters_keep_their_identity_when_a_state_is_loaded(make):
    expert = make()
    before = lora_parameters(expert)
    load_lora_state(expert, ones(expert))
    assert all(one is other for one, other in zip(before, lora_parameters(expert), strict=True))
    assert all(parameter.requires_grad for parameter in before)


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(make):
    expert = make()
    before = lora_state(expert)
    name = "blocks.1.ffn.net.2.lora_B.weight"
    missing = ones(expert)
    del missing[name]
    for state, problem in [
        (missing, rf"1 weights are missing, first {name}"),
        (ones(expert) | {"blocks.9.attn1.to_q.lora_A.weight": torch.zeros(1)}, r"unknown.*blocks\.9"),
        (ones(expert) | {name: torch.zeros(64, 8)}, r"\(64, 8\) instead of \(64, 4\)"),
    ]:
        with pytest.raises(LoraStateError, match=problem):
            load_lora_state(expert, state)
    assert all(torch.equal(tensor, before[key]) for key, tensor in lora_state(expert).items())


def weight_of(expert, path=PATH):
    layer = expert.get_submodule(path)
    with torch.no_grad():
        return (layer(torch.eye(layer.in_features)) - layer.get_base_layer().bias).T


def test_dora_has_its_magnitudes_in_both_meanings_and_either_gives_the_other(make):
    expert = make(type="dora", alpha=2.0)
    state = train_a_little(expert)
    complete = lora_file_state(expert, state)
    weight = expert.get_submodule(PATH).get_base_layer().weight
    change = 0.5 * state[f"{PATH}.lora_B.weight"] @ state[f"{PATH}.lora_A.weight"]
    by_comfy = (weight + change) * complete[f"{PATH}.dora_scale"] / weight.norm(dim=1, keepdim=True)
    torch.testing.assert_close(by_comfy, weight_of(expert), atol=1e-6, rtol=1e-5)
    assert complete[f"{PATH}.dora_scale"].shape == (128, 1)
    # The two meanings differ: without the conversion a file would act otherwise than what was trained.
    assert not torch.allclose(
        complete[f"{PATH}.dora_scale"][:, 0], state[f"{PATH}.lora_magnitude_vector"], rtol=1e-3
    )

    back = complete_dora(
        {name: tensor for name, tensor in complete.items() if "magnitude" not in name},
        lambda path: expert.get_submodule(path).get_base_layer().weight,
        scale=0.5,
    )
    for name, tensor in state.items():
        torch.testing.assert_close(back[name], tensor, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["lora", "lokr"])
def test_states_of_other_types_are_complete_as_they_are(make, kind):
    expert = make(type=kind)
    state = train_a_little(expert)
    complete = lora_file_state(expert, state)
    assert complete.keys() == state.keys()
    assert all(complete[name] is tensor for name, tensor in state.items())


def test_weights_on_disk_are_those_of_the_loaded_expert(bare, miniature_folder):
    read = base_weights(open_base(str(miniature_folder)), Expert.HIGH)
    for path in (PATH, "blocks.0.attn1.to_out.0"):
        assert torch.equal(read(path), bare.get_submodule(path).weight)


@pytest.mark.parametrize(("kind", "rank"), [("lora", 4), ("dora", 4), ("lokr", 2), ("lokr", 8)])
def test_with_a_scale_of_1_a_start_is_exact(make, kind, rank):
    trained = make(type=kind, rank=rank)
    state = train_a_little(trained)
    fresh = make(type=kind, rank=rank, seed=9)
    assert start_from(fresh, state) == 20
    assert all(torch.equal(tensor, state[name]) for name, tensor in lora_state(fresh).items())


@pytest.mark.parametrize(("kind", "rank"), [("lora", 4), ("dora", 4), ("lokr", 2), ("lokr", 8)])
def test_with_another_alpha_a_start_acts_as_the_file_does(make, kind, rank):
    trained = make(type=kind, rank=rank)
    state = train_a_little(trained)
    fresh = make(type=kind, rank=rank, alpha=rank / 4, seed=9)
    start_from(fresh, state)
    torch.testing.assert_close(weight_of(fresh), weight_of(trained), atol=1e-6, rtol=1e-5)


def test_a_dora_starts_from_comfys_meaning_too(make):
    trained = make(type="dora")
    complete = lora_file_state(trained, train_a_little(trained))
    in_file = {name: tensor for name, tensor in complete.items() if "magnitude" not in name}
    fresh = make(type="dora", seed=9)
    start_from(fresh, in_file)
    torch.testing.assert_close(weight_of(fresh), weight_of(trained), atol=1e-6, rtol=1e-5)


def test_a_dora_that_starts_from_a_lora_is_that_lora_at_first(make):
    trained = make()
    fresh = make(type="dora", alpha=1.0, seed=9)
    start_from(fresh, train_a_little(trained))
    torch.testing.assert_close(weight_of(fresh), weight_of(trained), atol=1e-6, rtol=1e-5)


def test_layers_that_the_file_lacks_begin_afresh(make):
    state = {
        name: tensor for name, tensor in train_a_little(make(seed=1)).items() if name.startswith("blocks.0.")
    }
    fresh = make(seed=9)
    before = lora_state(fresh)
    assert start_from(fresh, state) == 10
    for name, tensor in lora_state(fresh).items():
        assert torch.equal(tensor, state.get(name, before[name]))


def without(state, part):
    return {name: tensor for name, tensor in state.items() if part not in name}


@pytest.mark.parametrize(
    ("own", "given", "change", "words"),
    [
        ({"rank": 8}, {"rank": 4}, None, r"rank 4 .*, and rank 8 is to be trained"),
        ({"type": "lokr"}, {}, None, "is a LoRA, and the LoKr"),
        ({}, {"type": "dora"}, None, "is a DoRA, and the LoRA"),
        ({"type": "dora"}, {"type": "lokr"}, None, "is a LoKr, and the DoRA"),
        ({"type": "lokr", "rank": 2}, {"type": "lokr", "rank": 8}, None, "has the shapes"),
        (
            {"only_if_contains": ("ffn",)},
            {},
            None,
            r"16 layers of the file are not trained here, first blocks\.0\.attn1",
        ),
        ({}, {}, lambda state: without(state, "blocks"), "holds no LoRA"),
        ({}, {}, lambda state: without(state, f"{PATH}.lora_B"), "has the shapes"),
        ({}, {}, lambda state: {name: tensor[:, :3] for name, tensor in state.items()}, "has the shapes"),
        (
            {"type": "dora"},
            {},
            lambda state: {name: tensor[:, :4] for name, tensor in state.items()},
            "changes a weight",
        ),
        (
            {"type": "dora"},
            {},
            lambda state: state | {f"{PATH}.dora_scale": torch.ones(1, 64)},
            "not one value for each of its 128 outputs",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(make, own, given, change, words):
    state = train_a_little(make(**given))
    fresh = make(seed=9, **own)
    before = lora_state(fresh)
    with pytest.raises(LoraStateError, match=words) as caught:
        start_from(fresh, change(state) if change else state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in lora_state(fresh).items())
    if own.get("rank") == 8:
        assert "trainer lora resize" in caught.value.hint
