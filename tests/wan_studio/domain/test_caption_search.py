import time

import pytest

from wan_studio.domain.caption_search import CaptionEntry, CaptionQueryError, find, parse_query


def entry(name, caption, **known):
    return CaptionEntry(name, f"{name}.mp4", caption, caption.casefold(), **known)


ENTRIES = {
    one.clip_id: one
    for one in (
        entry("castle", "Orbit 360 around a stone castle", tokens=12),
        entry("dolly", "a slow dolly in, [trigger]", tokens=140, has_trigger=True),
        entry("empty", ""),
        entry("plain", "a castle", has_trigger=False, findings=frozenset({"motion"}), needs_attention=True),
        entry("odd", "", is_readable=False, needs_attention=True),
        entry("gone", "orbit left", is_rejected=True),
    )
}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["castle", "dolly", "empty", "plain", "odd", "gone"]),
        ("castle", ["castle", "plain"]),
        ("ORBIT castle", ["castle"]),
        ("orbit OR dolly", ["castle", "dolly", "gone"]),
        ("orbit OR dolly AND slow", ["castle", "dolly", "gone"]),
        ("(orbit OR dolly) AND slow", ["dolly"]),
        ("castle NOT orbit", ["plain"]),
        ('"stone castle"', ["castle"]),
        ('caption:"slow dolly"', ["dolly"]),
        ("caption:or*it", ["castle", "gone"]),
        ("name:d?lly*", ["dolly"]),
        ("caption:none", ["empty"]),
        ("NOT caption:none file:readable", ["castle", "dolly", "plain", "gone"]),
        ("trigger:missing", ["plain"]),
        ("tokens:>100", ["dolly"]),
        ("tokens:>=12 tokens:<100", ["castle"]),
        ("words:2", ["plain", "gone"]),
        ("lint:motion", ["plain"]),
        ("lint:any", ["plain", "odd"]),
        ("file:unreadable", ["odd"]),
        ("clip:rejected", ["gone"]),
        ("[trigger]", ["dolly"]),
    ],
)
def test_a_search_finds_these_clips_in_their_order(query, found):
    assert find(ENTRIES, parse_query(query)) == found


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("foo:1", "no field foo"),
        ("tokens:many", "takes a number"),
        ("(orbit", "not closed"),
        ("orbit)", "not opened"),
        ("orbit AND", "missing beside"),
        ("NOT", "missing beside"),
        ("trigger:maybe", "knows no maybe"),
        ("caption:", "looked for"),
    ],
)
def test_a_search_that_means_nothing_is_a_sentence(query, words):
    with pytest.raises(CaptionQueryError, match=words):
        parse_query(query)


def test_five_thousand_captions_are_searched_while_a_key_is_pressed():
    many = {
        f"c{i}": entry(f"c{i}", f"orbit {i} around the [trigger], stone castle at dusk " * 3, tokens=i % 150)
        for i in range(5000)
    }
    match = parse_query("castle AND tokens:>100 NOT orbit_9*")
    began = time.perf_counter()
    assert len(find(many, match)) == 1617
    assert time.perf_counter() - began < 0.25
