from wan_studio.domain.caption_words import Suggestion, WordsInUse, word_before

WORDS = WordsInUse(
    [
        "a slow orbit around the castle, [trigger]",
        "a slow orbit around a tower",
        "Orchids in front of a tower",
    ]
)


def test_words_and_phrases_in_use_come_first_the_most_used_before_the_rest():
    assert WORDS.complete("slo")[:2] == [Suggestion("slow", 2), Suggestion("slow orbit", 2)]
    assert [one.text for one in WORDS.complete("orb")][:3] == ["orbit", "orbit around", "orbit 360"]
    assert WORDS.complete("o") == []


def test_camera_moves_are_offered_though_no_caption_has_them():
    assert Suggestion("dolly zoom", 0) in WORDS.complete("dolly")


def test_a_phrase_that_stands_once_and_the_placeholder_are_no_suggestion():
    assert WORDS.complete("orchids in") == []
    assert WORDS.complete("trig") == []


def test_the_most_used_words_leave_out_the_little_ones():
    assert [one.text for one in WORDS.most_used(4)] == ["around", "orbit", "slow", "tower"]


def test_the_word_that_is_typed_ends_at_a_sign():
    assert word_before("a slow orb") == "orb"
    assert word_before("a slow, ") == ""
    assert word_before("close-u") == "close-u"
