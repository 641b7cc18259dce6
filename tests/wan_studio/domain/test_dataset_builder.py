"""What becomes of the clips of several data sets: roles, held-out clips, windows, mirrored copies."""

from dataclasses import replace
from fractions import Fraction

import msgspec
import pytest

from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.job_builder import BuiltJob, NothingToTrainError, build_job
from wan_studio.domain.project import Project, ProjectClip, ProjectDataset, Settings


def source(name: str, frames: int = 120, rate: int = 16, **changes) -> SourceVideo:
    made = SourceVideo(
        path=f"/clips/{name}.mp4",
        size_bytes=10,
        modified_ns=20,
        width=640,
        height=480,
        frame_pts=tuple(range(frames)),
        time_base=Fraction(1, rate),
        codec="h264",
    )
    return replace(made, **changes)


def built(clips: dict[str, str], *changes: str, extra=(), captions=None, **project) -> BuiltJob:
    """The job of clips (id to data set) with settings given as text, and a caption for each."""
    settings = Settings()
    for change in changes:
        settings = settings.with_text(change)
    made = Project(
        name="p",
        settings=settings,
        extra_datasets=tuple(extra),
        clips=tuple(
            ProjectClip(id=i, source=f"/clips/{i}.mp4", caption_file=f"/clips/{i}.txt", dataset=dataset)
            for i, dataset in clips.items()
        ),
        **project,
    )
    captions = captions or dict.fromkeys(clips, "a [trigger] turns")
    return build_job(made, {i: source(i) for i in clips}, captions, "/cache")


def stems(section) -> list[str]:
    return [clip.source.removeprefix("/clips/").removesuffix(".mp4") for clip in section.clips]


REGULARIZATION = ProjectDataset(name="people", role="regularization")
VALIDATION = ProjectDataset(name="unseen", role="validation")


def test_each_data_set_has_its_role_and_settings_and_regularization_no_trigger():
    extra = [REGULARIZATION.with_text("loss_weight", "0.5").with_text("num_frames", "9"), VALIDATION]
    job = built(
        {"a": "", "r": "people", "v": "unseen", "b": ""},
        "datasets.caption_dropout=0.1",
        "datasets.lora_strength=0.7",
        extra=extra,
        trigger="w",
    ).job
    main, people, unseen = job.datasets
    assert [(d.name, d.role, stems(d)) for d in job.datasets] == [
        ("p", "training", ["a", "b"]),
        ("people", "regularization", ["r"]),
        ("unseen", "validation", ["v"]),
    ]
    assert [d.clips[0].caption for d in job.datasets] == ["a w turns", "a turns", "a w turns"]
    assert (main.caption_dropout, main.lora_strength, main.loss_weight) == (0.1, 0.7, 1.0)
    assert (people.caption_dropout, people.lora_strength, people.loss_weight) == (0.0, 1.0, 0.5)
    assert [len(d.clips[0].windows[0]) for d in job.datasets] == [41, 9, 41]
    assert (people.num_frames, unseen.num_frames) == (9, 41)


@pytest.mark.parametrize(
    ("change", "read"),
    [
        ("repeats=3", 3),
        ("weight=0.5", 0.5),
        ("loss_weight=2", 2.0),
        ("lora_strength=-1", -1.0),
        ("caption_dropout=0.25", 0.25),
        ("caption_dropout_to=trigger", "trigger"),
        ("condition_share=0.75", 0.75),
        ("condition_noise=0.2", 0.2),
        ("condition_blur=1.5", 1.5),
        ("condition_quality=40", 40),
        ("trigger=own", "own"),
    ],
)
def test_what_the_trainer_reads_reaches_the_job(change, read):
    (section,) = built({"a": ""}, f"datasets.{change}").job.datasets
    assert getattr(section, change.partition("=")[0]) == read


def test_a_data_sets_own_trigger_fills_its_captions():
    extra = [ProjectDataset(name="second", role="training").with_text("trigger", "other")]
    job = built({"a": "", "b": "second"}, extra=extra, trigger="w").job
    assert [clip.caption for clip in job.clips] == ["a w turns", "a other turns"]
    assert [(d.role, d.trigger) for d in job.datasets] == [("training", ""), ("training", "other")]


def test_a_data_set_without_usable_clips_is_left_out_and_said():
    made = built({"a": ""}, extra=[REGULARIZATION])
    assert len(made.job.datasets) == 1
    assert made.notes == ("The data set people has no clip that can be used; it is left out.",)


