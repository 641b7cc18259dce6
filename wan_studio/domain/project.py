"""A project: goal, clips with their ranges and crops, and settings; what `project.json` holds."""

import math
from collections.abc import Collection
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from trainer.protocol.job import (
    AdvancedSection,
    CropBox,
    FileName,
    Fraction,
    GpuSection,
    JpegQuality,
    ModelSection,
    MultistageSection,
    NonNegativeNumber,
    PixelSize,
    Positive,
    QuantizationSection,
    SampleSection,
    SaveSection,
    TargetSection,
    TrainingSection,
)
from wan_studio.domain.clip import TrimRange
from wan_studio.domain.frame_sampling import SamplingRule
from wan_studio.errors import AppError

FORMAT_VERSION = 5
MAIN = ""
"""Name of the main data set: the clips of the folder that a project is made from."""

LONGEST_NAME = 100
FORBIDDEN_IN_NAMES = '\\/:*?"<>|'
RESERVED_NAMES = frozenset(
    {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10))}
)

Goal = Literal["motion", "style", "character"]
Role = Literal["training", "regularization", "validation"]


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


class DatasetNameError(AppError):
    """A data set's name that is empty, taken, or names no data set of the project."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"The data set {name!r} {problem}.")


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
    """DATASETS, before clips are resolved; what reaches the job as it is, is explained there.

    Attributes:
        num_frames: Frames of a clip as it trains; rounded down to 4n+1.
        resolutions: Side of the square whose area a bucket keeps; a clip trains once at each.
        allow_upscale: Enlarge pictures that are smaller than the resolution.
        sampling: Which part of a trimmed range trains: at real speed (16 frames a second) its head,
            its middle, random parts, or parts one after another; or all of it at any speed.
        windows: How many parts "random" takes of each clip, and the most that "sliding" takes.
        window_stride: From one "sliding" part's start to the next, in sixteenths of a second.
        flip_horizontal: Train a copy of each clip mirrored left to right, too; words of direction in
            its caption are turned round.
        flip_vertical: The same, mirrored upside down; with both there are four of each clip.
        default_caption: Used where a clip has none.
        trigger: The data set's own trigger word; empty takes the project's.
        validation_share: Share of the clips that do not train, so that the loss can be measured on
            clips that the LoRA has not seen; 0 is off, and so it is below eight clips.
    """

    num_frames: Positive = 41
    resolutions: Annotated[tuple[PixelSize, ...], Meta(min_length=1)] = (512,)
    allow_upscale: bool = False
    sampling: SamplingRule = "real_speed"
    windows: Annotated[int, Meta(ge=1, le=1000)] = 4
    window_stride: Positive = 16
    flip_horizontal: bool = False
    flip_vertical: bool = False
    default_caption: str = ""
    trigger: str = ""
    caption_dropout: Fraction = 0.0
    caption_dropout_to: Literal["empty", "trigger"] = "empty"
    repeats: Positive = 1
    weight: Annotated[float, Meta(gt=0.0)] = 1.0
    loss_weight: Annotated[float, Meta(ge=0.0)] = 1.0
    lora_strength: float = 1.0
    condition_share: Fraction = 0.5
    condition_noise: NonNegativeNumber = 0.0
    condition_blur: NonNegativeNumber = 0.0
    condition_quality: JpegQuality = 100
    validation_share: Annotated[float, Meta(ge=0.0, le=0.5)] = 0.0


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every knob, in the job's own sections, so that no default stands twice.

    The name and the trigger word of `job` are the project's own. `sample.rows` empty means one row
    that continues the first clip.
    """

    job: GpuSection = GpuSection()
    model: ModelSection = ModelSection()
    quantization: QuantizationSection = QuantizationSection()
    multistage: MultistageSection = MultistageSection()
    target: TargetSection = TargetSection()
    save: SaveSection = SaveSection()
    training: TrainingSection = TrainingSection()
    advanced: AdvancedSection = AdvancedSection()
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
            sections[section_name] = with_fields(section, section_name, fields)
        return msgspec.structs.replace(self, **sections)

    def with_text(self, assignment: str) -> "Settings":
        """A copy with one `section.field=value` applied, as the command line's `--set` has it.

        Lists are written with commas; `none` clears a field.
        """
        section, field, text = split_assignment(assignment)
        old = getattr(getattr(self, section, None), field, None)
        return self.with_values({section: {field: value_of(text, is_list=isinstance(old, tuple))}})


S = TypeVar("S", bound=Struct)


