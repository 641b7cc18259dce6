from dataclasses import replace
from fractions import Fraction

import msgspec
import pytest

from trainer.protocol.job import BucketSize, CropBox, SampleRow, SampleSection
from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.domain.clip_ranges import copied_cut, ranges_of_source, snapped, split_clip, with_cut
from wan_studio.domain.frame_sampling import sample_frames
from wan_studio.domain.project import Project, ProjectClip, Settings


def video(frames=200, fps=25):
    return SourceVideo(
        path="/clips/a.mp4",
        size_bytes=1,
        modified_ns=1,
        width=640,
        height=480,
        frame_pts=tuple(range(frames)),
        time_base=1 / Fraction(fps),
        codec="h264",
    )


def project():
    clips = tuple(
        ProjectClip(id=name, source=f"/clips/{name}.mp4", caption_file=f"/clips/{name}.txt") for name in "abc"
    )
    size = BucketSize(width=64, height=64)
    rows = (
        SampleRow(prompt="", size=size, num_frames=17, clip=0),
        SampleRow(prompt="", size=size, num_frames=17, clip=2),
    )
    settings = Settings(sample=SampleSection(rows=rows))
    return Project(name="orbit", clips=clips, settings=settings)


def test_a_split_clip_keeps_the_first_part_and_the_others_follow_it():
    whole = project()
    clip = whole.clip("a")
    split = split_clip(whole, clip, [TrimRange(0, 50), TrimRange(50, 90), TrimRange(90, 200)], ["x1", "x2"])
    assert [made.id for made in split.project.clips] == ["a", "x1", "x2", "b", "c"]
    assert [made.trim for made in split.project.clips[:3]] == [
        TrimRange(0, 50),
        TrimRange(50, 90),
        TrimRange(90, 200),
    ]
    assert ranges_of_source(split.project, clip) == split.project.clips[:3]


def test_further_ranges_have_caption_files_of_their_own():
    whole = project()
    split = split_clip(whole, whole.clip("b"), [TrimRange(0, 5), TrimRange(5, 9)], ["x1"])
    assert split.project.clip("b").caption_file == "/clips/b.txt"
    assert split.added[0].caption_file == "/clips/b.x1.txt"


def test_a_range_of_a_range_is_named_by_the_source():
    whole = project()
    first = split_clip(whole, whole.clip("b"), [TrimRange(0, 5), TrimRange(5, 9)], ["x1"])
    again = split_clip(first.project, first.added[0], [TrimRange(5, 7), TrimRange(7, 9)], ["x2"])
    assert again.added[0].caption_file == "/clips/b.x2.txt"


def test_a_split_keeps_crop_data_set_and_rejection():
    whole = project()
    crop = CropBox(left=0, top=10, width=100, height=80)
    clip = ProjectClip(id="a", source="/clips/a.mp4", caption_file="/clips/a.txt", crop=crop, rejected=True)
    split = split_clip(whole.with_clip(clip), clip, [TrimRange(0, 5), TrimRange(5, 9)], ["x1"])
    assert (split.added[0].crop, split.added[0].rejected) == (crop, True)


def test_previews_go_on_from_the_clips_that_they_did_after_a_split():
    whole = project()
    split = split_clip(whole, whole.clip("a"), [TrimRange(0, 5), TrimRange(5, 9)], ["x1"])
    rows = split.project.settings.sample.rows
    assert [split.project.clips[row.clip].id for row in rows] == ["a", "c"]


@pytest.mark.parametrize("fps", [10, 16, 25, Fraction(30000, 1001), 50])
@pytest.mark.parametrize("frames", [5, 17, 41])
def test_a_snapped_range_trains_with_exactly_so_many_frames_and_not_four_more(fps, frames):
    source = video(400, fps)
    trim = snapped(source, TrimRange(7, 300), frames)
    assert trim.start_frame == 7
    taken = sample_frames(source, trim, 81)
    assert len(taken.frames) == frames


def test_snapping_shortens_to_the_most_frames_that_fit():
    source = video(200, 16)
    assert snapped(source, TrimRange(3, 3 + 44)) == TrimRange(3, 3 + 41)
    assert snapped(source, TrimRange(3, 3 + 45)) == TrimRange(3, 3 + 45)
    assert snapped(source, TrimRange(3, 5)) == TrimRange(3, 4)


def test_the_sources_end_limits_what_snapping_asks_for():
    assert snapped(video(20, 16), TrimRange(10, 12), 41) == TrimRange(10, 20)


def test_a_cut_is_carried_over_by_seconds_and_shares_of_the_picture():
    clip = ProjectClip(
        id="a",
        source="/clips/a.mp4",
        caption_file="/clips/a.txt",
        trim=TrimRange(25, 75),
        crop=CropBox(left=64, top=48, width=320, height=240),
    )
    cut = copied_cut(video(200, 25), clip)
    other = msgspec.structs.replace(clip, id="b", trim=None, crop=None)
    small = replace(video(200, 50), width=320, height=240)
    taken = with_cut(small, other, cut)
    assert taken.trim == TrimRange(50, 150)
    assert taken.crop == CropBox(left=32, top=24, width=160, height=120)
    assert taken.id == "b"


def test_a_cut_reaches_no_further_than_the_file():
    clip = ProjectClip(id="a", source="/a.mp4", caption_file="/a.txt", trim=TrimRange(100, 200))
    cut = copied_cut(video(200, 25), clip)
    assert with_cut(video(130, 25), clip, cut).trim == TrimRange(100, 130)
    assert with_cut(video(50, 25), clip, cut).trim == TrimRange(49, 50)


def test_no_trim_is_copied_as_no_trim():
    clip = ProjectClip(id="a", source="/a.mp4", caption_file="/a.txt")
    trimmed = msgspec.structs.replace(clip, trim=TrimRange(3, 9))
    assert with_cut(video(), trimmed, copied_cut(video(), clip)).trim is None
