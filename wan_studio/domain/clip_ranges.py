"""Several ranges of one source: each is a clip of the project with a caption file of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

import msgspec

from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.domain.frame_sampling import MODEL_FRAMES_PER_SECOND, valid_frame_count
from wan_studio.domain.project import Project, ProjectClip


@dataclass(frozen=True, slots=True)
class SplitProject:
    """A project in which one clip became several.

    Attributes:
        project: It.
        added: The new clips, in order; the first part is the clip that was split.
    """

    project: Project
    added: tuple[ProjectClip, ...]


def split_clip(
    project: Project, clip: ProjectClip, ranges: Sequence[TrimRange], new_ids: Sequence[str]
) -> SplitProject:
    """The clip keeps the first range; each further one becomes a clip right after it.

    Crop, data set and rejection are the same for all. Previews go on from the clips that they did.

    Args:
        project: Holds the clip.
        clip: What is split.
        ranges: At least one, in order.
        new_ids: One for each range but the first.
    """
    own = PurePath(clip.caption_file)
    stem = PurePath(clip.source).stem
    added = tuple(
        msgspec.structs.replace(
            clip, id=new_id, trim=trim, caption_file=str(own.with_name(f"{stem}.{new_id}.txt"))
        )
        for trim, new_id in zip(ranges[1:], new_ids, strict=True)
    )
    first = msgspec.structs.replace(clip, trim=ranges[0])
    return SplitProject(project.with_clip(first).with_clips_after(clip.id, added), added)


def snapped(source: SourceVideo, trim: TrimRange, frames: int | None = None) -> TrimRange:
    """From the same in point, exactly as long as a whole number of 4n+1 frames at 16 a second lasts.

    Args:
        source: The video.
        trim: What is shortened or, where `frames` asks for it, lengthened.
        frames: So many; None takes the most that the range holds. The source's end limits it.
    """
    start = source.seconds_at(trim.start_frame)
    if frames is None:
        held = (source.seconds_at(trim.end_frame) - start) * MODEL_FRAMES_PER_SECOND
        frames = valid_frame_count(held + 0.25)
    length = frames / MODEL_FRAMES_PER_SECOND
    # The end frame is out: it is the first one that is not on screen before the range is over.
    end = source.frame_at(start + length - 1e-6) + 1
    return TrimRange(trim.start_frame, max(trim.start_frame + 1, min(end, source.frame_count)))


def ranges_of_source(project: Project, clip: ProjectClip) -> tuple[ProjectClip, ...]:
    """All clips that use the same file, in the project's order."""
    return tuple(other for other in project.clips if other.source == clip.source)
