import pytest

from wan_studio.domain.caption import trains_as


@pytest.mark.parametrize(
    ("caption", "trigger", "default", "prompt"),
    [
        ("a [trigger] shot of a hill", "orbitcam", "", "a orbitcam shot of a hill"),
        ("[trigger] and [trigger]", "w", "", "w and w"),
        ("a hill", "orbitcam", "", "orbitcam, a hill"),
        ("orbitcam, a hill", "orbitcam", "", "orbitcam, a hill"),
        ("", "orbitcam", "", "orbitcam"),
        ("", "", "", ""),
        ("  \n ", "", "a [trigger] clip", "a clip"),
        ("", "w", "a [trigger] clip", "a w clip"),
        ("a hill\r\n  at   dawn\n", "", "", "a hill at dawn"),
        ("a hill", "  w ", "", "w, a hill"),
        ("...and then it turns", "", "", "...and then it turns"),
    ],
)
def test_a_caption_trains_as_its_prompt(caption, trigger, default, prompt):
    assert trains_as(caption, trigger, default) == prompt


@pytest.mark.parametrize(
    ("caption", "prompt"),
    [
        ("a photo of [trigger], walking", "a photo of, walking"),
        ("[trigger], a dog runs", "a dog runs"),
        ("[trigger]", ""),
    ],
)
def test_without_a_trigger_word_the_placeholder_leaves_no_gap(caption, prompt):
    assert trains_as(caption, "") == prompt


def test_a_trigger_inside_another_word_is_not_named():
    assert trains_as("concatenate the clips", "cat") == "cat, concatenate the clips"
    assert trains_as("the cat's bowl", "cat") == "the cat's bowl"


def test_a_trigger_in_a_script_without_spaces_is_found():
    assert trains_as("黒い猫が走る", "猫") == "黒い猫が走る"


def test_a_trigger_with_signs_of_patterns_is_taken_literally():
    assert trains_as("a c++ cat", "c++") == "a c++ cat"
    assert trains_as("a cat", "c.t") == "c.t, a cat"
