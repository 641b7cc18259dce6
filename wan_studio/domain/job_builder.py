"""From project to job: every decision made here, so that the trainer only executes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from trainer.protocol.job import (
    BucketSize,
    ClipSpec,
    CropBox,
    DatasetSection,
    JobSection,
    JobSpec,
    SampleRow,
)
from wan_studio.domain.buckets import trained_size
from wan_studio.domain.caption import trains_as
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.frame_sampling import MODEL_FRAMES_PER_SECOND, sample_frames, valid_frame_count
from wan_studio.domain.project import Project, ProjectClip
from wan_studio.errors import AppError

FEWEST_FRAMES = 5
"""Below two latent frames there is no motion to learn; a still image is taken as one frame."""


class NothingToTrainError(AppError):
    """No clip of the project can train."""

    def __init__(self, problems: Sequence[str]) -> None:
        listed = " ".join(problems)
        super().__init__(
            f"No clip can train. {listed}".strip(), "Add video clips that are at least 0.3 seconds long."
        )


@dataclass(frozen=True, slots=True)
class BuiltJob:
    """A job, and what was decided on the way that the user should know, a sentence each."""

    job: JobSpec
    notes: tuple[str, ...]


def build_job(
    project: Project,
    sources: Mapping[str, SourceVideo],
    captions: Mapping[str, str],
    cache_folder: str,
    problems: Mapping[str, str] | None = None,
) -> BuiltJob:
    """Resolve frames, buckets and prompts of every clip that is not rejected.

    Args:
        project: What to train.
        sources: The probed video of each clip id; clips without one are left out with a note.
        captions: Text of each clip id's caption; a missing one counts as empty.
        cache_folder: Where latents and text embeddings are cached.
        problems: Why a clip id has no source, a sentence each; words the note.

    Raises:
        NothingToTrainError: no clip is left.
    """
    notes: list[str] = []
    asked, taken = (
        project.settings.datasets.num_frames,
        valid_frame_count(project.settings.datasets.num_frames),
    )
    if asked != taken:
        notes.append(f"{taken} frames are used instead of {asked}: the model takes 4n + 1 of them.")
    clips: list[ClipSpec] = []
    for clip in project.clips:
        if clip.rejected:
            continue
        source = sources.get(clip.id)
        if source is None:
            notes.append((problems or {}).get(clip.id, f"{clip.source} cannot be read.") + " It is left out.")
            continue
        caption = trains_as(
            captions.get(clip.id, ""), project.trigger, project.settings.datasets.default_caption
        )
        spec = _clip_spec(project, clip, source, caption, notes)
        if spec is not None:
            clips.append(spec)
    if not clips:
        raise NothingToTrainError(notes)
    settings = project.settings
    dataset = DatasetSection(
        name=project.name,
        clips=tuple(clips),
        num_frames=valid_frame_count(settings.datasets.num_frames),
        resolutions=settings.datasets.resolutions,
        repeats=settings.datasets.repeats,
    )
    sample = settings.sample
    if sample.every and not sample.rows:
        sample = msgspec.structs.replace(sample, rows=(_automatic_row(clips[0], project),))
    job = JobSpec(
        job=JobSection(name=project.name, trigger=project.trigger),
        model=settings.model,
        multistage=settings.multistage,
        target=settings.target,
        save=settings.save,
        training=settings.training,
        datasets=(dataset,),
        sample=sample,
        cache_folder=cache_folder,
    )
    return BuiltJob(job, tuple(notes))


def _clip_spec(
    project: Project, clip: ProjectClip, source: SourceVideo, caption: str, notes: list[str]
) -> ClipSpec | None:
    """One clip resolved; None, with a note, when it is too short."""
    datasets = project.settings.datasets
    trim = clip.trim or source.whole_range
    crop = clip.crop or source.whole_picture
    if trim.end_frame > source.frame_count or not _lies_in(crop, source):
        notes.append(
            f"{source.name} is left out: its range or crop reaches beyond the file, which has "
            f"{source.frame_count} frames of {source.width} x {source.height}. Set them again."
        )
        return None
    sample = sample_frames(source, trim, datasets.num_frames, datasets.sampling)
    if len(sample.frames) < min(FEWEST_FRAMES, sample.wanted_frames) and not source.is_image:
        notes.append(
            f"{source.name} is left out: it is too short for {FEWEST_FRAMES} frames "
            f"at {MODEL_FRAMES_PER_SECOND} a second."
        )
        return None
    if sample.is_shortened and not source.is_image:
        notes.append(
            f"{source.name} trains with {len(sample.frames)} frames: "
            f"it is too short for {sample.wanted_frames} at {MODEL_FRAMES_PER_SECOND} a second."
        )
    sizes = {
        (size.width, size.height): size
        for size in (
            trained_size(crop, source.pixel_aspect, resolution) for resolution in datasets.resolutions
        )
    }
    return ClipSpec(
        source=source.path,
        source_bytes=source.size_bytes,
        source_modified_ns=source.modified_ns,
        windows=(tuple(source.frame_pts[frame] for frame in sample.frames),),
        sizes=tuple(sizes.values()),
        caption=caption,
    )


def _lies_in(crop: CropBox, source: SourceVideo) -> bool:
    return crop.left + crop.width <= source.width and crop.top + crop.height <= source.height


def _automatic_row(clip: ClipSpec, project: Project) -> SampleRow:
    size = clip.sizes[0]
    return SampleRow(
        prompt=clip.caption,
        clip=0,
        size=BucketSize(width=size.width, height=size.height),
        num_frames=valid_frame_count(min(project.settings.datasets.num_frames, 41)),
    )