def test_clips_that_only_regularize_or_validate_train_nothing():
    with pytest.raises(NothingToTrainError):
        built({"r": "people", "v": "unseen"}, extra=[REGULARIZATION, VALIDATION])


def test_what_trains_comes_first_even_when_the_main_data_set_is_empty():
    extra = [REGULARIZATION, ProjectDataset(name="second", role="training")]
    job = built({"r": "people", "a": "second"}, extra=extra).job
    assert [section.role for section in job.datasets] == ["training", "regularization"]
    assert job.sample.rows[0].prompt == job.clips[0].caption == "a turns"


def test_every_window_of_a_rule_reaches_the_job():
    (clip,) = built({"a": ""}, "datasets.sampling=sliding", "datasets.windows=3").job.clips
    assert clip.windows == tuple(tuple(range(start, start + 41)) for start in (0, 16, 32))
    (clip,) = built({"a": ""}, "datasets.sampling=middle").job.clips
    assert clip.windows == (tuple(range(39, 80)),)
    (drawn,) = built({"a": ""}, "datasets.sampling=random", "datasets.windows=5").job.clips
    assert len(drawn.windows) == 5
    (other,) = built({"a": ""}, "datasets.sampling=random", "datasets.windows=5", "training.seed=1").job.clips
    assert other.windows != drawn.windows


def test_clips_draw_their_random_windows_independently():
    one, two = built({"a": "", "b": ""}, "datasets.sampling=random").job.clips
    assert one.windows != two.windows


def test_a_small_picture_is_enlarged_only_when_asked():
    small = {"a": source("a", width=160, height=120)}
    project = Project(name="p", clips=(ProjectClip(id="a", source="/clips/a.mp4", caption_file="a"),))
    sizes = []
    for allowed in ("false", "true"):
        settings = Settings().with_text(f"datasets.allow_upscale={allowed}")
        job = build_job(msgspec.structs.replace(project, settings=settings), small, {}, "/cache").job
        sizes.append((job.clips[0].sizes[0].width, job.clips[0].sizes[0].height))
    assert sizes == [(160, 112), (592, 448)]


def test_flips_add_mirrored_copies_with_turned_captions_after_the_clips():
    captions = {"a": "turns left, tilts up", "b": "a [trigger] stands"}
    made = built(
        {"a": "", "b": ""},
        "datasets.flip_horizontal=true",
        "datasets.flip_vertical=true",
        captions=captions,
        trigger="w",
    )
    (section,) = made.job.datasets
    assert [(clip.flip, clip.caption) for clip in section.clips] == [
        ("none", "w, turns left, tilts up"),
        ("none", "a w stands"),
        ("horizontal", "w, turns right, tilts up"),
        ("horizontal", "a w stands"),
        ("vertical", "w, turns left, tilts down"),
        ("vertical", "a w stands"),
        ("both", "w, turns right, tilts down"),
        ("both", "a w stands"),
    ]
    assert {clip.windows for clip in section.clips if "a.mp4" in clip.source} == {section.clips[0].windows}
    assert made.notes[0] == 'a.mp4, mirrored left to right: "left" turned round in its caption.'
    assert len(made.notes) == 3


def test_one_flip_doubles_the_clips_and_an_unclear_word_is_named():
    made = built({"a": ""}, "datasets.flip_horizontal=true", captions={"a": "it stops right away"})
    assert [clip.flip for clip in made.job.clips] == ["none", "horizontal"]
    assert made.job.clips[1].caption == "it stops right away"
    assert '"right away"' in made.notes[0]


def test_a_trigger_that_names_a_direction_is_warned_about():
    made = built({"a": ""}, "datasets.flip_horizontal=true", trigger="spin_left")
    assert made.job.clips[1].caption == "a spin_left turns"
    assert '"spin_left" names a direction' in made.notes[0]


NAMES = [f"clip{number}" for number in range(20)]


