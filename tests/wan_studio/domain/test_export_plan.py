"""What is exported is what trains: the same clips, frames, captions and mirrored copies."""

from fractions import Fraction

import pytest

from trainer.protocol.job import CropBox
from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.domain.dataset_builder import ClipFiles
from wan_studio.domain.export_plan import ExportOptions, plan_export
from wan_studio.domain.job_builder import build_job
from wan_studio.domain.project import Project, ProjectClip, ProjectDataset, Settings


def video(name, frames=100, fps=25, **changes):
    base = SourceVideo(f"/clips/{name}", 9, 9, 128, 96, tuple(range(frames)), Fraction(1, fps), "h264")
    return SourceVideo(**{**{name: getattr(base, name) for name in base.__slots__}, **changes})


def clip(clip_id, name, **changes):
    return ProjectClip(id=clip_id, source=f"/clips/{name}", caption_file=f"/clips/{name}.txt", **changes)


def project(*clips, trigger="", extra=(), **settings):
    return Project(
        name="walks",
        trigger=trigger,
        clips=clips,
        settings=Settings().with_values({"datasets": settings}),
        extra_datasets=extra,
    )


def planned(project_, captions=None, problems=None, sources=None, **options):
    sources = sources or {
        one.id: video(one.source.rpartition("/")[2])
        for one in project_.clips
        if one.id not in (problems or {})
    }
    return plan_export(project_, ClipFiles(sources, captions or {}, problems or {}), ExportOptions(**options))


def paths(plan):
    return [one.path for one in plan.files]


def test_every_frame_of_the_trimmed_range_is_written_at_its_own_time():
    plan = planned(project(clip("a", "walk.mp4", trim=TrimRange(10, 60))))
    (written,) = plan.files
    assert written.recipe.frames == tuple(range(10, 60))
    assert written.recipe.stamps == tuple(range(50))
    assert written.recipe.time_base == (1, 25)
    assert written.path == "clips/walk.mp4"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sampling": "sliding", "windows": 3, "window_stride": 4},
        {"sampling": "random", "windows": 3},
        {"sampling": "whole_range"},
        {"num_frames": 81},
        {"flip_horizontal": True, "flip_vertical": True},
    ],
)
def test_as_the_model_sees_them_the_frames_are_those_of_the_job(settings):
    """The trainer reads the windows of the job; here they are, file by file."""
    wished = project(
        clip("a", "walk.mp4", trim=TrimRange(3, 95)),
        clip("b", "run.mp4", crop=CropBox(left=0, top=0, width=64, height=64)),
        trigger="frung",
        **{"num_frames": 17, **settings},
    )
    captions = {"a": "a man turns left, [trigger]", "b": "a run"}
    sources = {"a": video("walk.mp4"), "b": video("run.mp4")}
    (section,) = build_job(wished, sources, captions, "/cache").job.datasets
    plan = planned(wished, captions, sources=sources, frames="as_seen")
    seen = [
        (
            one.clip_id,
            tuple(one.source.frame_pts[at] for at in one.recipe.frames),
            one.caption,
            one.recipe.flip,
        )
        for one in plan.files
    ]
    names = {"/clips/walk.mp4": "a", "/clips/run.mp4": "b"}
    assert seen == [
        (names[spec.source], window, spec.caption, spec.flip)
        for spec in section.clips
        for window in spec.windows
    ]
    assert all(one.recipe.stamps == tuple(range(len(one.recipe.frames))) for one in plan.files)
    assert all(one.recipe.time_base == (1, 16) for one in plan.files)
    assert all(len(one.recipe.frames) % 4 == 1 for one in plan.files)
    assert len(set(paths(plan))) == len(seen)


def test_ranges_of_one_source_have_names_of_their_own_and_rejected_clips_none():
    ranges = [clip("a1", "walk.mp4", trim=TrimRange(0, 40)), clip("b2", "walk.mp4", trim=TrimRange(50, 90))]
    plan = planned(project(*ranges, clip("c3", "no.mp4", rejected=True)))
    assert paths(plan) == ["clips/walk.mp4", "clips/walk-b2.mp4"]
    # A clip put between the others renames none.
    more = planned(project(ranges[0], clip("d4", "walk.mp4", trim=TrimRange(40, 50)), ranges[1]))
    assert set(paths(plan)) < set(paths(more))
    assert plan.skipped == ()


