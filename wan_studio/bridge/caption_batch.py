"""Many captions read at once, on a thread of the pool."""

from collections.abc import Iterable
from pathlib import Path

from wan_studio.domain.project import ProjectClip
from wan_studio.errors import AppError
from wan_studio.services.caption_store import read_caption


def read_captions(clips: Iterable[ProjectClip]) -> dict[str, tuple[str | None, str]]:
    """Text and problem of each caption, by clip id."""
    read: dict[str, tuple[str | None, str]] = {}
    for clip in clips:
        try:
            read[clip.id] = (read_caption(Path(clip.caption_file)).text, "")
        except (AppError, OSError) as error:
            read[clip.id] = (None, str(error))
    return read
