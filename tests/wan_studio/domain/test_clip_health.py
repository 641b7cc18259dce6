from fractions import Fraction

import msgspec
import pytest

from trainer.protocol.job import CropBox
from wan_studio.domain.checks import ClipFacts
from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.domain.clip_health import FINDINGS, frames_for_all, health_of
from wan_studio.domain.clip_look import ClipLook
from wan_studio.domain.clip_query import compile_query
from wan_studio.domain.clip_record import DuplicateMark, make_record
from wan_studio.domain.project import Project, ProjectClip


def video(frames=60, fps=20, **changes):
    values = {
        "path": "/clips/a.mp4",
        "size_bytes": 1,
        "modified_ns": 1,
        "width": 640,
        "height": 480,
        "frame_pts": tuple(range(frames)),
        "time_base": Fraction(1, fps),
        "codec": "h264",
    }
    return SourceVideo(**{**values, **changes})


def facts(**changes):
    values = {"source": video(), "caption": "an orbit of [trigger]", "look": ClipLook()}
    return ClipFacts(**{**values, **changes})


PROJECT = Project(name="p", trigger="frung")
CLIP = ProjectClip(id="a", source="/clips/a.mp4", caption_file="/clips/a.txt")


def found(known, clip=CLIP, project=PROJECT, mark=None):
    return set(make_record(project, clip, known, mark).findings)


def test_a_good_clip_has_no_finding():
    assert found(facts()) == set()
    assert make_record(PROJECT, CLIP, facts()).is_usable


@pytest.mark.parametrize(
    ("known", "name"),
    [
        (ClipFacts(unreadable="x is empty."), "unreadable"),
        (ClipFacts(unreadable="x does not exist.", is_missing=True), "missing"),
        (facts(caption=" "), "uncaptioned"),
        (facts(caption="an orbit"), "trigger"),
        (facts(source=video(frames=40)), "short"),
        (facts(source=video(frames=200)), "untrimmed"),
        (facts(source=video(is_hdr=True)), "hdr"),
        (facts(source=video(rotation=90)), "rotated"),
        (facts(source=video(width=320, height=240)), "lowres"),
        (facts(source=video(frame_pts=tuple(n * 100 + 40 * (n % 3) for n in range(60)), time_base=Fraction(1, 2000))), "vfr"),
        (facts(look=ClipLook(still_head_seconds=0.7)), "still"),
        (facts(look=ClipLook(picture=CropBox(left=0, top=60, width=640, height=360))), "letterbox"),
    ],
)  # fmt: skip
def test_each_finding_is_found_and_its_search_shows_the_clip(known, name):
    record = make_record(PROJECT, CLIP, known)
    assert name in record.findings
    kind = next(kind for kind in FINDINGS if kind.name == name)
    assert compile_query(kind.query).matches(record)


def test_what_was_mended_is_no_longer_found():
    long = facts(source=video(frames=200), look=ClipLook(still_head_seconds=2.0))
    assert found(long) == {"untrimmed", "still"}
    assert found(long, msgspec.structs.replace(CLIP, trim=TrimRange(40, 100))) == set()
    bars = facts(look=ClipLook(picture=CropBox(left=0, top=60, width=640, height=360)))
    cropped = msgspec.structs.replace(CLIP, crop=CropBox(left=0, top=60, width=640, height=360))
    assert "letterbox" not in found(bars, cropped)


def test_copies_are_told_from_clips_that_look_alike():
    assert found(facts(), mark=DuplicateMark(1, is_exact=True, is_best=False)) == {"duplicate"}
    assert found(facts(), mark=DuplicateMark(1, is_exact=False, is_best=False)) == {"near"}


def test_a_rejected_clip_has_no_finding_and_is_counted_apart():
    rejected = make_record(PROJECT, msgspec.structs.replace(CLIP, rejected=True), ClipFacts(unreadable="x"))
    health = health_of(
        [rejected, make_record(PROJECT, CLIP, facts()), make_record(PROJECT, CLIP, ClipFacts())]
    )
    assert (health.clips, health.usable, health.rejected, health.waiting) == (3, 1, 1, 1)
    assert health.findings == ()
    assert health.seconds == pytest.approx(3.0)


def test_the_worst_comes_first():
    records = [
        make_record(PROJECT, CLIP, facts(source=video(frames=200))),
        make_record(PROJECT, CLIP, ClipFacts(unreadable="x")),
    ]
    assert [finding.kind.name for finding in health_of(records).findings] == ["unreadable", "untrimmed"]


def test_fewer_frames_fit_all():
    records = [make_record(PROJECT, CLIP, facts(source=video(frames=frames))) for frames in (30, 40, 60)]
    assert [record.trains for record in records] == [21, 29, 41]
    assert frames_for_all(records) == 21
