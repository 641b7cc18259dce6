"""What others did in the folders of the clips."""

from dataclasses import dataclass
from pathlib import Path

Stamp = tuple[int, int]
"""Size in bytes and time of change in nanoseconds."""


@dataclass(frozen=True, slots=True)
class WatchedClip:
    """A clip's file as it was when it was looked at.

    Attributes:
        stamp: None where it could not be read then, or was not there.
        is_missing: Whether it was not there.
    """

    clip_id: str
    path: str
    stamp: Stamp | None
    is_missing: bool


@dataclass(frozen=True, slots=True)
class FolderNews:
    """What has changed.

    Attributes:
        changed: Clips whose files have another size or time, or are there again.
        vanished: Clips whose files are gone.
        new: Media files beside the clips that are not in the project.
    """

    changed: frozenset[str] = frozenset()
    vanished: frozenset[str] = frozenset()
    new: tuple[Path, ...] = ()
