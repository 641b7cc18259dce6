"""Which words of a caption a dictionary is asked about."""

import msgspec

from wan_studio.domain.project import Project
from wan_studio.domain.spelling import right_words, words_to_check


def words(text, right=(), language="en_US"):
    return [one.word for one in words_to_check(text, frozenset(right), language)]


def test_words_are_found_with_their_places_and_what_is_no_word_is_left_out():
    text = "[trigger], a man's well-lit castel at 24fps, see https://x.org/abc, 桜 and ёлка"
    assert words(text) == ["man's", "well-lit", "castel", "at", "see", "and"]
    spelt = words_to_check(text, frozenset(), "en_US")[2]
    assert text[spelt.start : spelt.end] == "castel"


def test_a_russian_dictionary_is_asked_about_russian_words():
    assert words("a castel ёлка", language="ru") == ["ёлка"]


def test_words_of_the_project_are_right_in_any_case_possessive_or_joined():
    assert words("Frung's frung-ohwx FRUNG castel", ["frung", "ohwx"]) == ["castel"]


def test_triggers_class_words_and_both_lists_are_right():
    project = Project(name="p", trigger="ohwx woman", words=("bokeh",))
    training = msgspec.structs.replace(project.settings.training, diff_output_preservation_class="Corgi")
    settings = msgspec.structs.replace(project.settings, training=training)
    right = right_words(msgspec.structs.replace(project, settings=settings), ("timelapse",))
    assert {"ohwx", "woman", "bokeh", "corgi", "timelapse"} <= right
    assert "" not in right
