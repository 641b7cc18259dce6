import msgspec
import pytest

from trainer.protocol.job import MINIATURE
from wan_studio.domain.frame_sampling import valid_frame_count
from wan_studio.domain.project import Settings
from wan_studio.services.preset_store import load_preset, settings_for


@pytest.mark.parametrize("goal", ["motion", "style", "character"])
def test_every_goals_preset_gives_valid_settings(goal):
    settings = settings_for(goal, "/models/wan")
    assert settings.model.base == "/models/wan"
    assert settings.datasets.num_frames == valid_frame_count(settings.datasets.num_frames)
    assert 1500 <= settings.training.steps <= 3000
    assert settings.target.rank in {16, 32}
    assert settings.training.learning_rate == 1e-4


@pytest.mark.parametrize("goal", ["motion", "style", "character"])
def test_the_miniature_brings_its_own_sizes(goal):
    settings = settings_for(goal)
    assert settings.model.base == MINIATURE
    assert settings.datasets.resolutions == (64,)
    assert settings.datasets.num_frames == 17
    assert settings.training.steps <= 500


def test_the_presets_follow_the_guides_recipes():
    motion, style, character = (settings_for(goal, "/m") for goal in ("motion", "style", "character"))
    assert all(0.05 <= one.datasets.caption_dropout <= 0.1 for one in (motion, style, character))
    assert [one.training.diff_output_preservation for one in (motion, style, character)] == [
        False,
        True,
        True,
    ]
    assert style.training.diff_output_preservation_class == "scene"
    assert character.training.diff_output_preservation_class == "person"
    assert [one.training.timestep_type for one in (motion, style, character)] == [
        "linear",
        "linear",
        "sigmoid",
    ]
    assert style.training.timestep_bias == "high_noise"


def test_the_miniature_trains_without_what_only_large_models_need():
    training = settings_for("character").training
    assert (training.optimizer, training.gradient_checkpointing) == ("adamw", False)


@pytest.mark.parametrize("name", ["motion", "style", "character", "miniature"])
def test_a_preset_repeats_no_default(name):
    defaults = msgspec.to_builtins(Settings())
    for section, fields in load_preset(name).items():
        for field, value in fields.items():
            assert value != defaults[section][field], f"{section}.{field}"
