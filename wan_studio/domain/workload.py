"""What a run has to compute: the shapes of its batches and previews, and how often each comes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wan_studio.domain.buckets import bucket_for
from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.domain.frame_sampling import longest_window, valid_frame_count
from wan_studio.domain.project import DatasetSettings, Project, Settings


@dataclass(frozen=True, slots=True, order=True)
class ClipShape:
    """A clip as the model takes it: pixels are multiples of 16, frames 4n+1."""

    width: int
    height: int
    frames: int

    @property
    def latent_frames(self) -> int:
        """Frames of its latents; the VAE folds four frames into one, and keeps the first."""
        return (self.frames - 1) // 4 + 1

    @property
    def tokens(self) -> int:
        """What the transformer sees: a token is 16 x 16 pixels of one latent frame."""
        return self.latent_frames * (self.width // 16) * (self.height // 16)

    def __str__(self) -> str:
        return f"{self.width} x {self.height}, {self.frames} frames"


@dataclass(frozen=True, slots=True)
class ClipExtent:
    """What there is of one clip: whatever is trained of it must lie inside.

    Attributes:
        width: Of the cropped picture, displayed, in square pixels.
        height: The same.
        seconds: Length of the trimmed range; 0 for an image.
        longest: Frames of its longest window at 16 a second, 4n+1; 1 for an image.
        windows: Parts of it that train.
    """

    width: float
    height: float
    seconds: float
    longest: int
    windows: int = 1


@dataclass(frozen=True, slots=True)
class BucketUse:
    """Batches of one shape.

    Attributes:
        share: Of all training batches, 0..1.
        clips: Different clips that train at it.
    """

    shape: ClipShape
    share: float
    clips: int


@dataclass(frozen=True, slots=True)
class Workload:
    """All that a run computes, but for how often.

    Attributes:
        buckets: Of the training batches, the one with the most tokens first; at least one.
        previews: Shape of each preview row.
        windows: Cached windows of all clips, each once for every size.
        captions: Different captions, at most.
        is_assumed: Whether it was made without knowing the clips.
    """

    buckets: tuple[BucketUse, ...]
    previews: tuple[ClipShape, ...] = ()
    windows: int = 1
    captions: int = 1
    is_assumed: bool = False

    @property
    def largest(self) -> ClipShape:
        """The shape with the most tokens."""
        return self.buckets[0].shape


def clip_extent(source: SourceVideo, trim: TrimRange, size: tuple[float, float], windows: int) -> ClipExtent:
    """What a source's range and crop hold.

    Args:
        source: The probed video.
        trim: Range inside it.
        size: Displayed width and height of the crop, in square pixels.
        windows: Parts of it that train.
    """
    width, height = size
    seconds = source.seconds_at(trim.end_frame) - source.seconds_at(trim.start_frame)
    seconds = 0.0 if source.is_image else seconds
    return ClipExtent(width, height, seconds, longest_window(source, trim), windows)


def clip_extents(project: Project, sources: Mapping[str, SourceVideo]) -> tuple[ClipExtent, ...]:
    """The extents of the project's clips that train; clips without a known source are left out."""
    extents: list[ClipExtent] = []
    for clip in project.clips:
        source = sources.get(clip.id)
        if clip.rejected or source is None:
            continue
        settings = project.dataset_settings(clip.dataset)
        trim = clip.trim or source.whole_range
        crop = clip.crop or source.whole_picture
        if trim.end_frame > source.frame_count:
            continue
        windows = settings.windows if settings.sampling in ("random", "sliding") else 1
        extents.append(clip_extent(source, trim, (crop.width * source.pixel_aspect, crop.height), windows))
    return tuple(extents)


def workload_of(settings: Settings, clips: Sequence[ClipExtent]) -> Workload:
    """What a run with these settings computes for these clips; without clips, for squares.

    Every clip comes equally often here; weights of data sets move shares by little.
    """
    if not clips:
        return _assumed(settings)
    data = settings.datasets
    counts: Counter[ClipShape] = Counter()
    windows = 0
    for clip in clips:
        for shape in _shapes(clip, data):
            counts[shape] += 1
            windows += clip.windows * _copies(data)
    total = sum(counts.values())
    buckets = sorted(
        (BucketUse(shape, count / total, count) for shape, count in counts.items()),
        key=lambda use: (-use.shape.tokens, use.shape),
    )
    first = next(iter(_shapes(clips[0], data)))
    return Workload(tuple(buckets), _previews(settings, first), windows, len(clips) * _copies(data))


def _shapes(clip: ClipExtent, data: DatasetSettings) -> dict[ClipShape, None]:
    """The shapes at which a clip trains, each once."""
    wanted = valid_frame_count(data.num_frames)
    frames = wanted if data.sampling == "whole_range" and clip.longest > 1 else min(wanted, clip.longest)
    shapes: dict[ClipShape, None] = {}
    for resolution in data.resolutions:
        size = bucket_for(clip.width, clip.height, resolution, allow_upscale=data.allow_upscale)
        shapes[ClipShape(size.width, size.height, frames)] = None
    return shapes


def _copies(data: DatasetSettings) -> int:
    """A clip and its mirrored copies."""
    return (2 if data.flip_horizontal else 1) * (2 if data.flip_vertical else 1)


def _assumed(settings: Settings) -> Workload:
    data = settings.datasets
    frames = valid_frame_count(data.num_frames)
    sides = sorted(set(data.resolutions), reverse=True)
    buckets = tuple(BucketUse(ClipShape(side, side, frames), 1 / len(sides), _USUAL_CLIPS) for side in sides)
    first = ClipShape(sides[-1], sides[-1], frames)
    windows = _USUAL_CLIPS * len(sides) * _copies(data)
    return Workload(buckets, _previews(settings, first), windows, _USUAL_CLIPS, is_assumed=True)


def _previews(settings: Settings, first: ClipShape) -> tuple[ClipShape, ...]:
    """Without rows of its own a run previews its first clip, at the size at which it trains."""
    if not settings.sample.every:
        return ()
    rows = settings.sample.rows
    return tuple(ClipShape(row.size.width, row.size.height, row.num_frames) for row in rows) or (first,)


_USUAL_CLIPS = 20
"""As many clips as the guides advise: 10 to 30."""
