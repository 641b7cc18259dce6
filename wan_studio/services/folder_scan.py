"""What has changed in the clips' folders since they were looked at."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wan_studio.services.clip_import import natural_key
from wan_studio.services.media_probe import is_media

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


def scan(clips: list[WatchedClip]) -> FolderNews:
    """Compare the folders with what is known; a folder that cannot be listed is one whose files are gone."""
    folders = dict.fromkeys(os.path.dirname(clip.path) for clip in clips)  # noqa: PTH120 - thousands of them
    there: dict[str, Mapping[str, Stamp]] = {folder: _listed(folder) for folder in folders}
    changed: set[str] = set()
    vanished: set[str] = set()
    known: dict[str, set[str]] = {}
    for clip in clips:
        folder, name = os.path.split(clip.path)
        known.setdefault(folder, set()).add(name)
        stamp = there[folder].get(name)
        if stamp is None:
            if not clip.is_missing:
                vanished.add(clip.clip_id)
        elif clip.is_missing or (clip.stamp is not None and stamp != clip.stamp):
            changed.add(clip.clip_id)
    new = [
        Path(folder, name)
        for folder, files in there.items()
        for name in files
        if name not in known.get(folder, set())
    ]
    return FolderNews(frozenset(changed), frozenset(vanished), tuple(sorted(new, key=natural_key)))


def _listed(folder: str) -> dict[str, Stamp]:
    found: dict[str, Stamp] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and is_media(Path(entry.name)) and entry.is_file():
                    status = entry.stat()
                    found[entry.name] = (status.st_size, status.st_mtime_ns)
    except OSError:
        return found
    return found