def with_fields(section: S, name: str, fields: dict[str, Any]) -> S:
    """A copy of a section with fields replaced; `name` words the errors.

    Raises:
        UnknownSettingError: a field does not exist.
        SettingValueError: a value is out of range or of another kind.
    """
    known = [f"{name}.{field}" for field in section.__struct_fields__]
    data: dict[str, Any] = msgspec.to_builtins(section)
    for field, value in fields.items():
        if field not in section.__struct_fields__:
            raise UnknownSettingError(f"{name}.{field}", known)
        data[field] = value
        try:
            taken = getattr(msgspec.convert(data, type(section), strict=False), field)
        except msgspec.ValidationError as error:
            raise SettingValueError(f"{name}.{field}", str(value), str(error)) from error
        if isinstance(taken, float) and not math.isfinite(taken):
            raise SettingValueError(f"{name}.{field}", str(value), "expected a finite number")
    return msgspec.convert(data, type(section), strict=False)


def split_assignment(assignment: str) -> tuple[str, str, str]:
    """Section, field and text of `section.field=value`.

    Raises:
        UnknownSettingError: it has another shape.
    """
    name, separator, text = assignment.partition("=")
    section, _, field = name.strip().partition(".")
    if not separator or not field:
        raise UnknownSettingError(assignment, ["section.field=value"])
    return section, field, text.strip()


def value_of(text: str, *, is_list: bool) -> Any:
    """The value that a text stands for: none, a list with commas, or the text itself."""
    if text.lower() == "none":
        return None
    return [part.strip() for part in text.split(",") if part.strip()] if is_list else text


