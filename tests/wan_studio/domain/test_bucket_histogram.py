"""How clips spread over buckets, and which buckets are said to be rare."""

import msgspec

from tests.wan_studio.domain.test_clip_health import CLIP, PROJECT, facts, video
from wan_studio.domain.bucket_histogram import bucket_histogram
from wan_studio.domain.clip_query import compile_query
from wan_studio.domain.clip_record import make_record


def record(name, **changes):
    made = make_record(PROJECT, msgspec.structs.replace(CLIP, id=name), facts(source=video(frames=200)))
    return msgspec.structs.replace(made, **changes)


def test_buckets_are_counted_by_size_and_length_the_fullest_first_and_their_search_finds_them():
    records = [record(f"a{n}", buckets=((672, 384),), trains=41) for n in range(20)]
    records += [record(f"b{n}", buckets=((384, 672),), trains=41) for n in range(3)]
    records += [record("short", buckets=((672, 384),), trains=33), record("no", rejected=True)]
    wide, tall, short = bucket_histogram(records)
    assert [(one.clips, one.words) for one in (wide, tall, short)] == [
        (20, "672 × 384, 41 frames"),
        (3, "384 × 672, 41 frames"),
        (1, "672 × 384, 33 frames"),
    ]
    assert (wide.is_rare, tall.is_rare, short.is_rare) == (False, True, True)
    assert "Only 3 clips use it" in tall.text
    matches = compile_query(short.query).matches
    assert [one.id for one in records if matches(one)] == ["short"]


def test_three_of_ten_are_no_stragglers_and_every_resolution_counts():
    records = [record(f"a{n}", buckets=((672, 384), (960, 544)), trains=41) for n in range(7)]
    records += [record(f"b{n}", buckets=((512, 512),), trains=41) for n in range(3)]
    found = bucket_histogram(records)
    assert [one.clips for one in found] == [7, 7, 3]
    assert not any(one.is_rare for one in found)


def test_a_record_knows_the_size_at_which_its_crop_trains():
    assert all(width % 16 == height % 16 == 0 for width, height in record("a").buckets)
    assert len(record("a").buckets) == len(PROJECT.settings.datasets.resolutions)
