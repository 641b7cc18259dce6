"""Finds files again that were moved or renamed: by name and size, then by their bytes."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from wan_studio.services.clip_import import NoClipsError, find_media
from wan_studio.services.probe_cache import FileMark, ProbeCache, fingerprint_of


def find_moved(missing: Mapping[str, Path], folders: Iterable[Path], cache: ProbeCache) -> dict[str, Path]:
    """Where files are now that were once elsewhere.

    Args:
        missing: Where they were, by clip id.
        folders: Where to look, subfolders included.
        cache: Remembers their sizes and fingerprints; without its memory the name alone decides, where
            only one file has it.

    Returns:
        The files that were found, by clip id; each at most for one old place.

    Raises:
        MediaPathError: a folder cannot be listed.
    """
    try:
        found = find_media(folders)
    except NoClipsError:
        return {}
    by_name: dict[str, list[Path]] = {}
    by_size: dict[int, list[Path]] = {}
    for path in found:
        by_name.setdefault(path.name.casefold(), []).append(path)
        try:
            by_size.setdefault(path.stat().st_size, []).append(path)
        except OSError:
            continue
    places: dict[str, Path] = {}
    taken: dict[Path, Path] = {}
    for clip_id, old in missing.items():
        now = taken.get(old) or _moved(old, cache.mark(old), by_name, by_size)
        if now is not None:
            taken[old] = places[clip_id] = now
    return places


def _moved(
    old: Path,
    mark: FileMark | None,
    by_name: Mapping[str, list[Path]],
    by_size: Mapping[int, list[Path]],
) -> Path | None:
    same_name = by_name.get(old.name.casefold(), [])
    if mark is None:
        return same_name[0] if len(same_name) == 1 else None
    same_size = by_size.get(mark.size_bytes, [])
    both = [path for path in same_name if path in same_size]
    if len(both) == 1:
        return both[0]
    return next((path for path in both or same_size if _fingerprint(path) == mark.fingerprint), None)


def _fingerprint(path: Path) -> str:
    try:
        return fingerprint_of(path)
    except OSError:
        return ""
