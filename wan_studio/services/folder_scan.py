"""What has changed in the clips' folders since they were looked at."""

import os
from collections.abc import Mapping
from pathlib import Path

from wan_studio.domain.folder_news import FolderNews, Stamp, WatchedClip
from wan_studio.services.clip_import import natural_key
from wan_studio.services.media_probe import is_media


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
