import msgspec
import pytest

from wan_studio.domain.clip import TrimRange
from wan_studio.domain.project import (
    Project,
    ProjectClip,
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
