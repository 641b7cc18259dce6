"""How much moves in a clip from frame to frame, and where its scenes change."""

from dataclasses import dataclass

from wan_studio.domain.clip import SourceVideo, TrimRange

CUT_SCORE = 10.0
"""From this on a change is a cut: FFmpeg's own default, of 100."""
_SHORTEST_SCENE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class ClipMotion:
    """What one pass over all frames told.

    Attributes:
        curve: For each frame, how much it differs from the one before: per cent of full brightness,
            averaged over the picture; 0 for the first.
        cut_scores: For each frame, how likely a scene begins with it, 0 to 100.
    """

    curve: tuple[float, ...]
    cut_scores: tuple[float, ...]


def cuts_of(source: SourceVideo, motion: ClipMotion, threshold: float = CUT_SCORE) -> tuple[int, ...]:
    """First frames of new scenes, ascending; of cuts close together (flashes) only the first counts."""
    cuts: list[int] = []
    previous = 0.0
    for frame, score in enumerate(motion.cut_scores[: source.frame_count]):
        if not frame or score < threshold:
            continue
        seconds = source.seconds_at(frame)
        if seconds - previous >= _SHORTEST_SCENE_SECONDS:
            cuts.append(frame)
            previous = seconds
    return tuple(cuts)


def scenes_in(trim: TrimRange, cuts: tuple[int, ...]) -> tuple[TrimRange, ...]:
    """The parts of a range between its cuts."""
    edges = [trim.start_frame, *(cut for cut in cuts if trim.start_frame < cut < trim.end_frame)]
    ends = [*edges[1:], trim.end_frame]
    return tuple(TrimRange(start, end) for start, end in zip(edges, ends, strict=True))


def neighbouring_cut(frame: int, stops: tuple[int, ...], direction: int) -> int | None:
    """The next of some frames after (1) or before (-1) this one; None when there is none."""
    if direction > 0:
        return min((stop for stop in stops if stop > frame), default=None)
    return max((stop for stop in stops if stop < frame), default=None)
