"""Where the motion is: still heads and tails, and the part of a range that is best trained on."""

from dataclasses import dataclass
from statistics import median

from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.domain.clip_motion import ClipMotion, cuts_of, scenes_in
from wan_studio.domain.frame_sampling import MODEL_FRAMES_PER_SECOND

PAD_SECONDS = 0.15
"""Kept before the motion begins and after it ends: a start from rest belongs to it."""
SHORTEST_STILL_SECONDS = 0.3
"""A shorter still head or tail is left where it is."""

_FAINTEST = 0.12
"""Per cent of brightness: less than this is noise of the sensor or the codec."""
_SHARE_OF_STRONG = 0.15
"""Motion is what has at least so much of the range's strong motion above its quiet level."""


@dataclass(frozen=True, slots=True)
class TrimSuggestion:
    """A shorter range, and why.

    Attributes:
        trim: The range.
        head_seconds: What it leaves out at the start.
        tail_seconds: What it leaves out at the end.
    """

    trim: TrimRange
    head_seconds: float
    tail_seconds: float


def without_still_ends(source: SourceVideo, motion: ClipMotion, trim: TrimRange) -> TrimSuggestion | None:
    """The range without its still head and tail; None where there is none, or where nothing moves."""
    moving = _moving_frames(motion, trim, frozenset(cuts_of(source, motion)))
    if not moving:
        return None
    begins = source.seconds_at(moving[0] - 1) - PAD_SECONDS
    ends = source.seconds_at(moving[-1] + 1) + PAD_SECONDS
    start, end = trim.start_frame, trim.end_frame
    if begins - source.seconds_at(start) >= SHORTEST_STILL_SECONDS:
        start = source.frame_at(begins)
    if source.seconds_at(end) - ends >= SHORTEST_STILL_SECONDS:
        end = min(end, source.frame_at(ends) + 1)
    found = TrimRange(start, end)
    return None if found == trim else _suggestion(source, trim, found)


def motion_range(
    source: SourceVideo, motion: ClipMotion, trim: TrimRange, num_frames: int
) -> TrimSuggestion | None:
    """The part with the most motion that lasts as long as the trained frames, inside one scene.

    A scene that is shorter is taken whole. None when it is all of the range already, or when nothing
    moves.
    """
    wanted = num_frames / MODEL_FRAMES_PER_SECOND
    best: tuple[float, TrimRange] | None = None
    for scene in scenes_in(trim, cuts_of(source, motion)):
        found = without_still_ends(source, motion, scene)
        part = scene if found is None else _widened(source, found.trim, scene, wanted)
        if _moving_frames(motion, part, frozenset()):
            candidate = _strongest(source, motion, part, wanted)
            if best is None or candidate[0] > best[0] * 1.05:
                best = candidate
    if best is None or best[1] == trim:
        return None
    return _suggestion(source, trim, best[1])


def _widened(source: SourceVideo, part: TrimRange, scene: TrimRange, wanted: float) -> TrimRange:
    """The part with as much around it, on both sides, as it lacks of a length in seconds."""
    start, end = source.seconds_at(part.start_frame), source.seconds_at(part.end_frame)
    lacking = wanted - (end - start)
    if lacking <= 0:
        return part
    earliest, latest = source.seconds_at(scene.start_frame), source.seconds_at(scene.end_frame)
    start = max(earliest, min(start - lacking / 2, latest - wanted))
    first = max(scene.start_frame, source.frame_at(start))
    return TrimRange(first, max(part.end_frame, _end_after(source, scene, first, wanted)))


def _strongest(
    source: SourceVideo, motion: ClipMotion, part: TrimRange, wanted: float
) -> tuple[float, TrimRange]:
    """The window of some seconds with the most motion, and how much; of equal ones the first."""
    sums = [0.0]
    for frame in range(part.start_frame, part.end_frame):
        # The step into the part is no motion inside it.
        change = motion.curve[frame] if part.start_frame < frame < len(motion.curve) else 0.0
        sums.append(sums[-1] + change)
    best = (-1.0, part)
    for start in range(part.start_frame, part.end_frame):
        end = _end_after(source, part, start, wanted)
        total = sums[end - part.start_frame] - sums[start - part.start_frame]
        if total > best[0] + 1e-9:
            best = (total, TrimRange(start, end))
        if end == part.end_frame:
            break
    return best


def _end_after(source: SourceVideo, part: TrimRange, start: int, wanted: float) -> int:
    """The end of a window of some seconds that begins with a frame."""
    last = source.frame_at(source.seconds_at(start) + wanted - 1e-6)
    return min(part.end_frame, max(last + 1, start + 1))


def _moving_frames(motion: ClipMotion, trim: TrimRange, cuts: frozenset[int]) -> list[int]:
    """Frames of a range that differ from the one before because something moves."""
    frames = [
        frame
        for frame in range(trim.start_frame + 1, min(trim.end_frame, len(motion.curve)))
        if frame not in cuts
    ]
    if not frames:
        return []
    # A single repeated or flashing frame is no change of pace.
    smooth = [median(motion.curve[max(frames[0], frame - 1) : frame + 2]) for frame in frames]
    ordered = sorted(smooth)
    quiet, strong = ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 64]
    threshold = max(_FAINTEST, quiet + _SHARE_OF_STRONG * (strong - quiet))
    if strong < _FAINTEST:
        return []
    if strong - quiet < _FAINTEST or quiet > 0.5 * strong:
        # It moves all the time.
        return frames
    return [frame for frame, change in zip(frames, smooth, strict=True) if change >= threshold]


def _suggestion(source: SourceVideo, old: TrimRange, new: TrimRange) -> TrimSuggestion:
    return TrimSuggestion(
        new,
        head_seconds=source.seconds_at(new.start_frame) - source.seconds_at(old.start_frame),
        tail_seconds=source.seconds_at(old.end_frame) - source.seconds_at(new.end_frame),
    )
