"""Many captions read at once, on a thread of the pool."""

from collections.abc import Iterable
from pathlib import Path

from wan_studio.domain.project import ProjectClip
from wan_studio.errors import AppError
from wan_studio.services.caption_place import read_clip_caption


def read_captions(clips: Iterable[ProjectClip], captions_folder: Path) -> dict[str, tuple[str | None, str]]:
    """Text and problem of each caption, by clip id; `captions_folder` is the project's for what it keeps."""
    read: dict[str, tuple[str | None, str]] = {}
    for clip in clips:
        try:
            read[clip.id] = (read_clip_caption(clip, captions_folder).text, "")
        except (AppError, OSError) as error:
            read[clip.id] = (None, str(error))
    return read
