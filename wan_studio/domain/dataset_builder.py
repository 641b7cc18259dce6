"""From the clips of one data set to what trains of them: frames, sizes, prompts and mirrored copies."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from trainer.protocol.job import ClipSpec, CropBox, DatasetSection, TrainedSize
from wan_studio.domain.buckets import trained_size
from wan_studio.domain.caption import trains_as
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.direction_words import Flip, mirrored_caption, names_a_direction
from wan_studio.domain.frame_sampling import (
    MODEL_FRAMES_PER_SECOND,
    FrameSample,
    Sampling,
    sample_windows,
    valid_frame_count,
)
from wan_studio.domain.project import DatasetSettings, ProjectClip, Role

FEWEST_FRAMES = 5
"""Below two latent frames there is no motion to learn; a still image is taken as one frame."""
FEWEST_TO_HOLD_OUT_FROM = 8
"""Fewer clips than this are too few to keep some of them from training."""

_MIRRORED: dict[Flip, str] = {
    "horizontal": "mirrored left to right",
    "vertical": "mirrored upside down",
    "both": "mirrored both ways",
}


@dataclass(frozen=True, slots=True)
class ClipFiles:
    """What is known of clips from their files, by clip id.

    Attributes:
        sources: The probed video; clips without one are left out with a note.
        captions: Text of the caption; a missing one counts as empty.
        problems: Why a clip has no source, a sentence each; words the note.
    """

    sources: Mapping[str, SourceVideo]
    captions: Mapping[str, str]
    problems: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DatasetPlan:
    """One data set as it was wished for.

    Attributes:
        name: For the user.
        role: What it is for.
        settings: Its own.
        trigger: The word that its captions get; empty for none.
        clips: Rejected ones among them are passed over.
        seed: Of random windows.
    """

    name: str
    role: Role
    settings: DatasetSettings
    trigger: str
    clips: tuple[ProjectClip, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class BuiltDataset:
    """One data set of the job.

    Attributes:
        clip_ids: Ids of the section's first clips, in their order; mirrored copies follow them.
    """

    section: DatasetSection
    clip_ids: tuple[str, ...]


@dataclass(slots=True)
class Notes:
    """What was decided on the way that the user should know, a sentence each, each once."""

    sentences: list[str] = field(default_factory=list[str])

    def add(self, sentence: str) -> None:
        """Say it, unless it was said before."""
        if sentence not in self.sentences:
            self.sentences.append(sentence)


def build_datasets(plan: DatasetPlan, files: ClipFiles, notes: Notes) -> list[BuiltDataset]:
    """The job's data sets that a wished one becomes: none without usable clips, two with clips held out."""
    settings = plan.settings
    asked, taken = settings.num_frames, valid_frame_count(settings.num_frames)
    if asked != taken:
        notes.add(f"{taken} frames are used instead of {asked}: the model takes 4n + 1 of them.")
    specs: dict[str, ClipSpec] = {}
    for clip in plan.clips:
        spec = None if clip.rejected else clip_spec(plan, clip, files, notes)
        if spec is not None:
            specs[clip.id] = spec
    held_out = _held_out(list(specs), settings.validation_share)
    if settings.validation_share and specs and not held_out:
        notes.add(
            f"No clip is held out to measure the loss on: {len(specs)} are too few, "
            f"it takes {FEWEST_TO_HOLD_OUT_FROM}."
        )
    if held_out:
        names = ", ".join(files.sources[clip_id].name for clip_id in specs if clip_id in held_out)
        notes.add(f"Held out of training, to measure the loss on: {names}.")
    if settings.caption_dropout and settings.caption_dropout_to == "trigger" and not plan.trigger:
        notes.add("Dropped captions become empty: there is no trigger word to leave in their place.")
    training = {clip_id: spec for clip_id, spec in specs.items() if clip_id not in held_out}
    validation = {clip_id: spec for clip_id, spec in specs.items() if clip_id in held_out}
    built: list[BuiltDataset] = []
    if training:
        mirrored = _mirrored_clips(plan, training, files, notes)
        section = _section(plan, plan.name, plan.role, (*training.values(), *mirrored))
        built.append(BuiltDataset(section, tuple(training)))
    if validation:
        section = _section(plan, f"{plan.name}, held out", "validation", tuple(validation.values()))
        built.append(BuiltDataset(section, tuple(validation)))
    return built


def _section(plan: DatasetPlan, name: str, role: Role, clips: tuple[ClipSpec, ...]) -> DatasetSection:
    settings = plan.settings
    shape = DatasetSection(
        name=name,
        role=role,
        clips=clips,
        num_frames=valid_frame_count(settings.num_frames),
        resolutions=settings.resolutions,
        trigger=settings.trigger.strip(),
    )
    if role == "validation":
        # Measured as it is: nothing is repeated, dropped or weighted.
        return shape
    return msgspec.structs.replace(
        shape,
        repeats=settings.repeats,
        weight=settings.weight,
        loss_weight=settings.loss_weight,
        lora_strength=settings.lora_strength,
        caption_dropout=settings.caption_dropout,
        caption_dropout_to=settings.caption_dropout_to,
        condition_share=settings.condition_share,
        condition_noise=settings.condition_noise,
        condition_blur=settings.condition_blur,
        condition_quality=settings.condition_quality,
    )


