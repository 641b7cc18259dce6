"""Several ranges of one source: each is a clip of the project with a caption file of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

import msgspec

from trainer.protocol.job import CropBox
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


@dataclass(frozen=True, slots=True)
class CopiedCut:
    """A trim and crop taken from one clip, to be given to others of any length, rate and size.

    Attributes:
        start: Second of the in point; None is the whole clip.
        length: Seconds from in to out.
        crop: Left, top, width and height as shares of the picture; None is all of it.
    """

    start: float | None
    length: float
    crop: tuple[float, float, float, float] | None


def copied_cut(source: SourceVideo, clip: ProjectClip) -> CopiedCut:
    """What there is to copy of a clip."""
    start, length, shares = None, 0.0, None
    if clip.trim is not None:
        start = source.seconds_at(clip.trim.start_frame)
        length = source.seconds_at(clip.trim.end_frame) - start
    if clip.crop is not None:
        box, width, height = clip.crop, source.width, source.height
        shares = (box.left / width, box.top / height, box.width / width, box.height / height)
    return CopiedCut(start, length, shares)


def with_cut(source: SourceVideo, clip: ProjectClip, cut: CopiedCut) -> ProjectClip:
    """The clip with a copied trim and crop, as far as its file has them."""
    trim = crop = None
    if cut.start is not None and not source.is_image:
        start = source.frame_at(cut.start + 1e-6)
        end = source.frame_at(cut.start + cut.length - 1e-6) + 1
        found = TrimRange(min(start, source.frame_count - 1), max(end, start + 1))
        trim = None if found == source.whole_range else found
    if cut.crop is not None:
        left, top = round(cut.crop[0] * source.width), round(cut.crop[1] * source.height)
        crop = CropBox(
            left=min(left, source.width - 1),
            top=min(top, source.height - 1),
            width=max(1, min(round(cut.crop[2] * source.width), source.width - left)),
            height=max(1, min(round(cut.crop[3] * source.height), source.height - top)),
        )
    return msgspec.structs.replace(clip, trim=trim, crop=crop)
