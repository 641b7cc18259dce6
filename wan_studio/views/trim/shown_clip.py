"""What follows from a clip, its range and the project's settings: frames, size and remarks."""

from trainer.protocol.job import TrainedSize
from wan_studio.domain.buckets import trained_size
from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.domain.direction_words import Flip, names_a_direction
from wan_studio.domain.frame_sampling import MODEL_FRAMES_PER_SECOND, FrameSample, sample_frames
from wan_studio.domain.project import MAIN, Project, ProjectClip
from wan_studio.views.player.player import Strip


def valid_trim(clip: ProjectClip, source: SourceVideo) -> TrimRange:
    """The clip's range, as far as the file still has it."""
    trim = clip.trim or source.whole_range
    if trim.start_frame >= source.frame_count:
        return source.whole_range
    return TrimRange(trim.start_frame, min(trim.end_frame, source.frame_count))


def sample_of(project: Project, source: SourceVideo, trim: TrimRange, dataset: str = MAIN) -> FrameSample:
    """The frames of a range that train in a data set."""
    datasets = project.dataset_settings(dataset)
    return sample_frames(source, trim, datasets.num_frames, datasets.sampling)


def size_of(project: Project, clip: ProjectClip | None, source: SourceVideo) -> TrainedSize:
    """The largest size at which a clip trains, and the part of the picture that fills it."""
    datasets = project.settings.datasets if clip is None else project.dataset_settings(clip.dataset)
    crop = (clip.crop if clip is not None else None) or source.whole_picture
    resolution = max(datasets.resolutions)
    return trained_size(crop, source.pixel_aspect, resolution, allow_upscale=datasets.allow_upscale)


def trained_strip(source: SourceVideo, sample: FrameSample, size: TrainedSize) -> Strip:
    """The frames that train, at the bucket's size, as they are played: 16 a second."""
    starts = tuple(at / MODEL_FRAMES_PER_SECOND for at in range(len(sample.frames)))
    return Strip(source, sample.frames, starts, len(sample.frames) / MODEL_FRAMES_PER_SECOND, size)


def flip_note(project: Project, caption: str) -> str:
    """What there is to say about mirrored copies of a clip; empty without them."""
    datasets = project.settings.datasets
    ways: list[Flip] = []
    if datasets.flip_horizontal:
        ways.append("horizontal")
    if datasets.flip_vertical:
        ways.append("vertical")
    if any(names_a_direction(caption, way) for way in ways):
        return "Its caption names a direction: it is turned round in the mirrored copy."
    if ways and project.goal == "motion":
        return "Mirrored copies teach a motion in both directions."
    return ""
