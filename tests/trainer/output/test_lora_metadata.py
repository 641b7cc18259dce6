"""Metadata comes back as it was written, with everything that it does not understand itself."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import torch
from safetensors.torch import save_file

from trainer.output.lora_file import LoraFileError, read_lora_file
from trainer.output.lora_metadata import LoraMetadata, OtherMetadata, parse_metadata
from trainer.protocol.job import Expert

ABOUT = LoraMetadata(
    name="orbit",
    expert=Expert.HIGH,
    boundary=0.9,
    rank=4,
    alpha=2.0,
    steps=500,
    trigger="0rbit",
    base_fingerprint="abc",
    created=datetime(2026, 1, 2, tzinfo=UTC),
    interval=(0.85, 1.0),
    steps_of_expert=200,
    details={"wan_studio.settings": "{}", "ss_learning_rate": "0.0001"},
)


def test_everything_comes_back():
    assert parse_metadata(ABOUT.to_strings(4.0)) == ABOUT
    plain = LoraMetadata("l", Expert.LOW, 0.875, 1, 1.0, 3)
    assert parse_metadata(plain.to_strings(1.0)) == plain


def test_steps_and_the_trained_interval_are_told_of_this_expert():
    strings = ABOUT.to_strings(4.0)
    assert (strings["steps"], strings["steps_of_expert"], strings["ss_steps"]) == ("500", "200", "200")
    assert strings["trained_interval"] == "0.85,1.0"
    assert strings["modelspec.timestep_range"] == "850,1000"
    without = replace(ABOUT, interval=None, steps_of_expert=None).to_strings(4.0)
    assert without["modelspec.timestep_range"] == "900,1000"
    assert without["ss_steps"] == "500"
    assert not {"trained_interval", "steps_of_expert"} & without.keys()


def test_details_never_hide_what_is_known():
    lying = replace(ABOUT, details={"expert": "low_noise", "ss_network_dim": "64"})
    strings = lying.to_strings(4.0)
    assert (strings["expert"], strings["ss_network_dim"]) == ("high_noise", "4")


def test_what_other_programs_say_is_kept_but_for_what_an_edit_makes_untrue():
    other = {
        "software": "x",
        "ss_network_dim": "64",
        "ss_network_alpha": "1.0",
        "sshs_model_hash": "00",
        "modelspec.hash_sha256": "00",
        "lora_adapter_metadata": "{}",
    }
    assert OtherMetadata(other, 8).to_strings(8.0) == {
        "format": "pt",
        "software": "x",
        "ss_network_dim": "8",
        "ss_network_alpha": "8",
    }


def peft_file(path, **settings):
    """As diffusers saves a LoRA with peft's settings: the alpha is in the metadata alone."""
    tensors = {
        "transformer.blocks.0.attn1.to_q.lora_A.weight": torch.full((4, 3), 2.0),
        "transformer.blocks.0.attn1.to_q.lora_B.weight": torch.full((5, 4), 3.0),
    }
    settings = {f"transformer.{key}": value for key, value in settings.items()}
    save_file(tensors, path, {"format": "pt", "lora_adapter_metadata": json.dumps(settings)})
    return path


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({"r": 4, "lora_alpha": 4}, 1.0),
        ({"r": 4, "lora_alpha": 1}, 0.25),
        ({"r": 4, "lora_alpha": 8, "alpha_pattern": {}}, 2.0),
        ({"r": 4, "lora_alpha": 8, "use_rslora": True}, 4.0),
    ],
)
def test_an_alpha_that_stands_in_the_metadata_alone_is_folded_in(tmp_path, settings, scale):
    state = read_lora_file(peft_file(tmp_path / "l.safetensors", **settings)).state
    change = state["blocks.0.attn1.to_q.lora_B.weight"] @ state["blocks.0.attn1.to_q.lora_A.weight"]
    # Four times two times three.
    assert torch.allclose(change, torch.full((5, 3), 24.0 * scale))


@pytest.mark.parametrize(
    "settings",
    [
        {"r": 4},
        {"r": 0, "lora_alpha": 1},
        {"r": 4, "lora_alpha": "much"},
        {"r": 4, "lora_alpha": 4, "alpha_pattern": {"to_q": 1}},
    ],
)
def test_an_alpha_that_cannot_be_followed_is_refused_by_file(tmp_path, settings):
    with pytest.raises(LoraFileError, match=r"l\.safetensors.*peft"):
        read_lora_file(peft_file(tmp_path / "l.safetensors", **settings))