def test_a_share_is_held_out_by_clip_id_and_does_not_train():
    made = built(dict.fromkeys(NAMES, ""), "datasets.validation_share=0.2", "datasets.flip_horizontal=true")
    training, held_out = made.job.datasets
    assert (held_out.role, held_out.name) == ("validation", "p, held out")
    assert len(held_out.clips) == 4
    assert sorted({*stems(training), *stems(held_out)}) == sorted(NAMES)
    assert not set(stems(training)) & set(stems(held_out))
    assert all(clip.flip == "none" for clip in held_out.clips)
    assert len(training.clips) == 32
    assert all(f"{name}.mp4" in made.notes[0] for name in stems(held_out))
    # Another order of the clips holds out the same ones; one clip more changes at most one.
    again = built(dict.fromkeys(reversed(NAMES), ""), "datasets.validation_share=0.2").job.datasets[1]
    assert set(stems(again)) == set(stems(held_out))
    more = built(dict.fromkeys([*NAMES, "new"], ""), "datasets.validation_share=0.2").job.datasets[1]
    assert len(set(stems(more)) & set(stems(held_out))) >= 3


@pytest.mark.parametrize(("clips", "held_out"), [(7, 0), (8, 1), (12, 1), (20, 1), (16, 1)])
def test_few_clips_are_all_needed_for_training(clips, held_out):
    made = built(dict.fromkeys(NAMES[:clips], ""), "datasets.validation_share=0.05")
    assert sum(len(d.clips) for d in made.job.datasets if d.role == "validation") == held_out
    assert ("too few" in " ".join(made.notes)) is (held_out == 0)


def test_nothing_is_held_out_unless_asked():
    made = built(dict.fromkeys(NAMES, ""))
    assert len(made.job.datasets) == 1
    assert made.notes == ()


def test_what_is_held_out_is_measured_as_it_is():
    made = built(
        dict.fromkeys(NAMES, ""),
        *("datasets.validation_share=0.5", "datasets.loss_weight=3", "datasets.repeats=2"),
        *("datasets.caption_dropout=0.5", "datasets.condition_noise=0.5", "datasets.lora_strength=0.5"),
    )
    held_out = made.job.datasets[1]
    assert (held_out.loss_weight, held_out.repeats, held_out.caption_dropout) == (1.0, 1, 0.0)
    assert (held_out.condition_noise, held_out.lora_strength) == (0.0, 1.0)


def test_a_preview_names_a_clip_of_the_project_wherever_it_lands_in_the_job():
    rows = [
        {"prompt": "p", "clip": clip, "image": image, "size": {"width": 64, "height": 64}, "num_frames": 5}
        for clip, image in [(3, ""), (1, ""), (4, ""), (3, "/a.png"), (99, "")]
    ]
    settings = Settings().with_values({"sample": {"rows": rows}, "datasets": {"flip_horizontal": True}})
    names = {"a": "", "gone": "", "b": "", "r": "people", "c": ""}
    project = Project(
        name="p",
        settings=settings,
        extra_datasets=(REGULARIZATION,),
        clips=tuple(
            ProjectClip(id=i, source=i, caption_file=i, dataset=dataset, rejected=i == "gone")
            for i, dataset in names.items()
        ),
    )
    made = build_job(project, {i: source(i) for i in names}, {}, "/cache")
    shown = [made.job.clips[row.clip].source for row in made.job.sample.rows]
    assert [path.removeprefix("/clips/") for path in shown] == ["r.mp4", "a.mp4", "c.mp4", "a.mp4", "a.mp4"]
    assert all(made.job.clips[row.clip].flip == "none" for row in made.job.sample.rows)
    assert [note for note in made.notes if note.startswith("Preview")] == [
        f"Preview {number} continues the first clip: the one that it names does not train."
        for number in (2, 5)
    ]


def test_output_preservation_without_a_trigger_is_switched_off_and_said():
    wish = "training.diff_output_preservation=true"
    without = built({"a": ""}, wish)
    assert not without.job.training.diff_output_preservation
    assert "Differential output preservation is off" in without.notes[0]
    for change, trigger in (("datasets.trigger=w", ""), ("training.preservation_prompt=a man", "")):
        made = built({"a": ""}, wish, change, trigger=trigger)
        assert made.job.training.diff_output_preservation
        assert made.notes == ()
    assert built({"a": ""}, wish, trigger="w").job.training.diff_output_preservation


def test_dropping_to_a_trigger_that_is_not_there_is_said():
    made = built({"a": ""}, "datasets.caption_dropout=0.1", "datasets.caption_dropout_to=trigger")
    assert "Dropped captions become empty" in made.notes[0]
    assert not built(
        {"a": ""}, "datasets.caption_dropout=0.1", "datasets.caption_dropout_to=trigger", trigger="w"
    ).notes
