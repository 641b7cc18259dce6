"""How the clips that train spread over buckets: sizes and lengths that are seen together in a batch."""

from collections.abc import Iterable
from dataclasses import dataclass

from wan_studio.domain.clip_record import ClipRecord

_FEW = 3
_SMALL_SHARE = 0.15
"""Of all clips: three of ten are a group of their own, three of a hundred are stragglers."""
_MANY = 8
"""In fewer clips than these nothing is rare."""


@dataclass(frozen=True, slots=True)
class BucketCount:
    """One bucket.

    Attributes:
        width: Pixels.
        height: Pixels.
        frames: At 16 a second; 1 for images.
        clips: How many train in it.
        is_rare: Whether so few that the model sees this size and length seldom.
    """

    width: int
    height: int
    frames: int
    clips: int
    is_rare: bool

    @property
    def query(self) -> str:
        """The search that finds its clips."""
        return f"bucket:{self.width}x{self.height} trains:{self.frames} is:usable"

    @property
    def words(self) -> str:
        """E.g. "672 × 384, 41 frames"."""
        return f"{self.width} × {self.height}, {self.frames} {'frame' if self.frames == 1 else 'frames'}"

    @property
    def text(self) -> str:
        """What there is to say about it."""
        clips = "1 clip trains" if self.clips == 1 else f"{self.clips} clips train"
        told = f"{clips} at {self.words}."
        if not self.is_rare:
            return told
        use = "1 clip uses" if self.clips == 1 else f"{self.clips} clips use"
        return f"{told} Only {use} it: crop or trim them like the others, so that batches are mixed."


def bucket_histogram(records: Iterable[ClipRecord]) -> list[BucketCount]:
    """The buckets of the usable clips, the fullest first."""
    counts: dict[tuple[int, int, int], int] = {}
    clips = 0
    for record in records:
        if not record.is_usable or not record.trains:
            continue
        clips += 1
        for width, height in record.buckets:
            bucket = (width, height, record.trains)
            counts[bucket] = counts.get(bucket, 0) + 1
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return [
        # Images are always seen by themselves.
        BucketCount(
            *bucket,
            count,
            is_rare=clips >= _MANY and bucket[2] > 1 and count <= _FEW and count < _SMALL_SHARE * clips,
        )
        for bucket, count in ordered
    ]
