"""A source video as it is, and the part of it that a clip uses."""

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from pathlib import PurePath

from trainer.protocol.job import CropBox
from wan_studio.errors import AppError


class EmptyTrimError(AppError):
    """A trim range holds no frame."""

    def __init__(self, start_frame: int, end_frame: int) -> None:
        super().__init__(
            f"A trim from frame {start_frame} to frame {end_frame} holds no frame.",
            "Set the out point after the in point.",
        )


@dataclass(frozen=True, slots=True)
class TrimRange:
    """Half-open range of source frames: start_frame is in, end_frame is out."""

    start_frame: int
    end_frame: int

    def __post_init__(self) -> None:
        if not 0 <= self.start_frame < self.end_frame:
            raise EmptyTrimError(self.start_frame, self.end_frame)

    @property
    def frame_count(self) -> int:
        """Frames in the range."""
        return self.end_frame - self.start_frame


@dataclass(frozen=True, slots=True)
class SourceVideo:
    """What was read from a video file; a still image has one frame.

    Attributes:
        path: Absolute path.
        size_bytes: Size of the file.
        modified_ns: Its modification time; with path and size, its identity.
        width: Pixels of the upright picture (rotation applied).
        height: Pixels of the upright picture.
        rotation: Degrees that the decoded picture must be turned counter-clockwise: 0, 90, 180, 270.
        pixel_aspect: Width of a pixel divided by its height, in the upright picture.
        frame_pts: Presentation time stamp of every frame, ascending, in units of `time_base`.
        time_base: Seconds of one time stamp unit.
        codec: Name of the video codec.
        has_sound: Whether there is a sound track (it is ignored).
        is_hdr: Whether the picture is PQ or HLG coded.
    """

    path: str
    size_bytes: int
    modified_ns: int
    width: int
    height: int
    frame_pts: tuple[int, ...]
    time_base: Fraction
    codec: str
    rotation: int = 0
    pixel_aspect: float = 1.0
    has_sound: bool = False
    is_hdr: bool = False

    @property
    def name(self) -> str:
        """File name."""
        return PurePath(self.path).name

    @property
    def frame_count(self) -> int:
        """Number of frames."""
        return len(self.frame_pts)

    @property
    def is_image(self) -> bool:
        """Whether it is a still picture."""
        return len(self.frame_pts) == 1

    @property
    def last_frame_seconds(self) -> float:
        """How long the last frame is shown: the median frame distance, 0 for an image."""
        distances = sorted(b - a for a, b in zip(self.frame_pts, self.frame_pts[1:], strict=False))
        return float(distances[len(distances) // 2] * self.time_base) if distances else 0.0

    @property
    def duration_seconds(self) -> float:
        """From the first frame's start to the last frame's end."""
        return self.seconds_at(self.frame_count)

    @property
    def frames_per_second(self) -> float:
        """Average rate; 0 for an image."""
        duration = self.duration_seconds
        return self.frame_count / duration if duration > 0 else 0.0

    @property
    def has_variable_rate(self) -> bool:
        """Whether frame distances differ by more than time stamp rounding."""
        distances = [b - a for a, b in zip(self.frame_pts, self.frame_pts[1:], strict=False)]
        if not distances:
            return False
        tolerance = max(2.0, 0.1 * sorted(distances)[len(distances) // 2])
        return max(distances) - min(distances) > tolerance

    @property
    def whole_range(self) -> TrimRange:
        """All frames."""
        return TrimRange(0, self.frame_count)

    @property
    def whole_picture(self) -> CropBox:
        """The crop that cuts nothing."""
        return CropBox(left=0, top=0, width=self.width, height=self.height)

    def seconds_at(self, frame: int) -> float:
        """Start of a frame on a clock that is 0 at the first frame; `frame_count` gives the end."""
        if frame >= self.frame_count:
            return float((self.frame_pts[-1] - self.frame_pts[0]) * self.time_base) + self.last_frame_seconds
        return float((self.frame_pts[frame] - self.frame_pts[0]) * self.time_base)

    def frame_starts(self) -> tuple[float, ...]:
        """Start of every frame, as `seconds_at` gives it; for long videos much faster than one by one."""
        first, unit = self.frame_pts[0], float(self.time_base)
        return tuple([(pts - first) * unit for pts in self.frame_pts])

    def frame_at(self, seconds: float) -> int:
        """Index of the frame that is on screen at this time, clamped to the video."""
        # A nanosecond forgives the rounding of seconds that were computed from time stamps.
        wanted_pts = self.frame_pts[0] + (seconds + 1e-9) / float(self.time_base)
        return min(max(bisect_right(self.frame_pts, wanted_pts) - 1, 0), self.frame_count - 1)
