"""Rows of previews: what a new one starts as, and what one may become."""

from collections.abc import Sequence
from typing import Any

import msgspec

from trainer.protocol.job import BucketSize, SampleRow
from wan_studio.domain.buckets import SIZE_STEP, trained_size
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.frame_sampling import valid_frame_count
from wan_studio.domain.project import Project, SettingValueError, with_fields

LONGEST_PREVIEW = 41
"""Frames of a new preview, at most: longer ones take long to render."""


def next_clip(project: Project, rows: Sequence[SampleRow]) -> int | None:
    """The clip that a further preview starts from: the first that trains and has none yet.

    Returns:
        Index into the project's clips; None without any that trains.
    """
    usable = [at for at, clip in enumerate(project.clips) if not clip.rejected]
    taken = {row.clip for row in rows if not row.image}
    return next((at for at in usable if at not in taken), usable[0] if usable else None)


def new_row(project: Project, clip_index: int, caption: str, source: SourceVideo | None) -> SampleRow:
    """A preview that goes on from a clip's first frame, with its caption and at its size.

    Args:
        project: Its settings decide size and length.
        clip_index: Index into the project's clips.
        caption: The clip's own; an empty one takes the default caption.
        source: The clip's video; None while it is not known, then the preview is square.
    """
    clip, datasets = project.clips[clip_index], project.dataset_settings(project.clips[clip_index].dataset)
    resolution = datasets.resolutions[0]
    if source is None:
        size = BucketSize(width=resolution, height=resolution)
    else:
        fitted = trained_size(
            clip.crop or source.whole_picture,
            source.pixel_aspect,
            resolution,
            allow_upscale=datasets.allow_upscale,
        )
        size = BucketSize(width=fitted.width, height=fitted.height)
    return SampleRow(
        prompt=caption.strip() or datasets.default_caption.strip(),
        clip=clip_index,
        size=size,
        num_frames=valid_frame_count(min(datasets.num_frames, LONGEST_PREVIEW)),
    )


def with_row_value(row: SampleRow, field: str, value: Any) -> SampleRow:
    """A copy with one field replaced; `width` and `height` are fields here, too.

    Raises:
        SettingValueError: the value is out of range, no multiple of 16, or no 4n + 1 frames.
    """
    if field in ("width", "height"):
        size = with_fields(row.size, "size", {field: value})
        return msgspec.structs.replace(row, size=size)
    changed = with_fields(row, "sample", {field: value})
    if field == "num_frames" and valid_frame_count(changed.num_frames) != changed.num_frames:
        raise SettingValueError("sample.num_frames", str(value), "Expected 4n + 1 frames")
    return changed


SIZE_RULE = f"It must be a multiple of {SIZE_STEP}."
FRAMES_RULE = "It must be 4n + 1 frames: 1, 5, 9, 13 and so on."
