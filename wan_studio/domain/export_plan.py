"""What a data set becomes when it is exported: which frames of which clip go into which file, with which caption.

Which clips are used, which are held out, which mirrored copies there are and how their captions read is
what trains here: it is asked of `build_datasets`. Which frames are written is the user's choice:

- "source": every source frame of the trimmed range, at its own time. Nothing is resampled.
- "as_seen": for each window that trains here exactly its frames, 4n+1 of them, at 16 frames a second.

Pictures keep their size: they are turned upright and cut, never scaled. Video is cut at even pixels, the
next ones inside the crop, because its colour has half the resolution.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

import msgspec
from msgspec import Struct

from trainer.protocol.job import ClipSpec, CropBox
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.dataset_builder import (
    BuiltDataset,
    ClipFiles,
    DatasetPlan,
    Notes,
    build_datasets,
    clip_spec,
    flips_of,
)
from wan_studio.domain.direction_words import Flip
from wan_studio.domain.export_names import ClipNames, folder_name
from wan_studio.domain.frame_sampling import MODEL_FRAMES_PER_SECOND, valid_frame_count
from wan_studio.domain.job_builder import dataset_plans
from wan_studio.domain.project import DatasetSettings, Project, ProjectClip, Role
from wan_studio.domain.stored_crop import stored_crop

Layout = Literal["folder", "ai-toolkit", "musubi-tuner"]
Codec = Literal["h264", "ffv1"]
Frames = Literal["source", "as_seen"]
Kind = Literal["video", "image", "copy"]
"""A video is encoded, an image written as PNG, a file that needs no change copied."""

LAYOUTS: tuple[Layout, ...] = get_args(Layout)
SUFFIXES: dict[Codec, str] = {"h264": ".mp4", "ffv1": ".mkv"}
MAIN_FOLDER = "clips"
PICTURES_FOLDER = "first_frames"
KNOWN_IMAGES = (".png", ".jpg", ".jpeg", ".webp")

_BITS_PER_PIXEL: dict[Codec, float] = {"h264": 0.6, "ffv1": 4.0}
"""A little more than what compressed 8-bit clips at hand took; for the forecast of the size alone."""

_FLIP_NAMES: dict[Flip, str] = {
    "none": "",
    "horizontal": "-flip_h",
    "vertical": "-flip_v",
    "both": "-flip_hv",
}


class ExportOptions(Struct, frozen=True, kw_only=True):
    """What the user chose.

    Attributes:
        layout: Whose folders and configuration: plain folders, ai-toolkit's, or musubi-tuner's.
        codec: H.264 near lossless in MP4, or FFV1, lossless, in Matroska.
        frames: Which frames are written; see the module.
    """

    layout: Layout = "folder"
    codec: Codec = "h264"
    frames: Frames = "source"


class Recipe(Struct, frozen=True, kw_only=True):
    """All that a written file depends on, besides the bytes of its source.

    Attributes:
        source: Absolute path; with size and modification time its identity.
        frames: Source frames in the order in which they are shown; slow sources repeat some.
        stamps: When each is shown, from 0, in units of `time_base`.
        time_base: Numerator and denominator of a unit, in seconds.
        crop: Part of the picture as it is stored, before it is turned.
        rotation: Degrees by which it is then turned counter-clockwise.
        flip: How it is mirrored at last.
    """

    source: str
    source_bytes: int
    source_modified_ns: int
    kind: Kind
    codec: Codec
    frames: tuple[int, ...]
    stamps: tuple[int, ...]
    time_base: tuple[int, int]
    crop: CropBox
    rotation: int
    flip: Flip

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the written picture."""
        crop = self.crop
        return (crop.height, crop.width) if self.rotation in {90, 270} else (crop.width, crop.height)

    @property
    def forecast_bytes(self) -> int:
        """About how large the file will be."""
        pixels = self.crop.width * self.crop.height * len(self.frames)
        match self.kind:
            case "copy":
                return self.source_bytes
            case "image":
                return pixels * 2
            case "video":
                return round(pixels * _BITS_PER_PIXEL[self.codec] / 8)