def _held_out(clip_ids: Sequence[str], share: float) -> set[str]:
    """Which clips are held out: by their ids alone, so that a further clip changes little."""
    if not share or len(clip_ids) < FEWEST_TO_HOLD_OUT_FROM:
        return set()

    def place(clip_id: str) -> bytes:
        return hashlib.blake2b(clip_id.encode(), digest_size=16).digest()

    return set(sorted(clip_ids, key=place)[: max(1, round(share * len(clip_ids)))])


def clip_spec(plan: DatasetPlan, clip: ProjectClip, files: ClipFiles, notes: Notes) -> ClipSpec | None:
    """One clip resolved; None, with a note, when it cannot train."""
    settings = plan.settings
    source = files.sources.get(clip.id)
    if source is None:
        notes.add(files.problems.get(clip.id, f"{clip.source} cannot be read.") + " It is left out.")
        return None
    trim = clip.trim or source.whole_range
    crop = clip.crop or source.whole_picture
    if trim.end_frame > source.frame_count or not _lies_in(crop, source):
        notes.add(
            f"{source.name} is left out: its range or crop reaches beyond the file, which has "
            f"{source.frame_count} frames of {source.width} x {source.height}. Set them again."
        )
        return None
    sampling = Sampling(
        num_frames=settings.num_frames,
        rule=settings.sampling,
        windows=settings.windows,
        stride=settings.window_stride,
        seed=f"{plan.seed}/{clip.id}",
    )
    samples = sample_windows(source, trim, sampling)
    if not _is_long_enough(samples[0], source, notes):
        return None
    return ClipSpec(
        source=source.path,
        source_bytes=source.size_bytes,
        source_modified_ns=source.modified_ns,
        windows=tuple(tuple(source.frame_pts[frame] for frame in sample.frames) for sample in samples),
        sizes=_sizes(crop, source, settings),
        caption=trains_as(files.captions.get(clip.id, ""), plan.trigger, settings.default_caption),
    )


def _is_long_enough(sample: FrameSample, source: SourceVideo, notes: Notes) -> bool:
    """Whether there is motion in it; says so when not, or when there is less than was asked for."""
    if source.is_image:
        return True
    if len(sample.frames) < min(FEWEST_FRAMES, sample.wanted_frames):
        notes.add(
            f"{source.name} is left out: it is too short for {FEWEST_FRAMES} frames "
            f"at {MODEL_FRAMES_PER_SECOND} a second."
        )
        return False
    if sample.is_shortened:
        notes.add(
            f"{source.name} trains with {len(sample.frames)} frames: "
            f"it is too short for {sample.wanted_frames} at {MODEL_FRAMES_PER_SECOND} a second."
        )
    return True


def _sizes(crop: CropBox, source: SourceVideo, settings: DatasetSettings) -> tuple[TrainedSize, ...]:
    """The bucket of each resolution, each once."""
    sizes = (
        trained_size(crop, source.pixel_aspect, resolution, allow_upscale=settings.allow_upscale)
        for resolution in settings.resolutions
    )
    return tuple({(size.width, size.height): size for size in sizes}.values())


def _mirrored_clips(
    plan: DatasetPlan, specs: Mapping[str, ClipSpec], files: ClipFiles, notes: Notes
) -> list[ClipSpec]:
    """The mirrored copies that were wished for, of every clip, their captions turned round."""
    copies: list[ClipSpec] = []
    for flip in flips_of(plan.settings):
        if names_a_direction(plan.trigger, flip):
            notes.add(
                f'The trigger word "{plan.trigger}" names a direction and stays the same for clips '
                f"{_MIRRORED[flip]}: they teach it the opposite. Switch the flip off if that is not wanted."
            )
        for clip_id, spec in specs.items():
            turned = mirrored_caption(spec.caption, flip, plan.trigger)
            copies.append(msgspec.structs.replace(spec, flip=flip, caption=turned.text))
            name = files.sources[clip_id].name
            if turned.swapped:
                notes.add(
                    f"{name}, {_MIRRORED[flip]}: {_quoted(turned.swapped)} turned round in its caption."
                )
            if turned.kept:
                notes.add(
                    f"{name}, {_MIRRORED[flip]}: {_quoted(turned.kept)} left as it is in its caption. "
                    "If it tells a direction, say it in other words."
                )
    return copies


def flips_of(settings: DatasetSettings) -> list[Flip]:
    """Of both flips the third is made, too: a mirrored copy of the mirrored copy."""
    if settings.flip_horizontal and settings.flip_vertical:
        return ["horizontal", "vertical", "both"]
    if settings.flip_horizontal:
        return ["horizontal"]
    return ["vertical"] if settings.flip_vertical else []


def _quoted(words: Sequence[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)


def _lies_in(crop: CropBox, source: SourceVideo) -> bool:
    return crop.left + crop.width <= source.width and crop.top + crop.height <= source.height
