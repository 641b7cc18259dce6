"""Which frames of a clip the model sees: chosen by time stamp, 4n+1 of them, at 16 frames a second."""

import math
from dataclasses import dataclass
from typing import Literal

from wan_studio.domain.clip import SourceVideo, TrimRange

MODEL_FRAMES_PER_SECOND = 16
"""The rate at which Wan 2.2 A14B plays its frames."""

SamplingRule = Literal["real_speed", "whole_range"]


@dataclass(frozen=True, slots=True)
class FrameSample:
    """The frames chosen from a clip.

    Attributes:
        frames: Source frame indices, ascending; slow sources repeat some.
        speed: How much faster than real the motion is learnt; 1.0 is real speed.
        wanted_frames: What was asked for; more than `len(frames)` when the range is too short.
    """

    frames: tuple[int, ...]
    speed: float
    wanted_frames: int

    @property
    def is_shortened(self) -> bool:
        """Whether the range held fewer frames than were asked for."""
        return len(self.frames) < self.wanted_frames


def valid_frame_count(frames: float) -> int:
    """The largest 4n+1 that is not above `frames`; at least 1."""
    return 4 * max(0, math.floor((frames - 1) / 4)) + 1


def frames_in(seconds: float) -> int:
    """The most frames at 16 a second whose starts lie inside a range of this length."""
    # A part in a million of a frame: ranges computed from time stamps are never exact.
    return max(1, math.ceil(seconds * MODEL_FRAMES_PER_SECOND - 1e-6))


def longest_real_speed_sample(source: SourceVideo, trim: TrimRange) -> int:
    """The most frames (4n+1) that the range gives at real speed."""
    return valid_frame_count(frames_in(_range_seconds(source, trim)))


def sample_frames(
    source: SourceVideo, trim: TrimRange, num_frames: int, rule: SamplingRule = "real_speed"
) -> FrameSample:
    """Choose `num_frames` frames from the range.

    Real speed takes the frame on screen at each sixteenth of a second from the range's start; a
    range too short for them gives the largest 4n+1 that it holds. Whole range spreads them evenly
    from its first to its last frame, whatever the speed.

    Args:
        source: The video.
        trim: Range inside the video.
        num_frames: Frames wanted; rounded down to 4n+1.
        rule: See above.
    """
    wanted = valid_frame_count(num_frames)
    start = source.seconds_at(trim.start_frame)
    last = trim.end_frame - 1
    if source.is_image or trim.frame_count == 1 or wanted == 1:
        return FrameSample((trim.start_frame,), 1.0, wanted)
    if rule == "whole_range":
        span = source.seconds_at(last) - start
        frames = tuple(_on_screen(source, start + span * i / (wanted - 1), last) for i in range(wanted))
        return FrameSample(frames, span * MODEL_FRAMES_PER_SECOND / (wanted - 1), wanted)
    count = min(wanted, longest_real_speed_sample(source, trim))
    frames = tuple(_on_screen(source, start + i / MODEL_FRAMES_PER_SECOND, last) for i in range(count))
    return FrameSample(frames, 1.0, wanted)


def _on_screen(source: SourceVideo, seconds: float, last_frame: int) -> int:
    return min(source.frame_at(seconds + _rounding_seconds(source)), last_frame)


def _range_seconds(source: SourceVideo, trim: TrimRange) -> float:
    length = source.seconds_at(trim.end_frame) - source.seconds_at(trim.start_frame)
    return length - _rounding_seconds(source)


def _rounding_seconds(source: SourceVideo) -> float:
    """By how much two time stamps may be off because their container rounds them.

    Matroska has whole milliseconds: the frames of a video at 16 a second are 62 or 63 of them apart.
    Containers whose unit is about as long as a frame (AVI) do not round.
    """
    unit = float(source.time_base)
    return unit if 4 * unit <= source.last_frame_seconds else 0.0
