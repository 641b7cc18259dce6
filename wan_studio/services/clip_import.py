"""From files and folders to the clips of a project."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from uuid import uuid4

import msgspec

from wan_studio.domain.project import MAIN, Project, ProjectClip
from wan_studio.errors import AppError
from wan_studio.services.caption_place import can_be_written, kept_path
from wan_studio.services.media_probe import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_media


class NoClipsError(AppError):
    """Nothing that was given holds a video or image."""

    def __init__(self, paths: Sequence[Path]) -> None:
        named = ", ".join(str(path) for path in paths)
        known = ", ".join(sorted(suffix.removeprefix(".") for suffix in VIDEO_SUFFIXES | IMAGE_SUFFIXES))
        super().__init__(
            f"There is no video or image in {named}.", f"Choose a folder with files of these kinds: {known}."
        )


class MediaPathError(AppError):
    """A given file or folder does not exist or cannot be listed."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path} {problem}", "Check its name and permissions.")


def find_media(paths: Iterable[Path]) -> list[Path]:
    """The videos and images in the given files and folders, subfolders included.

    Each once, in natural order within a folder (clip2 before clip10). Hidden files and folders,
    and a clip's caption, are passed over.

    Raises:
        NoClipsError: there is none.
        MediaPathError: something given does not exist or may not be read.
    """
    given = [path.expanduser().absolute() for path in paths]
    found: dict[str, Path] = {}
    for path in given:
        for media in _media_in(path):
            found.setdefault(_identity(media), media)
    if not found:
        raise NoClipsError(given)
    return list(found.values())


def import_clips(
    project: Project, paths: Iterable[Path], captions_folder: Path | None = None, dataset: str = MAIN
) -> Project:
    """A copy of the project with the media of these files and folders added, each source once.

    A source that is in another data set already is moved to a further data set, but not to the
    main one: a folder may hold the folder of its regularization clips.

    Args:
        project: What to add to.
        paths: Files and folders, as for `find_media`.
        captions_folder: Takes the captions of clips whose own folder cannot be written.
        dataset: Name of the project's data set that they belong to.

    Raises:
        NoClipsError: there is nothing to add in them.
        MediaPathError: something given does not exist or may not be read.
    """
    found = {_identity(media): media for media in find_media(paths)}
    clips = [
        msgspec.structs.replace(clip, dataset=dataset)
        if dataset != MAIN and _identity(Path(clip.source)) in found
        else clip
        for clip in project.clips
    ]
    known = {_identity(Path(clip.source)) for clip in clips}
    clips += [
        ProjectClip(
            id=uuid4().hex[:10],
            source=str(media),
            caption_file=str(_caption_file(media, captions_folder)),
            dataset=dataset,
        )
        for identity, media in found.items()
        if identity not in known
    ]
    return msgspec.structs.replace(project, clips=tuple(clips))


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sorts names as people do: digits by their number, letters without case."""
    parts = re.split(r"(\d+)", path.name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _media_in(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if is_media(path) else []
    if not path.is_dir():
        raise MediaPathError(path, "does not exist.")

    def refuse(error: OSError) -> None:
        raise MediaPathError(Path(error.filename or path), f"cannot be listed ({error.strerror}).")

    media: list[Path] = []
    # Links to folders are not followed: they can lead round in circles.
    for folder, subfolders, names in os.walk(path, onerror=refuse):
        subfolders[:] = sorted(
            (name for name in subfolders if not name.startswith(".")),
            key=lambda name: natural_key(Path(name)),
        )
        files = (Path(folder, name) for name in names if not name.startswith("."))
        media.extend(sorted((file for file in files if is_media(file)), key=natural_key))
    return media


def _identity(path: Path) -> str:
    return os.path.normcase(path.resolve())


def _caption_file(media: Path, captions_folder: Path | None) -> Path:
    beside = media.with_suffix(".txt")
    if captions_folder is None or beside.exists() or can_be_written(beside):
        return beside
    return kept_path(beside, captions_folder)