class ProjectDataset(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A further data set: clips that are labelled with its name, and what is different about them.

    Frames and sizes are the main data set's unless changed; every other field starts at its default.

    Attributes:
        name: Label of its clips.
        role: What it is for.
        changes: Values by field of DatasetSettings; only fields that mean something for the role.
    """

    name: FileName
    role: Role
    changes: dict[str, Any] = {}

    def __post_init__(self) -> None:
        fields = FIELDS_BY_ROLE[self.role]
        for field in self.changes:
            if field not in fields:
                raise UnknownSettingError(f"{self.name}.{field}", [f"{self.name}.{one}" for one in fields])
        with_fields(DatasetSettings(), self.name, self.changes)

    def with_changes(self, fields: dict[str, Any]) -> "ProjectDataset":
        """A copy in which these fields have values of their own.

        Raises:
            UnknownSettingError: a field does not exist or means nothing for this role.
            SettingValueError: a value is out of range or of another kind.
        """
        changed = msgspec.structs.replace(self, changes={**self.changes, **fields})
        taken = with_fields(DatasetSettings(), self.name, changed.changes)
        # Kept as JSON gives them back, so that a loaded project equals the saved one.
        values = msgspec.json.decode(msgspec.json.encode(taken))
        return msgspec.structs.replace(self, changes={field: values[field] for field in changed.changes})

    def with_text(self, field: str, text: str) -> "ProjectDataset":
        """A copy with one field's value read from text, as in `Settings.with_text`; errors as above."""
        old = getattr(DatasetSettings(), field, None)
        return self.with_changes({field: value_of(text, is_list=isinstance(old, tuple))})

    def settings(self, main: DatasetSettings) -> DatasetSettings:
        """Its settings beside those of the main data set."""
        shared = {field: msgspec.to_builtins(getattr(main, field)) for field in SHARED_FIELDS}
        return with_fields(DatasetSettings(), self.name, {**shared, **self.changes})


SHARED_FIELDS = ("num_frames", "resolutions", "allow_upscale", "sampling", "windows", "window_stride")
"""What further data sets take from the main one."""

FIELDS_BY_ROLE: dict[Role, tuple[str, ...]] = {
    "training": DatasetSettings.__struct_fields__,
    # Regularization knows no trigger; nothing of it is held out.
    "regularization": tuple(
        field
        for field in DatasetSettings.__struct_fields__
        if field not in ("trigger", "caption_dropout_to", "validation_share")
    ),
    "validation": (*SHARED_FIELDS, "default_caption", "trigger"),
}
"""The fields of DatasetSettings that do something in a data set of each role."""


class ProjectClip(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One clip: a source and the part of it that trains.

    Attributes:
        id: Short and unique in the project; never changes.
        source: Absolute path.
        trim: Source frames used; None uses all.
        crop: Part of the upright picture used; None uses all.
        caption_file: Absolute path of its `.txt`.
        rejected: Left out of training, but kept in the list.
        dataset: Name of its data set; empty is the main one.
        rating: The user's, 1 to 5; 0 is none.
        title: What the user calls it; empty is the name of its file.
    """

    id: str
    source: str
    caption_file: str
    trim: TrimRange | None = None
    crop: CropBox | None = None
    rejected: bool = False
    dataset: str = MAIN
    rating: Annotated[int, Meta(ge=0, le=5)] = 0
    title: str = ""

    @property
    def file_name(self) -> str:
        """Name of its file, whichever system the path comes from."""
        return self.source.replace("\\", "/").rsplit("/", 1)[-1]

    @property
    def name(self) -> str:
        """What it is called."""
        return self.title or self.file_name


class Project(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole project; edits make a new one.

    Attributes:
        clips: Of all data sets; `ProjectClip.dataset` tells which.
        settings: `settings.datasets` are those of the main data set. The clip of a row of
            `settings.sample.rows` is an index into `clips`.
        extra_datasets: Further data sets.
        words: Words that the spell check takes as right here.
    """

    name: FileName
    goal: Goal = "motion"
    trigger: str = ""
    clips: tuple[ProjectClip, ...] = ()
    settings: Settings = Settings()
    extra_datasets: tuple[ProjectDataset, ...] = ()
    words: tuple[str, ...] = ()
    format_version: Annotated[int, Meta(ge=FORMAT_VERSION)] = FORMAT_VERSION

    def __post_init__(self) -> None:
        names = [dataset.name for dataset in self.extra_datasets]
        for name in names:
            if names.count(name) > 1:
                raise DatasetNameError(name, "stands in the project twice")
        for label in {clip.dataset for clip in self.clips} - {MAIN, *names}:
            raise DatasetNameError(label, "has clips but does not exist")

    def dataset(self, name: str) -> ProjectDataset | None:
        """The further data set of this name; None for the main one and for one that is not there."""
        return next((dataset for dataset in self.extra_datasets if dataset.name == name), None)

    def dataset_settings(self, name: str) -> DatasetSettings:
        """The settings of a data set; empty names the main one."""
        dataset = self.dataset(name)
        main = self.settings.datasets
        return main if dataset is None else dataset.settings(main)

    def dataset_trigger(self, name: str) -> str:
        """The word that a data set's captions get: its own or the project's, none for regularization."""
        dataset = self.dataset(name)
        if dataset is not None and dataset.role == "regularization":
            return ""
        return self.dataset_settings(name).trigger.strip() or self.trigger.strip()

    def clips_of(self, dataset: str) -> tuple[ProjectClip, ...]:
        """The clips of a data set, in their order; empty names the main one."""
        return tuple(clip for clip in self.clips if clip.dataset == dataset)

    def with_dataset(self, changed: ProjectDataset) -> "Project":
        """A copy in which the further data set of this name is replaced, or added."""
        if self.dataset(changed.name) is None:
            extra = (*self.extra_datasets, changed)
        else:
            extra = tuple(changed if old.name == changed.name else old for old in self.extra_datasets)
        return msgspec.structs.replace(self, extra_datasets=extra)

    def without_clips(self, ids: Collection[str]) -> "Project":
        """A copy without these clips; previews that go on from another clip still do."""
        kept = tuple(clip for clip in self.clips if clip.id not in ids)
        places = {clip.id: at for at, clip in enumerate(kept)}
        old_ids = [clip.id for clip in self.clips]
        rows = tuple(
            msgspec.structs.replace(
                row, clip=places.get(old_ids[row.clip], 0) if row.clip < len(old_ids) else 0
            )
            for row in self.settings.sample.rows
        )
        sample = msgspec.structs.replace(self.settings.sample, rows=rows)
        settings = msgspec.structs.replace(self.settings, sample=sample)
        return msgspec.structs.replace(self, clips=kept, settings=settings)

    def with_clips_after(self, clip_id: str, added: Collection["ProjectClip"]) -> "Project":
        """A copy with clips put behind one; previews go on from the clips that they did."""
        at = next((place for place, clip in enumerate(self.clips) if clip.id == clip_id), len(self.clips) - 1)
        clips = (*self.clips[: at + 1], *added, *self.clips[at + 1 :])
        rows = tuple(
            msgspec.structs.replace(row, clip=row.clip + len(added)) if row.clip > at else row
            for row in self.settings.sample.rows
        )
        sample = msgspec.structs.replace(self.settings.sample, rows=rows)
        settings = msgspec.structs.replace(self.settings, sample=sample)
        return msgspec.structs.replace(self, clips=clips, settings=settings)

    def without_dataset(self, name: str) -> "Project":
        """A copy without a further data set and its clips."""
        left = self.without_clips({clip.id for clip in self.clips if clip.dataset == name})
        extra = tuple(dataset for dataset in self.extra_datasets if dataset.name != name)
        return msgspec.structs.replace(left, extra_datasets=extra)

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
