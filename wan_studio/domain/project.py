"""A project: goal, clips with their ranges and crops, and settings; what `project.json` holds."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from trainer.protocol.job import (
    CropBox,
    FileName,
    ModelSection,
    MultistageSection,
    PixelSize,
    Positive,
    SampleSection,
    SaveSection,
    TargetSection,
    TrainingSection,
)
from wan_studio.domain.clip import TrimRange
from wan_studio.domain.frame_sampling import SamplingRule
from wan_studio.errors import AppError

FORMAT_VERSION = 1

LONGEST_NAME = 100
FORBIDDEN_IN_NAMES = '\\/:*?"<>|'
RESERVED_NAMES = frozenset(
    {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10))}
)

Goal = Literal["motion", "style", "character"]


class UnknownSettingError(AppError):
    """A `section.field` that does not exist."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"There is no setting {name}.", f"Known: {', '.join(known)}.")


class SettingValueError(AppError):
    """A setting's value is not one that it can take."""

    def __init__(self, name: str, value: str, problem: str) -> None:
        # The checker's words, less its marks and its path: "Expected `int` >= 1 - at `$.steps`".
        problem = problem.split(" - at ")[0].replace("`", "")
        super().__init__(f"{name} cannot be {value!r}: {problem[:1].lower()}{problem[1:]}.")


class ProjectNameError(AppError):
    """A name that cannot name files on every system."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(
            f"The name {name!r} cannot be used: {problem}.", "Files and folders are named by it."
        )


def checked_name(name: str) -> str:
    """The name, if files can carry it on Linux and Windows.

    Raises:
        ProjectNameError: empty, too long, or with characters or words that file systems refuse.
    """
    if not name.strip():
        raise ProjectNameError(name, "it is empty")
    if len(name) > LONGEST_NAME:
        raise ProjectNameError(name, f"it is longer than {LONGEST_NAME} characters")
    forbidden = sorted({letter for letter in name if letter in FORBIDDEN_IN_NAMES or ord(letter) < ord(" ")})
    if forbidden:
        raise ProjectNameError(name, f"it holds {' '.join(map(repr, forbidden))}")
    if name != name.strip() or name.endswith("."):
        raise ProjectNameError(name, "it begins or ends with a space, or ends with a full stop")
    if name.split(".")[0].upper() in RESERVED_NAMES:
        raise ProjectNameError(name, "Windows keeps it for itself")
    return name


class DatasetSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """DATASETS, before clips are resolved.

    Attributes:
        num_frames: Frames of a clip as it trains; rounded down to 4n+1.
        resolutions: Side of the square whose area a bucket keeps; a clip trains once at each.
        sampling: Real speed (16 frames a second) or the whole trimmed range at any speed.
        default_caption: Used where a clip has none.
    """

    num_frames: Positive = 41
    resolutions: Annotated[tuple[PixelSize, ...], Meta(min_length=1)] = (512,)
    sampling: SamplingRule = "real_speed"
    default_caption: str = ""
    repeats: Positive = 1


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every knob, in the job's own sections, so that no default stands twice.

    `sample.rows` empty means one row that continues the first clip.
    """

    model: ModelSection = ModelSection()
    multistage: MultistageSection = MultistageSection()
    target: TargetSection = TargetSection()
    save: SaveSection = SaveSection()
    training: TrainingSection = TrainingSection()
    datasets: DatasetSettings = DatasetSettings()
    sample: SampleSection = SampleSection()

    def with_values(self, values: dict[str, dict[str, Any]]) -> "Settings":
        """A copy with the given fields of the given sections replaced.

        Raises:
            UnknownSettingError: a section or field does not exist.
            SettingValueError: a value is out of range or of another kind.
        """
        sections: dict[str, Any] = {}
        for section_name, fields in values.items():
            section = getattr(self, section_name, None)
            if not isinstance(section, Struct):
                name = ".".join((section_name, *list(fields)[:1]))
                raise UnknownSettingError(name, [f"{known}.…" for known in self.__struct_fields__])
            known = [f"{section_name}.{field}" for field in section.__struct_fields__]
            data: dict[str, Any] = msgspec.to_builtins(section)
            for field, value in fields.items():
                if field not in section.__struct_fields__:
                    raise UnknownSettingError(f"{section_name}.{field}", known)
                data[field] = value
                try:
                    msgspec.convert(data, type(section), strict=False)
                except msgspec.ValidationError as error:
                    raise SettingValueError(f"{section_name}.{field}", str(value), str(error)) from error
            sections[section_name] = msgspec.convert(data, type(section), strict=False)
        return msgspec.structs.replace(self, **sections)

    def with_text(self, assignment: str) -> "Settings":
        """A copy with one `section.field=value` applied, as the command line's `--set` has it.

        Lists are written with commas; `none` clears a field.
        """
        name, separator, text = assignment.partition("=")
        section, _, field = name.strip().partition(".")
        if not separator or not field:
            raise UnknownSettingError(assignment, ["section.field=value"])
        old = getattr(getattr(self, section, None), field, None)
        value: Any = text.strip()
        if value.lower() == "none":
            value = None
        elif isinstance(old, tuple):
            value = [part.strip() for part in value.split(",") if part.strip()]
        return self.with_values({section: {field: value}})


class ProjectClip(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One clip: a source and the part of it that trains.

    Attributes:
        id: Short and unique in the project; never changes.
        source: Absolute path.
        trim: Source frames used; None uses all.
        crop: Part of the upright picture used; None uses all.
        caption_file: Absolute path of its `.txt`.
        rejected: Left out of training, but kept in the list.
    """

    id: str
    source: str
    caption_file: str
    trim: TrimRange | None = None
    crop: CropBox | None = None
    rejected: bool = False


class Project(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole project; edits make a new one."""

    name: FileName
    goal: Goal = "motion"
    trigger: str = ""
    clips: tuple[ProjectClip, ...] = ()
    settings: Settings = Settings()
    format_version: int = FORMAT_VERSION

    def clip(self, clip_id: str) -> ProjectClip:
        """The clip with this id; `KeyError` if there is none."""
        for clip in self.clips:
            if clip.id == clip_id:
                return clip
        raise KeyError(clip_id)

    def with_clip(self, changed: ProjectClip) -> "Project":
        """A copy in which the clip of the same id is replaced."""
        clips = tuple(changed if clip.id == changed.id else clip for clip in self.clips)
        return msgspec.structs.replace(self, clips=clips)
