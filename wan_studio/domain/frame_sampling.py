"""Which frames of a clip the model sees: chosen by time stamp, 4n+1 of them, at 16 frames a second."""

import hashlib
import math
from dataclasses import dataclass
from typing import Literal

from wan_studio.domain.clip import SourceVideo, TrimRange

MODEL_FRAMES_PER_SECOND = 16
"""The rate at which Wan 2.2 A14B plays its frames."""

SamplingRule = Literal["real_speed", "middle", "random", "sliding", "whole_range"]
"""Which part of a range trains: its head, middle, random parts, parts one after another, or all of it.

All but the last keep the real speed.
"""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How windows are taken from a clip.

    Attributes:
        num_frames: Frames of each window; rounded down to 4n+1.
        rule: Where the windows lie.
        windows: How many windows "random" takes, and the most that "sliding" takes.
        stride: Sixteenths of a second from the start of one "sliding" window to the next.
        seed: Of "random": the same text gives the same windows.
    """

    num_frames: int
    rule: SamplingRule = "real_speed"
    windows: int = 1
    stride: int = 1
    seed: str = ""


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


@dataclass(frozen=True, slots=True)
class SampledLength:
    """How much of a clip trains, without saying which frames.

    Attributes:
        frames: As many as `FrameSample.frames` would hold.
        speed: As there.
        wanted_frames: As there.
    """

    frames: int
    speed: float
    wanted_frames: int


def valid_frame_count(frames: float) -> int:
    """The largest 4n+1 that is not above `frames`; at least 1."""
    return 4 * max(0, math.floor((frames - 1) / 4)) + 1


def frames_in(seconds: float) -> int:
    """The most frames at 16 a second whose starts lie inside a range of this length."""
    # A part in a million of a frame: ranges computed from time stamps are never exact.
    return max(1, math.ceil(seconds * MODEL_FRAMES_PER_SECOND - 1e-6))


def longest_window(source: SourceVideo, trim: TrimRange) -> int:
    """The most frames of a window at real speed, 4n+1; 1 for an image."""
    if source.is_image or trim.frame_count == 1:
        return 1
    return valid_frame_count(frames_in(_range_seconds(source, trim)))


def sampled_length(
    source: SourceVideo, trim: TrimRange, num_frames: int, rule: SamplingRule = "real_speed"
) -> SampledLength:
    """What `sample_frames` would give, in a fraction of its time: lists of thousands ask for it."""
    wanted = valid_frame_count(num_frames)
    if source.is_image or trim.frame_count == 1:
        return SampledLength(1, 1.0, wanted)
    if rule == "whole_range" and wanted > 1:
        span = source.seconds_at(trim.end_frame - 1) - source.seconds_at(trim.start_frame)
        return SampledLength(wanted, span * MODEL_FRAMES_PER_SECOND / (wanted - 1), wanted)
    return SampledLength(min(wanted, longest_window(source, trim)), 1.0, wanted)


def sample_frames(
    source: SourceVideo, trim: TrimRange, num_frames: int, rule: SamplingRule = "real_speed"
) -> FrameSample:
    """The first window that `sample_windows` takes, one window being asked for."""
    return sample_windows(source, trim, Sampling(num_frames, rule))[0]


def sample_windows(source: SourceVideo, trim: TrimRange, sampling: Sampling) -> tuple[FrameSample, ...]:
    """Choose the windows of a clip.

    At real speed the range is first sampled at sixteenths of a second from its start, each the
    frame on screen then; a window is a run of those samples. A range too short for the wanted
    frames gives the largest 4n+1 that it holds. Whole range spreads the wanted frames evenly from
    its first to its last frame, whatever the speed.

    Args:
        source: The video.
        trim: Range inside the video.
        sampling: What to take.

    Returns:
        At least one window, in order of their starts, no two with the same frames.
    """
    wanted = valid_frame_count(sampling.num_frames)
    start = source.seconds_at(trim.start_frame)
    last = trim.end_frame - 1
    if source.is_image or trim.frame_count == 1:
        return (FrameSample((trim.start_frame,), 1.0, wanted),)
    if sampling.rule == "whole_range" and wanted > 1:
        span = source.seconds_at(last) - start
        frames = tuple(_on_screen(source, start + span * i / (wanted - 1), last) for i in range(wanted))
        return (FrameSample(frames, span * MODEL_FRAMES_PER_SECOND / (wanted - 1), wanted),)
    available = frames_in(_range_seconds(source, trim))
    count = min(wanted, valid_frame_count(available))
    taken = dict.fromkeys(
        tuple(_on_screen(source, start + (first + i) / MODEL_FRAMES_PER_SECOND, last) for i in range(count))
        for first in _window_starts(available - count, sampling)
    )
    return tuple(FrameSample(frames, 1.0, wanted) for frames in taken)


def _window_starts(last_start: int, sampling: Sampling) -> list[int]:
    """Where windows begin, ascending, in sixteenths of a second; none after `last_start`."""
    match sampling.rule:
        case "middle":
            return [last_start // 2]
        case "random":

            def place(start: int) -> bytes:
                return hashlib.blake2b(f"{sampling.seed}/{start}".encode(), digest_size=16).digest()

            # By a hash, not a generator: the same on every machine and Python version.
            return sorted(sorted(range(last_start + 1), key=place)[: sampling.windows])
        case "sliding":
            return list(range(0, last_start + 1, sampling.stride))[: sampling.windows]
        case _:
            return [0]


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
