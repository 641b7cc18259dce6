"""What a model is told by the goal, which frames it sees, and what becomes of its words."""

import pytest

from wan_studio.domain.auto_caption import (
    KNOWN_MODELS,
    CaptionOptions,
    chosen_frames,
    instructions_of,
    known_model,
    suggested_instructions,
    tidied,
)


def test_each_goal_asks_for_what_its_captions_need_and_leaves_out_what_the_lora_learns():
    told = {
        goal: instructions_of(CaptionOptions(), goal, "frung") for goal in ("motion", "style", "character")
    }
    assert "First say what moves and how" in told["motion"]
    assert "Leave out everything about the look" in told["style"]
    assert "Leave out what always belongs to it: face, hair" in told["character"]
    assert "Call the main character frung" in told["character"]
    assert "frung" not in told["motion"] + told["style"]
    assert "Call the main character" not in suggested_instructions("character", has_trigger=False)


def test_the_users_own_instructions_take_their_place_for_their_goal_alone():
    options = CaptionOptions(instructions={"style": "Name [trigger] and the weather.", "motion": "  "})
    assert instructions_of(options, "style", "frung") == "Name frung and the weather."
    assert instructions_of(options, "style", "") == "Name it and the weather."
    assert "what moves" in instructions_of(options, "motion", "")


@pytest.mark.parametrize(
    ("count", "most", "places"),
    [(5, 12, (0, 1, 2, 3, 4)), (41, 5, (0, 10, 20, 30, 40)), (41, 1, (0,)), (1, 8, (0,)), (6, 3, (0, 2, 5))],
)
def test_frames_are_spread_evenly_with_the_first_and_the_last(count, most, places):
    assert chosen_frames(count, most) == places


def test_a_models_words_become_one_plain_paragraph():
    words = '"Caption: The video shows a **white** castle\n\non a hill.\x07 "'
    assert tidied(words, "") == "A white castle on a hill."
    assert tidied("A cat sits. It looks up. Then it", "", is_whole=False) == "A cat sits. It looks up."
    assert tidied("no end at all", "", is_whole=False) == "No end at all"
    assert tidied("\ufffd \n", "frung") == ""


def test_the_trigger_is_named_once_as_its_placeholder():
    assert tidied("A woman walks.", "frung") == "[trigger], a woman walks."
    assert tidied("Rain falls.", "frung") == "[trigger], Rain falls."
    assert tidied("Frung, a woman, walks.", "frung") == "[trigger], a woman, walks."
    assert tidied("frungible goods", "frung") == "[trigger], Frungible goods"


def test_recommended_models_say_what_they_need():
    assert known_model("Qwen/Qwen2.5-VL-7B-Instruct") is KNOWN_MODELS[0]
    assert known_model("somebody/else") is None
    for model in KNOWN_MODELS:
        assert model.needed_gib("none") > model.needed_gib("int8") > model.needed_gib("nf4") > 2
