"""Steps between project values, through JSON as they are kept."""

import msgspec
import pytest

from trainer.protocol.job import BucketSize, CropBox, SampleRow
from wan_studio.domain.clip import TrimRange
from wan_studio.domain.project import Project, ProjectClip, ProjectDataset
from wan_studio.domain.project_delta import DeltaError, ProjectDelta, delta_between, with_delta


def clip(name, **values):
    return ProjectClip(id=name, source=f"/{name}.mp4", caption_file=f"/{name}.txt", **values)


BASE = Project(name="p", clips=tuple(clip(name) for name in "abcde"))


def with_settings(project, **sections):
    return msgspec.structs.replace(project, settings=project.settings.with_values(sections))


def with_clips(project, *clips):
    return msgspec.structs.replace(project, clips=clips)


def reordered(project):
    a, b, _, d, e = project.clips
    return with_clips(project, e, b, clip("new", rating=2), a, d)


CUT = msgspec.structs.replace(
    BASE.clips[1], trim=TrimRange(3, 9), crop=CropBox(left=2, top=4, width=640, height=360), rating=4
)
FURTHER = ProjectDataset(name="more", role="regularization").with_changes({"resolutions": [256, 512]})

EDITS = {
    "name, goal and trigger": msgspec.structs.replace(BASE, name="q", goal="style", trigger="猫"),
    "settings": with_settings(
        BASE, training={"steps": 77, "learning_rate": 3e-5}, datasets={"resolutions": [256, 480]}
    ),
    "previews": with_settings(
        BASE,
        sample={
            "rows": [SampleRow(prompt="orbit", clip=2, size=BucketSize(width=640, height=480), num_frames=41)]
        },
    ),
    "a cut": BASE.with_clip(CUT),
    "rated and rejected": with_clips(
        BASE, *(msgspec.structs.replace(one, rating=3, rejected=True) for one in BASE.clips)
    ),
    "added": with_clips(BASE, *BASE.clips, clip("f"), clip("g", rating=1)),
    "put between": BASE.with_clips_after("b", (clip("b1"), clip("b2"))),
    "removed": BASE.without_clips({"a", "d"}),
    "all removed": with_clips(BASE),
    "moved about": reordered(BASE),
    "a data set with clips": msgspec.structs.replace(
        BASE, extra_datasets=(FURTHER,), clips=(*BASE.clips, clip("m", dataset="more"))
    ),
}


@pytest.mark.parametrize("before", EDITS)
@pytest.mark.parametrize("after", EDITS)
def test_a_step_leads_from_any_project_to_any_other_by_way_of_the_disk(before, after):
    one, other = EDITS[before], EDITS[after]
    kept = msgspec.msgpack.encode(delta_between(one, other))
    assert with_delta(one, msgspec.msgpack.decode(kept, type=ProjectDelta)) == other


def test_the_step_of_one_clip_in_thousands_is_small():
    many = with_clips(BASE, *(clip(f"c{at:04}") for at in range(5000)))
    cut = many.with_clip(msgspec.structs.replace(many.clips[2500], trim=TrimRange(3, 9)))
    assert len(msgspec.msgpack.encode(delta_between(many, cut))) < 100


def test_a_step_of_another_project_is_refused_with_a_sentence():
    delta = delta_between(BASE, BASE.with_clip(CUT))
    with pytest.raises(DeltaError, match="does not fit the project"):
        with_delta(BASE.without_clips({"b"}), delta)
    with pytest.raises(DeltaError):
        with_delta(BASE, ProjectDelta(settings={"training": {"steps": "many"}}))
