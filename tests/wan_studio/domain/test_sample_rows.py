from fractions import Fraction

import msgspec
import pytest

from trainer.protocol.job import BucketSize, CropBox, SampleRow
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.project import Project, ProjectClip, Settings, SettingValueError
from wan_studio.domain.sample_rows import new_row, next_clip, with_row_value


def clip(name, **changes):
    return ProjectClip(id=name, source=f"/clips/{name}.mp4", caption_file=f"/clips/{name}.txt", **changes)


def sample(clip=0, **changes):
    return SampleRow(prompt="p", clip=clip, size=BucketSize(width=64, height=64), num_frames=9, **changes)


def test_a_new_row_takes_the_next_clip_that_trains_with_its_caption_and_bucket():
    project = Project(
        name="p",
        clips=(
            clip("a", rejected=True),
            clip("b"),
            clip("c", crop=CropBox(left=0, top=0, width=540, height=960)),
        ),
    )
    assert next_clip(project, ()) == 1
    assert next_clip(project, (sample(1),)) == 2
    assert next_clip(project, (sample(1, image="/x.png"),)) == 1, "a picture of its own takes no clip"
    assert next_clip(project, (sample(1), sample(2))) == 1
    assert next_clip(Project(name="p"), ()) is None
    source = SourceVideo("/c", 1, 1, 1920, 1080, tuple(range(40)), Fraction(1, 30), "h264")
    row = new_row(project, 2, "  an orbit ", source)
    assert (row.prompt, row.clip, row.num_frames) == ("an orbit", 2, 41)
    assert row.size.height > row.size.width, "the crop's aspect, not the file's"
    assert row.size.width * row.size.height <= 512 * 512 * 1.02
    assert new_row(project, 1, "", None).size == BucketSize(width=512, height=512)


@pytest.mark.parametrize(
    ("field", "value"), [("width", 100), ("height", 0), ("num_frames", 40), ("seed", -1), ("steps", 0)]
)
def test_values_that_cannot_be_rendered_are_refused(field, value):
    with pytest.raises(SettingValueError):
        with_row_value(sample(), field, value)


def test_values_that_can_be_rendered_are_taken():
    assert with_row_value(sample(), "width", 80).size == BucketSize(width=80, height=64)
    assert with_row_value(sample(), "num_frames", 41).num_frames == 41
    assert with_row_value(sample(steps=4), "steps", None).steps is None


def test_rows_follow_their_clips_when_others_are_removed():
    rows = (sample(0), sample(2), sample(1), sample(9))
    settings = msgspec.structs.replace(
        Settings(), sample=msgspec.structs.replace(Settings().sample, rows=rows)
    )
    project = Project(name="p", clips=(clip("a"), clip("b"), clip("c")), settings=settings)
    left = project.without_clips({"b"})
    assert [one.id for one in left.clips] == ["a", "c"]
    # Of a removed clip, or of one that never was, the first is taken.
    assert [row.clip for row in left.settings.sample.rows] == [0, 1, 0, 0]
