import pytest

from trainer.data.prompts import class_prompt, dropped_prompt, is_no_op


@pytest.mark.parametrize(
    ("caption", "trigger", "class_word", "prompt"),
    [
        ("ohwx walks, then ohwx runs", "ohwx", "person", "person walks, then person runs"),
        ("ohwx, a man", "ohwx", "person", "person, a man"),
        ("concatenate the cat's bowl", "cat", "animal", "concatenate the animal's bowl"),
        ("Ohwx and ohwx", "ohwx", "person", "Ohwx and person"),
        ("a c++ cat", "c++", "plain", "a plain cat"),
        ("a  b\n c", "b", "d  e", "a d e c"),
        ("黒い猫が走る", "猫", "犬", "黒い犬が走る"),
        ("a \\1 b", "b", r"\1", r"a \1 \1"),
        ("nothing here", "ohwx", "person", "nothing here"),
        ("nothing here", "", "person", "nothing here"),
        ("ohwx, a man", " ohwx ", "", "a man"),
        ("a photo of ohwx, walking", "ohwx", "", "a photo of, walking"),
        ("ohwx", "ohwx", "", ""),
    ],
)
def test_the_class_word_takes_the_place_of_the_trigger(caption, trigger, class_word, prompt):
    assert class_prompt(caption, trigger, class_word) == prompt


@pytest.mark.parametrize(
    ("caption", "trigger", "no_op"),
    [
        ("ohwx walks", "ohwx", False),
        ("a man walks", "ohwx", True),
        ("concatenate", "cat", True),
        ("OHWX walks", "ohwx", True),
        ("a man walks", "", True),
    ],
)
def test_a_caption_without_the_trigger_is_told_apart(caption, trigger, no_op):
    assert is_no_op(caption, trigger) is no_op
    assert (class_prompt(caption, trigger, "person") == caption) is no_op


def test_a_dropped_caption_is_truly_empty_or_the_trigger_alone():
    assert dropped_prompt("ohwx", "empty") == ""
    assert dropped_prompt(" ohwx  man ", "trigger") == "ohwx man"
    assert dropped_prompt("", "trigger") == ""
