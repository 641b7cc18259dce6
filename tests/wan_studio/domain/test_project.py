import msgspec
import pytest

from trainer.protocol.job import DatasetSection
from wan_studio.domain.clip import TrimRange
from wan_studio.domain.project import (
    FIELDS_BY_ROLE,
    SHARED_FIELDS,
    DatasetNameError,
    DatasetSettings,
    Project,
    ProjectClip,
    ProjectDataset,
    ProjectNameError,
    Settings,
    SettingValueError,
    UnknownSettingError,
    checked_name,
)


def test_a_setting_is_changed_by_its_name_in_the_panels():
    settings = Settings().with_text("target.rank=32").with_text("save.every = 10")
    assert settings.target.rank == 32
    assert settings.save.every == 10
    assert settings.training == Settings().training


@pytest.mark.parametrize(
    ("assignment", "read", "value"),
    [
        ("datasets.resolutions=512,768", lambda s: s.datasets.resolutions, (512, 768)),
        ("datasets.resolutions=256", lambda s: s.datasets.resolutions, (256,)),
        ("multistage.boundary=0.875", lambda s: s.multistage.boundary, 0.875),
        ("target.alpha=none", lambda s: s.target.alpha, None),
        ("training.learning_rate=5e-5", lambda s: s.training.learning_rate, 5e-5),
        ("save.dtype=fp16", lambda s: s.save.dtype, "fp16"),
        ("datasets.sampling=sliding", lambda s: s.datasets.sampling, "sliding"),
        ("datasets.windows=7", lambda s: s.datasets.windows, 7),
        ("datasets.window_stride=20", lambda s: s.datasets.window_stride, 20),
        ("datasets.flip_horizontal=true", lambda s: s.datasets.flip_horizontal, True),
        ("datasets.flip_vertical=1", lambda s: s.datasets.flip_vertical, True),
        ("datasets.allow_upscale=false", lambda s: s.datasets.allow_upscale, False),
        ("datasets.trigger=ohwx man", lambda s: s.datasets.trigger, "ohwx man"),
        ("datasets.caption_dropout=0.05", lambda s: s.datasets.caption_dropout, 0.05),
        ("datasets.caption_dropout_to=trigger", lambda s: s.datasets.caption_dropout_to, "trigger"),
        ("datasets.weight=0.5", lambda s: s.datasets.weight, 0.5),
        ("datasets.loss_weight=0", lambda s: s.datasets.loss_weight, 0.0),
        ("datasets.lora_strength=-1", lambda s: s.datasets.lora_strength, -1.0),
        ("datasets.condition_noise=0.1", lambda s: s.datasets.condition_noise, 0.1),
        ("datasets.validation_share=0.1", lambda s: s.datasets.validation_share, 0.1),
        (
            "datasets.default_caption=a clip, slowly = turning",
            lambda s: s.datasets.default_caption,
            "a clip, slowly = turning",
        ),
    ],
)
def test_text_becomes_a_value_of_the_settings_kind(assignment, read, value):
    assert read(Settings().with_text(assignment)) == value


@pytest.mark.parametrize("assignment", ["target.rnk=32", "targets.rank=32", "target.rank", "rank=3", "=3"])
def test_a_misspelt_setting_is_named_with_those_that_exist(assignment):
    with pytest.raises(UnknownSettingError) as raised:
        Settings().with_text(assignment)
    assert assignment.split("=")[0] in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("target.rank=zero", "target.rank cannot be 'zero': expected int, got str."),
        ("target.rank=0", "target.rank cannot be '0': expected int >= 1."),
        ("datasets.resolutions=500", "datasets.resolutions cannot be"),
        ("save.dtype=fp8", "save.dtype cannot be 'fp8'"),
        ("training.learning_rate=0", "training.learning_rate cannot be '0'"),
        ("training.steps=none", "training.steps cannot be"),
        ("datasets.sampling=tail", "datasets.sampling cannot be 'tail'"),
        ("datasets.windows=0", "datasets.windows cannot be '0'"),
        ("datasets.window_stride=-1", "datasets.window_stride cannot be '-1'"),
        ("datasets.flip_horizontal=sideways", "datasets.flip_horizontal cannot be 'sideways'"),
        ("datasets.allow_upscale=2", "datasets.allow_upscale cannot be '2'"),
        ("datasets.caption_dropout=1.5", "datasets.caption_dropout cannot be '1.5'"),
        ("datasets.caption_dropout_to=nothing", "datasets.caption_dropout_to cannot be 'nothing'"),
        ("datasets.weight=0", "datasets.weight cannot be '0'"),
        ("datasets.loss_weight=-1", "datasets.loss_weight cannot be '-1'"),
        ("datasets.lora_strength=nan", "datasets.lora_strength cannot be 'nan'"),
        ("datasets.lora_strength=inf", "datasets.lora_strength cannot be 'inf'"),
        ("datasets.condition_noise=-0.1", "datasets.condition_noise cannot be '-0.1'"),
        ("datasets.validation_share=0.6", "datasets.validation_share cannot be '0.6'"),
    ],
)
def test_a_wrong_value_is_refused_with_the_name_of_its_field(assignment, words):
    with pytest.raises(SettingValueError) as raised:
        Settings().with_text(assignment)
    assert words in raised.value.message
    assert "$" not in raised.value.message


def test_a_project_comes_back_from_json_as_it_was():
    clip = ProjectClip(id="a", source="/c/a.mp4", caption_file="/c/a.txt", trim=TrimRange(3, 40))
    project = Project(name="p", trigger="w", clips=(clip,), settings=Settings().with_text("target.rank=4"))
    assert msgspec.json.decode(msgspec.json.encode(project), type=Project) == project


