"""Shapes of batches by hand-counted examples."""

from fractions import Fraction

import msgspec
import pytest

from trainer.protocol.job import BucketSize, SampleRow
from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.domain.project import Project, ProjectClip, Settings
from wan_studio.domain.workload import ClipExtent, ClipShape, clip_extents, workload_of


def settings(**datasets: object) -> Settings:
    return Settings().with_values({"datasets": datasets})


def video(frames: int, rate: int, width: int = 1280, height: int = 720) -> SourceVideo:
    return SourceVideo(
        path="/clips/a.mp4",
        size_bytes=1,
        modified_ns=1,
        width=width,
        height=height,
        frame_pts=tuple(90_000 * number // rate for number in range(frames)),
        time_base=Fraction(1, 90_000),
        codec="h264",
    )


@pytest.mark.parametrize(
    ("shape", "tokens"),
    [
        (ClipShape(832, 480, 81), 32_760),
        (ClipShape(512, 512, 41), 11_264),
        (ClipShape(768, 768, 41), 25_344),
        (ClipShape(512, 512, 1), 1024),
    ],
)
def test_tokens_are_those_that_the_model_counts(shape, tokens):
    assert shape.tokens == tokens


def test_without_clips_squares_of_the_resolutions_are_assumed():
    work = workload_of(settings(num_frames=41, resolutions=[512, 768]), ())
    assert work.is_assumed
    assert [use.shape for use in work.buckets] == [ClipShape(768, 768, 41), ClipShape(512, 512, 41)]
    assert sum(use.share for use in work.buckets) == pytest.approx(1)
    assert work.previews == (ClipShape(512, 512, 41),)


def test_a_clip_has_no_more_frames_than_it_is_long_and_no_more_pixels_than_it_has():
    short, small = ClipExtent(1280, 720, 2.0, 29), ClipExtent(640, 360, 9.0, 141)
    work = workload_of(settings(num_frames=41, resolutions=[512, 768]), (short, small))
    shapes = {use.shape: use.clips for use in work.buckets}
    assert all(shape.frames == 29 for shape in shapes if shape.width > 640)
    assert max(shape.width for shape in shapes if shape.frames == 41) <= 640
    # Two sizes of the large clip; the small one has the same at both resolutions.
    assert sum(shapes.values()) == 3
    assert work.largest.tokens == max(shape.tokens for shape in shapes)


def test_mirrored_copies_are_cached_and_captioned_for_themselves():
    clip = ClipExtent(1280, 720, 9.0, 141)
    plain = workload_of(settings(resolutions=[512]), (clip,))
    both = workload_of(settings(resolutions=[512], flip_horizontal=True, flip_vertical=True), (clip,))
    assert (plain.windows, both.windows) == (1, 4)
    assert (plain.captions, both.captions) == (1, 4)


def test_previews_are_those_of_the_rows_and_none_when_they_are_off():
    row = SampleRow(prompt="x", size=BucketSize(width=832, height=480), num_frames=81)
    with_row = msgspec.structs.replace(
        Settings(), sample=msgspec.structs.replace(Settings().sample, rows=(row,))
    )
    assert workload_of(with_row, ()).previews == (ClipShape(832, 480, 81),)
    assert workload_of(Settings().with_values({"sample": {"every": 0}}), ()).previews == ()


def test_an_extent_is_that_of_the_trimmed_range_in_sixteenths_of_a_second():
    clip = ProjectClip(id="a", source="/clips/a.mp4", caption_file="/clips/a.txt", trim=TrimRange(25, 75))
    rejected = msgspec.structs.replace(clip, id="b", rejected=True)
    project = Project(name="p", clips=(clip, rejected))
    (extent,) = clip_extents(project, {"a": video(100, 25), "b": video(100, 25)})
    assert (extent.width, extent.height) == (1280, 720)
    assert extent.seconds == pytest.approx(2.0)
    # Two seconds are 32 sixteenths; 29 is the largest 4n+1 among them.
    assert extent.longest == 29