def test_what_cannot_be_used_is_listed_with_its_sentence():
    plan = planned(
        project(clip("a", "walk.mp4"), clip("b", "bad.mp4"), clip("c", "wee.mp4", trim=TrimRange(0, 3))),
        problems={"b": "/clips/bad.mp4 is empty."},
    )
    # "c" is known; "b" is not.
    assert paths(plan) == ["clips/walk.mp4"]
    assert [(one.name, one.sentence) for one in plan.skipped] == [
        ("bad.mp4", "/clips/bad.mp4 is empty. It is left out."),
        ("wee.mp4", "wee.mp4 is left out: it is too short for 5 frames at 16 a second."),
    ]


def test_each_data_set_has_its_folder_and_held_out_clips_theirs():
    clips = [clip(f"c{at}", f"v{at}.mp4") for at in range(10)]
    extra = (ProjectDataset(name="Regular ones", role="regularization", changes={"repeats": 3}),)
    wished = project(
        *clips, clip("r", "people.mp4", dataset="Regular ones"), extra=extra, validation_share=0.2
    )
    plan = planned(wished)
    folders = [(one.role, one.folders, len(one.clips), one.settings.repeats) for one in plan.sets]
    assert folders == [
        ("training", ("clips",), 8, 1),
        ("validation", ("clips-held_out",), 2, 1),
        ("regularization", ("Regular_ones",), 1, 3),
    ]
    assert plan.notes[0].startswith("2 clips are held out of training in walks")


def test_ai_toolkit_fills_the_trigger_in_by_itself_and_musubi_tuner_finds_it_there():
    wished = project(
        clip("a", "walk.mp4"),
        clip("b", "run.mp4"),
        clip("c", "sit.mp4"),
        trigger="frung",
        default_caption="a man",
    )
    captions = {"a": "[trigger] walks", "b": "frung runs, frungy"}
    assert [one.caption for one in planned(wished, captions, layout="ai-toolkit").sets[0].clips] == [
        "[trigger] walks",
        "[trigger] runs, frungy",
        "[trigger], a man",
    ]
    assert [one.caption for one in planned(wished, captions, layout="musubi-tuner").files] == [
        "frung walks",
        "frung runs, frungy",
        "frung, a man",
    ]


def test_musubi_tuner_has_a_folder_for_each_rate_and_for_images():
    sources = {
        "a": video("a.mp4", fps=25),
        "b": video("b.mp4", fps=30),
        "c": video("c.png", frames=1),
    }
    wished = project(clip("a", "a.mp4"), clip("b", "b.mp4"), clip("c", "c.png"))
    assert paths(planned(wished, sources=sources, layout="musubi-tuner")) == [
        "clips-25fps/a.mp4",
        "clips-30fps/b.mp4",
        "clips-images/c.png",
    ]
    as_seen = planned(wished, sources=sources, layout="musubi-tuner", frames="as_seen")
    assert paths(as_seen)[:2] == ["clips/a.mp4", "clips/b.mp4"]
    assert paths(planned(wished, sources=sources, codec="ffv1"))[0] == "clips/a.mkv"


def test_previews_of_ai_toolkit_have_their_first_frames():
    plan = planned(
        project(clip("a", "walk.mp4", trim=TrimRange(7, 60))),
        {"a": "a walk"},
        layout="ai-toolkit",
    )
    (picture,) = plan.pictures
    assert (picture.path, picture.recipe.frames, picture.recipe.kind) == (
        "first_frames/walk.png",
        (7,),
        "image",
    )
    assert [(row.prompt, row.picture) for row in plan.rows] == [("a walk", "first_frames/walk.png")]


def test_stretched_pixels_and_hdr_are_said():
    sources = {"a": video("a.mp4", pixel_aspect=1.33), "b": video("b.mp4", is_hdr=True)}
    notes = planned(project(clip("a", "a.mp4"), clip("b", "b.mp4")), sources=sources).notes
    assert any("a.mp4 has pixels 1.33 times as wide" in note for note in notes)
    assert any("b.mp4 is HDR" in note for note in notes)
