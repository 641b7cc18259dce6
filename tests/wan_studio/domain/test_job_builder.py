from dataclasses import replace
from fractions import Fraction

import msgspec
import pytest

from trainer.protocol.job import CropBox, JobSpec
from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.domain.job_builder import NothingToTrainError, build_job
from wan_studio.domain.project import Project, ProjectClip, Settings


def source(name: str, frames: int = 120, rate: int = 30, **changes) -> SourceVideo:
    made = SourceVideo(
        path=f"/clips/{name}.mp4",
        size_bytes=10,
        modified_ns=20,
        width=640,
        height=480,
        frame_pts=tuple(range(0, frames * 100, 100)),
        time_base=Fraction(1, rate * 100),
        codec="h264",
    )
    return replace(made, **changes)


def project(*ids: str, settings: Settings | None = None, **changes) -> Project:
    clips = tuple(ProjectClip(id=i, source=f"/clips/{i}.mp4", caption_file=f"/clips/{i}.txt") for i in ids)
    return Project(name="p", clips=clips, settings=settings or Settings(), **changes)


def test_a_job_holds_every_decision_and_survives_json():
    built = build_job(project("a", trigger="w"), {"a": source("a")}, {"a": "a [trigger] turns"}, "/cache")
    (clip,) = built.job.clips
    assert clip.caption == "a w turns"
    assert (clip.source_bytes, clip.source_modified_ns) == (10, 20)
    # 30 frames a second sampled at 16: the frame on screen at each sixteenth.
    assert clip.windows == (tuple(100 * (i * 30 // 16) for i in range(41)),)
    assert [(size.width, size.height) for size in clip.sizes] == [(592, 448)]
    assert built.notes == ()
    assert msgspec.json.decode(msgspec.json.encode(built.job), type=JobSpec) == built.job


def test_the_automatic_preview_continues_the_first_clip():
    built = build_job(project("a"), {"a": source("a")}, {"a": "it turns"}, "/cache")
    (row,) = built.job.sample.rows
    assert (row.prompt, row.clip, row.image, row.num_frames) == ("it turns", 0, "", 41)
    assert (row.size.width, row.size.height) == (592, 448)


def test_no_previews_means_no_row():
    settings = Settings().with_text("sample.every=0")
    built = build_job(project("a", settings=settings), {"a": source("a")}, {}, "/cache")
    assert built.job.sample.rows == ()


def test_a_clip_that_is_too_short_trains_with_fewer_frames_and_says_so():
    built = build_job(project("a"), {"a": source("a", frames=47)}, {}, "/cache")
    assert len(built.job.clips[0].windows[0]) == 25
    assert "a.mp4 trains with 25 frames" in built.notes[0]
    assert "41" in built.notes[0]


def test_a_clip_below_five_frames_is_left_out_with_a_note():
    built = build_job(
        project("a", "b"), {"a": source("a", frames=7), "b": source("b")}, {"b": "kept"}, "/cache"
    )
    assert [clip.caption for clip in built.job.clips] == ["kept"]
    assert built.notes[0].startswith("a.mp4 is left out")


def test_an_image_trains_as_one_frame_without_a_note():
    still = source("a", frames=1)
    built = build_job(project("a"), {"a": still}, {}, "/cache")
    assert built.job.clips[0].windows == ((0,),)
    assert built.notes == ()


def test_a_clip_without_a_source_is_left_out_with_its_own_reason():
    built = build_job(project("a", "b"), {"b": source("b")}, {}, "/cache", {"a": "/clips/a.mp4 is empty."})
    assert built.notes == ("/clips/a.mp4 is empty. It is left out.",)


def test_rejected_clips_are_passed_over_in_silence():
    made = project("a", "b")
    made = made.with_clip(msgspec.structs.replace(made.clip("a"), rejected=True))
    built = build_job(made, {"b": source("b")}, {}, "/cache")
    assert len(built.job.clips) == 1
    assert built.notes == ()


def test_nothing_left_is_an_error_that_says_why():
    with pytest.raises(NothingToTrainError, match=r"a\.mp4 is left out"):
        build_job(project("a"), {"a": source("a", frames=3)}, {}, "/cache")
    with pytest.raises(NothingToTrainError):
        build_job(project(), {}, {}, "/cache")


@pytest.mark.parametrize(
    "change",
    [
        {"trim": TrimRange(100, 121)},
        {"trim": TrimRange(500, 600)},
        {"crop": CropBox(left=600, top=0, width=100, height=100)},
    ],
)
def test_a_range_or_crop_beyond_a_changed_file_is_left_out_and_said(change):
    made = project("a", "b")
    made = made.with_clip(msgspec.structs.replace(made.clip("a"), **change))
    built = build_job(made, {"a": source("a"), "b": source("b")}, {}, "/cache")
    assert len(built.job.clips) == 1
    assert "a.mp4" in built.notes[0]
    assert "120 frames of 640 x 480" in built.notes[0]


def test_a_crop_and_a_trim_reach_the_job():
    made = project("a")
    made = made.with_clip(
        msgspec.structs.replace(
            made.clip("a"), trim=TrimRange(30, 120), crop=CropBox(left=80, top=0, width=480, height=480)
        )
    )
    built = build_job(made, {"a": source("a")}, {}, "/cache")
    (clip,) = built.job.clips
    assert clip.windows[0][0] == 3000
    (size,) = clip.sizes
    assert (size.width, size.height) == (480, 480)
    assert (size.crop.left, size.crop.width, size.crop.height) == (80, 480, 480)


def test_resolutions_that_give_the_same_bucket_train_once():
    settings = Settings().with_text("datasets.resolutions=512,768,1024")
    small = source("a", width=320, height=240)
    built = build_job(project("a", settings=settings), {"a": small}, {}, "/cache")
    assert [(size.width, size.height) for size in built.job.clips[0].sizes] == [(320, 240)]


def test_a_frame_count_that_is_not_4n_plus_1_is_rounded_and_said():
    settings = Settings().with_text("datasets.num_frames=40")
    built = build_job(project("a", settings=settings), {"a": source("a")}, {}, "/cache")
    assert built.job.datasets[0].num_frames == 37
    assert len(built.job.clips[0].windows[0]) == 37
    assert "37 frames are used instead of 40" in built.notes[0]


def test_a_previews_trigger_is_filled_in_and_never_added():
    rows = [
        {"prompt": "orbit around the [trigger]", "size": {"width": 64, "height": 64}, "num_frames": 9},
        {"prompt": "a castle", "size": {"width": 64, "height": 64}, "num_frames": 9, "clip": 1},
    ]
    settings = Settings().with_values({"sample": {"rows": rows}})
    sources = {"a": source("a"), "b": source("b")}
    built = build_job(project("a", "b", settings=settings, trigger="frung"), sources, {}, "/cache")
    assert [row.prompt for row in built.job.sample.rows] == ["orbit around the frung", "a castle"]
    assert [row.clip for row in built.job.sample.rows] == [0, 1]
    without = build_job(project("a", "b", settings=settings), sources, {}, "/cache")
    assert without.job.sample.rows[0].prompt == "orbit around the"


def test_memory_quantization_and_gpus_reach_the_job():
    settings = Settings()
    for assignment in (
        "job.gpu=1",
        "job.more_gpus=2,3",
        "model.layer_offloading=0.5",
        "model.resident_blocks=none",
        "quantization.transformer=float8_compute",
        "training.kept_activations=sums",
        "training.kept_blocks=4",
    ):
        settings = settings.with_text(assignment)
    job = build_job(project("a", trigger="w", settings=settings), {"a": source("a")}, {}, "/cache").job
    assert (job.job.name, job.job.trigger, job.job.gpu, job.job.more_gpus) == ("p", "w", 1, (2, 3))
    assert (job.model.layer_offloading, job.model.resident_blocks) == (0.5, None)
    assert job.quantization.transformer == "float8_compute"
    assert (job.training.kept_activations, job.training.kept_blocks) == ("sums", 4)
