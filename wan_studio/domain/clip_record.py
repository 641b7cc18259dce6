"""A clip as a search sees it: everything that can be asked about it, worked out once."""

from dataclasses import dataclass

import msgspec

from wan_studio.domain.buckets import bucket_for
from wan_studio.domain.checks import ClipFacts, Level, Problem, clip_problems
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.clip_look import ClipLook
from wan_studio.domain.clip_names import clip_label
from wan_studio.domain.frame_sampling import sampled_length
from wan_studio.domain.project import Project, ProjectClip

STILL_SECONDS = 0.5
"""A start or end that stands still for at least this long is worth cutting off."""

_UNUSED_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class DuplicateMark:
    """That a clip shows what others show.

    Attributes:
        group: The clips of one group have the same number.
        is_exact: The files hold the same bytes; otherwise they only look alike.
        is_best: The one of its group to keep.
    """

    group: int
    is_exact: bool
    is_best: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """A clip that may be one of several alike.

    Attributes:
        place: Of its file; parts of one file are no copies of each other.
        seconds: Its length.
        worth: Which one to keep: the larger, the better.
    """

    clip_id: str
    place: str
    seconds: float
    look: ClipLook
    worth: tuple[float, ...]


class ClipRecord(msgspec.Struct, frozen=True):
    """What is known of a clip, flat; a number that is not known is None.

    Attributes:
        name: What it is called: the user's name for it, or the file's.
        label: The name, with the range where other clips use the same file.
        text: Names and caption in lower case, for words that name no field.
        side: Side in pixels of the square with the area of the used picture; resolutions are given so.
        seconds: Length of the source.
        used_seconds: Length of the trimmed range.
        trains: Frames that train of it.
        speed: How much faster than real it is learnt.
        buckets: Widths and heights at which it trains, one for each resolution.
        findings: What was found, as names of `clip_health.FINDINGS`.
        problems: The same as sentences about this clip, worst first.
    """

    id: str
    name: str
    source: str
    text: str
    dataset: str
    rating: int
    rejected: bool
    label: str = ""
    caption: str | None = None
    codec: str = ""
    width: int | None = None
    height: int | None = None
    side: float | None = None
    fps: float | None = None
    frames: int | None = None
    seconds: float | None = None
    used_seconds: float | None = None
    trains: int | None = None
    speed: float | None = None
    buckets: tuple[tuple[int, int], ...] = ()
    megabytes: float | None = None
    group: int = -1
    findings: frozenset[str] = frozenset()
    traits: frozenset[str] = frozenset()
    problems: tuple[Problem, ...] = ()

    @property
    def is_usable(self) -> bool:
        """Whether it trains."""
        return (
            not self.rejected
            and self.frames is not None
            and not any(problem.level is Level.BLOCKER for problem in self.problems)
        )


def make_record(
    project: Project,
    clip: ProjectClip,
    facts: ClipFacts,
    mark: DuplicateMark | None = None,
    *,
    is_shared: bool = False,
) -> ClipRecord:
    """Work out what can be asked about a clip; `is_shared` says that other clips use its file."""
    caption = facts.caption
    found = set(_findings(project, clip, facts))
    if mark is not None and not clip.rejected:
        found.add("duplicate" if mark.is_exact else "near")
    problems = clip_problems(project, clip, facts)
    shorts = {problem.short for problem in problems}
    found |= {"trigger"} if "No trigger" in shorts else set()
    found |= {"outside"} if "Trim outside" in shorts else set()
    record = ClipRecord(
        id=clip.id,
        name=clip.name,
        label=clip_label(clip, facts.source, is_shared=is_shared),
        source=clip.source,
        text=f"{clip.title}\n{clip.file_name}\n{caption or ''}".casefold(),
        dataset=clip.dataset,
        rating=clip.rating,
        rejected=clip.rejected,
        caption=caption,
        group=-1 if mark is None else mark.group,
        findings=frozenset() if clip.rejected else frozenset(found),
        traits=_traits(clip, facts),
        problems=problems,
    )
    return record if facts.source is None else _with_source(record, project, clip, facts.source)


def _with_source(record: ClipRecord, project: Project, clip: ProjectClip, source: SourceVideo) -> ClipRecord:
    settings = project.dataset_settings(clip.dataset)
    trim = clip.trim or source.whole_range
    crop = clip.crop or source.whole_picture
    used, trains, speed = 0.0, None, None
    if trim.end_frame <= source.frame_count:
        used = source.seconds_at(trim.end_frame) - source.seconds_at(trim.start_frame)
        length = sampled_length(source, trim, settings.num_frames, settings.sampling)
        trains, speed = length.frames, length.speed
    shown = (crop.width * source.pixel_aspect, crop.height)
    upscale = settings.allow_upscale
    sizes = [bucket_for(*shown, resolution, allow_upscale=upscale) for resolution in settings.resolutions]
    return msgspec.structs.replace(
        record,
        codec=source.codec,
        width=source.width,
        height=source.height,
        side=(crop.width * source.pixel_aspect * crop.height) ** 0.5,
        fps=source.frames_per_second,
        frames=source.frame_count,
        seconds=source.duration_seconds,
        used_seconds=used,
        trains=trains,
        speed=speed,
        buckets=tuple(dict.fromkeys((size.width, size.height) for size in sizes)),
        megabytes=source.size_bytes / 1e6,
    )


def _traits(clip: ProjectClip, facts: ClipFacts) -> frozenset[str]:
    """What `has:` and `is:` can ask beside the findings."""
    source = facts.source
    traits = {
        "trim": clip.trim is not None,
        "crop": clip.crop is not None,
        "caption": bool((facts.caption or "").strip()),
        "sound": source is not None and source.has_sound,
        "image": source is not None and source.is_image,
        "video": source is not None and not source.is_image,
        "rejected": clip.rejected,
        "rated": clip.rating > 0,
        "unknown": not facts.is_known,
    }
    return frozenset(name for name, holds in traits.items() if holds)


def _findings(project: Project, clip: ProjectClip, facts: ClipFacts) -> list[str]:
    if facts.is_missing:
        return ["missing"]
    if facts.unreadable:
        return ["unreadable"]
    settings = project.dataset_settings(clip.dataset)
    found: list[str] = []
    if facts.caption is not None and not facts.caption.strip() and not settings.default_caption.strip():
        found.append("uncaptioned")
    source = facts.source
    if source is None:
        return found
    found += [
        name
        for name, holds in {
            "vfr": source.has_variable_rate,
            "rotated": source.rotation != 0,
            "hdr": source.is_hdr,
        }.items()
        if holds
    ]
    crop = clip.crop or source.whole_picture
    if (crop.width * source.pixel_aspect * crop.height) ** 0.5 < 0.98 * min(settings.resolutions):
        found.append("lowres")
    if facts.look is not None and facts.look.picture is not None and clip.crop is None:
        found.append("letterbox")
    trim = clip.trim or source.whole_range
    if source.is_image or trim.end_frame > source.frame_count:
        return found
    length = sampled_length(source, trim, settings.num_frames, settings.sampling)
    if length.frames < length.wanted_frames:
        found.append("short")
    if not 0.8 <= length.speed <= 1.2:
        found.append("speed")
    is_untrimmed = clip.trim is None and settings.sampling in ("real_speed", "middle", "whole_range")
    trained_seconds = length.frames / 16
    if is_untrimmed and source.duration_seconds > trained_seconds + _UNUSED_SECONDS:
        found.append("untrimmed")
    if clip.trim is None and facts.look is not None and facts.look.has_still_ends(STILL_SECONDS):
        found.append("still")
    return found