@dataclass(frozen=True, slots=True)
class ExportedClip:
    """One file to write.

    Attributes:
        path: Relative to the target folder, with forward slashes.
        caption: What its `.txt` says; None writes none.
    """

    clip_id: str
    path: str
    caption: str | None
    source: SourceVideo
    recipe: Recipe

    @property
    def caption_path(self) -> str:
        """Of its `.txt`, beside it."""
        return self.path.rpartition(".")[0] + ".txt"

    @property
    def folder(self) -> str:
        """Where it lies."""
        return self.path.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class ExportedSet:
    """One data set.

    Attributes:
        name: For the user.
        trigger: Its word; empty for none.
    """

    name: str
    role: Role
    settings: DatasetSettings
    trigger: str
    clips: tuple[ExportedClip, ...]

    @property
    def folders(self) -> tuple[str, ...]:
        """Where its clips lie, in the order of their first clips."""
        return tuple(dict.fromkeys(clip.folder for clip in self.clips))

    def clips_in(self, folder: str) -> tuple[ExportedClip, ...]:
        """Those that lie in one of its folders."""
        return tuple(clip for clip in self.clips if clip.folder == folder)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A clip that is not written, and why, in a sentence."""

    clip_id: str
    name: str
    sentence: str


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """A preview of the project, for trainers that render some.

    Attributes:
        picture: Path of its first frame: absolute, or relative to the target folder; empty for none.
    """

    prompt: str
    picture: str
    width: int
    height: int
    num_frames: int
    seed: int


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """All that an export writes, configuration apart.

    Attributes:
        pictures: First frames of previews.
        notes: What the user should know, a sentence each.
    """

    project: Project
    options: ExportOptions
    sets: tuple[ExportedSet, ...]
    pictures: tuple[ExportedClip, ...]
    rows: tuple[PreviewRow, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]

    @property
    def files(self) -> tuple[ExportedClip, ...]:
        """Everything to write, in order."""
        return (*(clip for one in self.sets for clip in one.clips), *self.pictures)

    @property
    def forecast_bytes(self) -> int:
        """About how much all of it takes."""
        return sum(clip.recipe.forecast_bytes for clip in self.files)


def plan_export(project: Project, files: ClipFiles, options: ExportOptions) -> ExportPlan:
    """Decide what is written; clips that cannot be used are listed, not an error."""
    notes = Notes()
    sets: list[ExportedSet] = []
    skipped: list[Skipped] = []
    folders: set[str] = set()
    for number, plan in enumerate(dataset_plans(project)):
        folder = folder_name(plan.name if number else MAIN_FOLDER, folders)
        built = build_datasets(plan, files, Notes())
        used = {clip_id for dataset in built for clip_id in dataset.clip_ids}
        skipped += _skipped(plan, files, used)
        for dataset in built:
            is_held_out = dataset.section.role == "validation" and plan.role != "validation"
            place = folder_name(f"{folder}-held_out", folders) if is_held_out else folder
            if is_held_out:
                notes.add(
                    f"{_clips(len(dataset.clip_ids))} held out of training in {plan.name}: written into {place}, "
                    "which no configuration names."
                )
            sets.append(_exported_set(plan, dataset, files, options, place))
    notes.sentences += _remarks(sets)
    rows, pictures = _previews(project, sets, files, options)
    return ExportPlan(project, options, tuple(sets), pictures, rows, tuple(skipped), tuple(notes.sentences))


def _skipped(plan: DatasetPlan, files: ClipFiles, used: set[str]) -> list[Skipped]:
    """The clips of a data set that are not used, though nobody rejected them."""
    found: list[Skipped] = []
    for clip in plan.clips:
        if clip.id not in used and not clip.rejected:
            reasons = Notes()
            clip_spec(plan, clip, files, reasons)
            name = re.split(r"[\\/]", clip.source)[-1]
            found.append(Skipped(clip.id, name, " ".join(reasons.sentences)))
    return found


def _exported_set(
    plan: DatasetPlan, dataset: BuiltDataset, files: ClipFiles, options: ExportOptions, folder: str
) -> ExportedSet:
    clips = {clip.id: clip for clip in plan.clips}
    names = ClipNames()
    exported: list[ExportedClip] = []
    count = len(dataset.clip_ids)
    flips: list[Flip] = ["none", *flips_of(plan.settings)]
    for at, spec in enumerate(dataset.section.clips):
        # The copies of one flip follow those of another, in the clips' order.
        clip, flip = clips[dataset.clip_ids[at % count]], flips[at // count]
        source = files.sources[clip.id]
        stem = names.stem(clip.id, source.name)
        for number, frames in enumerate(_frames(clip, source, spec, options), start=1):
            recipe = _recipe(clip, source, frames, flip, options)
            window = f"-w{number:02d}" if options.frames == "as_seen" and len(spec.windows) > 1 else ""
            name = f"{stem}{window}{_FLIP_NAMES[flip]}"
            place = _place(folder, recipe, source, options)
            exported.append(
                ExportedClip(
                    clip.id,
                    f"{place}/{name}{_suffix(recipe, source)}",
                    _caption(spec.caption, plan, options),
                    source,
                    recipe,
                )
            )
    return ExportedSet(
        dataset.section.name, dataset.section.role, plan.settings, plan.trigger, tuple(exported)
    )


def _frames(
    clip: ProjectClip, source: SourceVideo, spec: ClipSpec, options: ExportOptions
) -> list[tuple[int, ...]]:
    """Of each file, the source frames that go into it."""
    if options.frames == "source":
        trim = clip.trim or source.whole_range
        return [tuple(range(trim.start_frame, trim.end_frame))]
    return [tuple(bisect_left(source.frame_pts, stamp) for stamp in window) for window in spec.windows]


def _recipe(
    clip: ProjectClip, source: SourceVideo, frames: Sequence[int], flip: Flip, options: ExportOptions
) -> Recipe:
    is_picture = len(frames) == 1
    crop = stored_crop(source, clip.crop or source.whole_picture, is_even=not is_picture)
    is_whole = clip.crop is None or clip.crop == source.whole_picture
    is_known = source.is_image and source.name.lower().endswith(KNOWN_IMAGES)
    kind: Kind = "image" if is_picture else "video"
    if is_known and is_whole and flip == "none" and source.rotation == 0:
        kind = "copy"
    if is_picture or options.frames == "as_seen":
        unit, stamps = Fraction(1, MODEL_FRAMES_PER_SECOND), tuple(range(len(frames)))
    else:
        first = source.frame_pts[frames[0]]
        unit, stamps = source.time_base, tuple(source.frame_pts[frame] - first for frame in frames)
    return Recipe(
        source=source.path,
        source_bytes=source.size_bytes,
        source_modified_ns=source.modified_ns,
        kind=kind,
        codec=options.codec,
        frames=tuple(frames),
        stamps=stamps,
        time_base=(unit.numerator, unit.denominator),
        crop=crop,
        rotation=source.rotation,
        flip=flip,
    )


def _suffix(recipe: Recipe, source: SourceVideo) -> str:
    match recipe.kind:
        case "video":
            return SUFFIXES[recipe.codec]
        case "image":
            return ".png"
        case "copy":
            return f".{source.name.rpartition('.')[2].lower()}"


def _place(folder: str, recipe: Recipe, source: SourceVideo, options: ExportOptions) -> str:
    """The folder of a file: musubi-tuner wants images apart, and one rate of frames in each folder."""
    if options.layout != "musubi-tuner":
        return folder
    if recipe.kind != "video":
        return f"{folder}-images"
    if options.frames == "as_seen":
        return folder
    return f"{folder}-{rate_of(source)}fps".replace(".", "_")


def rate_of(source: SourceVideo) -> str:
    """Its frames a second, to two places: "24", "29.97"."""
    return f"{round(source.frames_per_second, 2):g}"


def _caption(text: str, plan: DatasetPlan, options: ExportOptions) -> str:
    """What trains here; ai-toolkit fills in the trigger word by itself, so it stands there as [trigger]."""
    if options.layout != "ai-toolkit" or not plan.trigger:
        return text
    whole = rf"(?<![A-Za-z0-9_]){re.escape(plan.trigger)}(?![A-Za-z0-9_])"
    return re.sub(whole, "[trigger]", text)


def _previews(
    project: Project, sets: Sequence[ExportedSet], files: ClipFiles, options: ExportOptions
) -> tuple[tuple[PreviewRow, ...], tuple[ExportedClip, ...]]:
    """The project's previews with their first frames, for the trainer that is told of them."""
    trained = [clip for one in sets if one.role == "training" for clip in one.clips]
    if options.layout != "ai-toolkit" or not project.settings.sample.every or not trained:
        return (), ()
    rows: list[PreviewRow] = []
    pictures: dict[str, ExportedClip] = {}

    def picture_of(clip_id: str) -> str:
        clip = project.clip(clip_id)
        source = files.sources[clip_id]
        start = clip.trim.start_frame if clip.trim else 0
        stem = next(one for one in trained if one.clip_id == clip_id).path.rpartition("/")[2]
        path = f"{PICTURES_FOLDER}/{stem.rpartition('.')[0]}.png"
        recipe = _recipe(clip, source, (start,), "none", options)
        pictures[path] = ExportedClip(
            clip_id, path, None, source, msgspec.structs.replace(recipe, kind="image")
        )
        return path

    known = {clip.clip_id for clip in trained}
    first = trained[0]
    for row in project.settings.sample.rows:
        named = project.clips[row.clip].id if row.clip < len(project.clips) else ""
        picture = row.image or picture_of(named if named in known else first.clip_id)
        rows.append(
            PreviewRow(row.prompt, picture, row.size.width, row.size.height, row.num_frames, row.seed)
        )
    if not rows:
        width, height = first.recipe.size
        resolution = project.settings.datasets.resolutions[0]
        scale = min(1.0, resolution / (width * height) ** 0.5)
        row_width, row_height = (max(16, round(side * scale / 16) * 16) for side in (width, height))
        frames = valid_frame_count(min(project.settings.datasets.num_frames, 41))
        picture = picture_of(first.clip_id)
        rows.append(PreviewRow(first.caption or "", picture, row_width, row_height, frames, 42))
    return tuple(rows), tuple(pictures.values())


def _remarks(sets: Sequence[ExportedSet]) -> list[str]:
    """What the reader of the files must know, and does not see in them."""
    clips = {clip.clip_id: clip.source for one in sets for clip in one.clips}
    remarks: list[str] = []
    for source in clips.values():
        if abs(source.pixel_aspect - 1.0) > 0.01:
            remarks.append(
                f"{source.name} has pixels {source.pixel_aspect:.2f} times as wide as high. They are kept: "
                "other trainers may show it stretched."
            )
        if source.is_hdr:
            remarks.append(f"{source.name} is HDR: it is written tone-mapped, as it trains here.")
    return remarks


def _clips(count: int) -> str:
    return "1 clip is" if count == 1 else f"{count} clips are"
