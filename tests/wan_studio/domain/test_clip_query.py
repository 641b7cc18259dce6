import contextlib
import time

import pytest

from wan_studio.domain.clip_health import FINDINGS
from wan_studio.domain.clip_query import STATES, QueryError, compile_query
from wan_studio.domain.clip_record import ClipRecord


def record(**changes):
    values = {
        "id": "a",
        "name": "Orbit_01.mp4",
        "source": "/clips/day one/Orbit_01.mp4",
        "text": "orbit_01.mp4\na slow orbit around the castle",
        "dataset": "",
        "rating": 3,
        "rejected": False,
        "caption": "a slow orbit around the castle",
        "codec": "h264",
        "side": 600.0,
        "fps": 29.97,
        "frames": 120,
        "seconds": 4.0,
        "speed": 1.3,
    }
    return ClipRecord(**{**values, **changes})


def finds(query, one=None):
    return compile_query(query).matches(one or record())


@pytest.mark.parametrize(
    "query",
    [
        "",
        "castle",
        "ORBIT",
        '"orbit around"',
        "speed:>1.2",
        "duration:<=4",
        "duration:2..5",
        "duration:<5s",
        "fps:30",
        "fps:29.97",
        "res:>512 res:<640",
        "rating:>=3",
        "caption:any",
        "caption:castle",
        'folder:"day one"',
        "set:main",
        "-dolly",
        "not dolly and orbit",
        "dolly or orbit",
        "(dolly or castle) -zoom",
        "not (dolly or zoom)",
        "name:orbit_01",
        "-is:rejected",
    ],
)
def test_a_search_finds_the_clip(query):
    assert finds(query)


@pytest.mark.parametrize(
    "query",
    ["dolly", "speed:>1.3", "fps:25", "caption:none", "orbit dolly", "-orbit", "is:untrimmed", "res:<512"],
)
def test_a_search_passes_the_clip_over(query):
    assert not finds(query)


def test_a_number_that_is_not_known_yet_is_never_found():
    unknown = record(speed=None, seconds=None)
    assert not finds("speed:<9", unknown)
    assert not finds("speed:>0", unknown)
    assert not finds("duration:0..99", unknown)


def test_a_clip_whose_caption_is_not_read_yet_is_not_one_without():
    assert not finds("caption:none", record(caption=None))
    assert finds("caption:none", record(caption=" "))


def test_findings_and_traits_are_asked_by_name():
    one = record(findings=frozenset({"untrimmed"}), traits=frozenset({"sound", "caption"}))
    assert finds("is:untrimmed has:sound", one)
    assert finds("has:caption", one)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("sped:>1", 'There is no field "sped". Did you mean "speed:"?'),
        ("duration:long", '"duration:" compares numbers, and "long" is none. For example duration:>2.'),
        ("speed:", '"speed:" needs a value.'),
        ("(orbit", "A bracket is not closed."),
        ("(", "A bracket is not closed."),
        ("orbit)", "There is a closing bracket without an opening one."),
        ('"orbit', "A quotation mark is not closed."),
        ("orbit or", '"or" has nothing beside it.'),
        ("and orbit", '"and" has nothing before it.'),
        ("orbit and", '"and" has nothing after it.'),
        ("not", '"not" has nothing after it.'),
        ("is:untrimed", 'Clips cannot be "untrimed". Did you mean "untrimmed"?'),
    ],
)
def test_a_wrong_search_is_a_sentence(query, sentence):
    with pytest.raises(QueryError) as caught:
        compile_query(query)
    assert str(caught.value) == sentence


def test_whatever_is_typed_is_a_search_or_a_sentence():
    letters = 'ab: ()"-<>=.1|&\\'
    for number in range(4000):
        text = "".join(letters[number * step % len(letters)] for step in range(1, 3 + number % 9))
        with contextlib.suppress(QueryError):
            assert compile_query(text).matches(record()) in (True, False)


def test_every_finding_can_be_searched():
    assert {kind.name for kind in FINDINGS} == STATES
    for kind in FINDINGS:
        assert finds(kind.query, record(findings=frozenset({kind.name})))


def test_five_thousand_clips_are_searched_while_a_key_goes_down():
    clips = [record(id=str(number), seconds=number / 100) for number in range(5000)]
    query = compile_query("(duration:>20 or caption:none) -dolly orbit speed:1..2")
    begin = time.thread_time()
    found = [one for one in clips if query.matches(one)]
    assert time.thread_time() - begin < 0.05
    assert len(found) == 2999
