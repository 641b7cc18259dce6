import time

import pytest

from wan_studio.domain.caption_replace import (
    FindReplace,
    InsertTrigger,
    PatternError,
    Prefix,
    Suffix,
    changes_of,
)
from wan_studio.domain.text_diff import Part, diff, parts_of


def after(rule, *captions):
    return [change.after for change in changes_of(rule, dict(enumerate(captions)))]


def test_words_are_replaced_and_every_change_shows_its_places():
    captions = {"a": "a dog, a Dog", "b": "no such word", "c": "hotdog"}
    changes = changes_of(FindReplace("dog", "cat"), captions)
    assert [(one.clip_id, one.after) for one in changes] == [("a", "a cat, a cat"), ("c", "hotcat")]
    assert changes[0].removed == ((2, 5), (9, 12))
    assert [changes[0].after[a:b] for a, b in changes[0].added] == ["cat", "cat"]


def test_case_and_whole_words_are_heeded_where_wanted():
    assert after(FindReplace("dog", "cat", match_case=True), "a dog, a Dog") == ["a cat, a Dog"]
    assert after(FindReplace("dog", "cat", whole_words=True), "hotdog", "dog") == ["cat"]


def test_a_plain_search_takes_no_sign_as_special():
    assert after(FindReplace("[trigger].", r"\1"), "a [trigger].") == [r"a \1"]


def test_a_regular_expression_brings_its_groups_and_finds_line_by_line():
    rule = FindReplace(r"^(\w+) (\w+)", r"\2 \1", is_regex=True)
    assert after(rule, "one two\nthree four") == ["two one\nfour three"]


@pytest.mark.parametrize(
    ("find", "replacement", "words"),
    [
        ("(wall", "", "cannot be read: missing \\)"),
        ("wall", r"\2", "replacement cannot be used"),
        (r"(a+)+b", "", "never ends"),
        (r"(\w*)*", "", "never ends"),
    ],
)
def test_an_expression_that_cannot_be_used_is_a_sentence(find, replacement, words):
    with pytest.raises(PatternError, match=words):
        changes_of(FindReplace(find, replacement, is_regex=True), {"a": "wall"})


def test_text_is_put_before_and_after_once_and_never_into_nothing():
    assert after(Prefix("film, "), "a cat", "film, a dog", "", " \n") == ["film, a cat"]
    assert after(Suffix(", at night"), "a cat\r\n".replace("\r", ""), "a dog, at night", "") == [
        "a cat, at night\n"
    ]


def test_the_trigger_is_put_where_neither_it_nor_its_word_stands():
    assert after(InsertTrigger("frung"), "a cat", "a [trigger]", "the frung", "frungs", "") == [
        "[trigger], a cat",
        "[trigger], frungs",
    ]


def test_the_preview_shows_what_goes_and_what_comes():
    change = changes_of(FindReplace("dog", "cat"), {"a": "a dog runs"})[0]
    assert parts_of(change) == (
        Part("same", "a "),
        Part("removed", "dog"),
        Part("added", "cat"),
        Part("same", " runs"),
    )
    put = changes_of(Prefix("film, "), {"a": "a dog"})[0]
    assert parts_of(put) == (Part("added", "film, "), Part("same", "a dog"))


def test_a_difference_is_told_word_by_word():
    assert diff("a slow orbit", "a fast orbit") == (
        Part("same", "a "),
        Part("removed", "slow"),
        Part("added", "fast"),
        Part("same", " orbit"),
    )


def test_five_thousand_captions_are_previewed_in_a_moment():
    captions = {str(i): f"clip {i}: a stone castle at dusk, the camera orbits left " * 3 for i in range(5000)}
    began = time.perf_counter()
    assert len(changes_of(FindReplace(r"(\d+)", r"<\1>", is_regex=True), captions)) == 5000
    assert time.perf_counter() - began < 1.5