def test_a_misspelt_field_in_a_project_is_an_error():
    with pytest.raises(msgspec.ValidationError, match="trigge"):
        msgspec.json.decode(b'{"name": "p", "trigge": "w"}', type=Project)


def test_changing_a_clip_leaves_the_others():
    clips = tuple(ProjectClip(id=name, source=name, caption_file=name) for name in "abc")
    project = Project(name="p", clips=clips)
    changed = project.with_clip(msgspec.structs.replace(clips[1], rejected=True))
    assert [clip.rejected for clip in changed.clips] == [False, True, False]
    assert project.clip("b").rejected is False
    with pytest.raises(KeyError):
        project.clip("d")


@pytest.mark.parametrize(
    "name", ["", "  ", "a/b", "a\\b", "a:b", "what?", "a\tb", "NUL", "com1.old", "end.", " x", "y" * 101]
)
def test_a_name_that_files_cannot_carry_is_refused(name):
    with pytest.raises(ProjectNameError):
        checked_name(name)


@pytest.mark.parametrize("name", ["my lora", "春の猫", "v1.2", "con-cat", "y" * 100])
def test_an_ordinary_name_is_taken_as_it_is(name):
    assert checked_name(name) == name


def test_settings_and_job_agree_on_what_a_data_set_starts_with():
    settings = msgspec.to_builtins(DatasetSettings())
    clip = {"source": "a", "source_bytes": 1, "source_modified_ns": 1, "windows": [[0]], "caption": ""}
    clip["sizes"] = [{"width": 16, "height": 16, "crop": {"left": 0, "top": 0, "width": 9, "height": 9}}]
    needed = {"name": "n", "clips": [clip], "num_frames": 1, "resolutions": [16]}
    section = msgspec.to_builtins(msgspec.convert(needed, DatasetSection))
    for field in set(settings) & set(section) - set(needed):
        assert settings[field] == section[field], field


def test_a_further_data_set_takes_frames_and_sizes_of_the_main_one_and_nothing_else():
    main = DatasetSettings(num_frames=17, resolutions=(64,), sampling="middle", loss_weight=0.5, repeats=3)
    dataset = ProjectDataset(name="r", role="regularization", changes={"weight": 0.25})
    assert dataset.settings(main) == DatasetSettings(
        num_frames=17, resolutions=(64,), sampling="middle", weight=0.25
    )
    changed = dataset.with_text("resolutions", "256, 512").with_text("num_frames", "9")
    assert changed.settings(main).resolutions == (256, 512)
    assert changed.settings(main).num_frames == 9
    assert changed.settings(main).weight == 0.25


@pytest.mark.parametrize(
    ("role", "field"),
    [
        ("regularization", "trigger"),
        ("regularization", "validation_share"),
        ("validation", "loss_weight"),
        ("validation", "flip_horizontal"),
        ("training", "wieght"),
    ],
)
def test_a_field_that_does_nothing_in_a_role_is_refused_by_name(role, field):
    dataset = ProjectDataset(name="extra", role=role)
    with pytest.raises(UnknownSettingError) as raised:
        dataset.with_text(field, "1")
    assert f"extra.{field}" in raised.value.message
    assert f"extra.{SHARED_FIELDS[0]}" in raised.value.hint
    assert field not in FIELDS_BY_ROLE[role]


def test_a_wrong_value_of_a_further_data_set_is_refused_by_name():
    dataset = ProjectDataset(name="extra", role="training")
    with pytest.raises(SettingValueError, match=r"extra\.weight cannot be '0'"):
        dataset.with_text("weight", "0")
    with pytest.raises(SettingValueError, match=r"extra\.repeats"):
        ProjectDataset(name="extra", role="training", changes={"repeats": -1})


def labelled(name: str, dataset: str) -> ProjectClip:
    return ProjectClip(id=name, source=name, caption_file=name, dataset=dataset)


def test_a_project_of_several_data_sets_comes_back_from_json_as_it_was():
    dataset = ProjectDataset(name="r", role="regularization").with_text("resolutions", "256,512")
    project = Project(name="p", clips=(labelled("a", ""), labelled("b", "r")), extra_datasets=(dataset,))
    assert msgspec.json.decode(msgspec.json.encode(project), type=Project) == project
    assert [clip.id for clip in project.clips_of("r")] == ["b"]
    assert [clip.id for clip in project.clips_of("")] == ["a"]


def test_a_clip_always_belongs_to_a_data_set_that_exists():
    with pytest.raises(DatasetNameError, match="'r'"):
        Project(name="p", clips=(labelled("b", "r"),))
    dataset = ProjectDataset(name="r", role="validation")
    with pytest.raises(DatasetNameError, match="twice"):
        Project(name="p", extra_datasets=(dataset, dataset))
    project = Project(name="p").with_dataset(dataset)
    project = msgspec.structs.replace(project, clips=(labelled("a", ""), labelled("b", "r")))
    assert project.with_dataset(dataset.with_text("num_frames", "5")).dataset_settings("r").num_frames == 5
    left = project.without_dataset("r")
    assert (left.extra_datasets, [clip.id for clip in left.clips]) == ((), ["a"])


def test_every_data_set_has_its_trigger_but_regularization_has_none():
    project = Project(
        name="p",
        trigger="w",
        extra_datasets=(
            ProjectDataset(name="own", role="training", changes={"trigger": " mine "}),
            ProjectDataset(name="reg", role="regularization"),
            ProjectDataset(name="val", role="validation"),
        ),
    )
    names = ["", "own", "reg", "val"]
    assert [project.dataset_trigger(name) for name in names] == ["w", "mine", "", "w"]
    project = msgspec.structs.replace(project, settings=Settings().with_text("datasets.trigger=main"))
    assert [project.dataset_trigger(name) for name in names] == ["main", "mine", "", "w"]
