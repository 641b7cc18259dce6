"""What a batch would change on many clips; nothing is changed here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from trainer.protocol.job import CropBox
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.project import ProjectClip
from wan_studio.domain.trim_suggestion import without_still_ends
from wan_studio.errors import AppError
from wan_studio.services.clip_analysis import AnalysisCache
from wan_studio.services.letterbox import picture_without_bars


@dataclass(frozen=True, slots=True)
class ClipChange:
    """One clip as it is and as it would be."""

    source: SourceVideo
    before: ProjectClip
    after: ProjectClip


Clips = Sequence[tuple[ProjectClip, SourceVideo]]
Finder = Callable[[ProjectClip, SourceVideo, AnalysisCache, Callable[[], bool]], ProjectClip | None]


def still_ends(
    clip: ProjectClip, source: SourceVideo, cache: AnalysisCache, is_cancelled: Callable[[], bool]
) -> ProjectClip | None:
    """The clip without its still head and tail; None when there is none.

    Raises:
        AppError: the source cannot be read, or it was cancelled.
    """
    if source.is_image:
        return None
    motion = cache.analysis(source, is_cancelled=is_cancelled).motion
    found = without_still_ends(source, motion, clip.trim or source.whole_range)
    return None if found is None else msgspec.structs.replace(clip, trim=found.trim)


def black_bars(
    clip: ProjectClip, source: SourceVideo, cache: AnalysisCache, is_cancelled: Callable[[], bool]
) -> ProjectClip | None:
    """The clip with its black bars cut off; None when there are none outside of its crop.

    Raises:
        AppError: the source cannot be read.
    """
    del cache, is_cancelled
    found = picture_without_bars(source, clip.trim or source.whole_range)
    if found is None:
        return None
    crop = found if clip.crop is None else _common(found, clip.crop)
    return None if crop is None or crop == clip.crop else msgspec.structs.replace(clip, crop=crop)


def find_changes(
    clips: Clips,
    finder: Finder,
    cache: AnalysisCache,
    on_progress: Callable[[int, int], object],
    is_cancelled: Callable[[], bool],
) -> list[ClipChange]:
    """What the finder would change, clip by clip; clips that cannot be read are passed over."""
    changes: list[ClipChange] = []
    for done, (clip, source) in enumerate(clips):
        if is_cancelled():
            break
        on_progress(done, len(clips))
        try:
            after = finder(clip, source, cache, is_cancelled)
        except AppError:
            # Its row in every list of clips says why.
            continue
        if after is not None:
            changes.append(ClipChange(source, clip, after))
    return changes


def _common(one: CropBox, other: CropBox) -> CropBox | None:
    """The part that two boxes share, if any."""
    left, top = max(one.left, other.left), max(one.top, other.top)
    right = min(one.left + one.width, other.left + other.width)
    bottom = min(one.top + one.height, other.top + other.height)
    if right <= left or bottom <= top:
        return None
    return CropBox(left=left, top=top, width=right - left, height=bottom - top)
