"""Where a clip's caption is: beside its file, or in the project where nothing can be written there.

The rule is looked up, not stored: a caption that was once kept in the project's `captions` folder is the
clip's caption. So undo, a moved project and an older window all find the same file.
"""

import errno
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from wan_studio.domain.project import ProjectClip
from wan_studio.errors import AppError
from wan_studio.services.caption_store import Caption, CaptionFileError, read_caption, write_caption

_ANYONE_MAY_WRITE = 0o222
_REFUSALS = frozenset((errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.ENODEV))


class CaptionFolderMissingError(AppError):
    """The folder of a caption is not there, e.g. on a drive that was taken out."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The caption {path.name} cannot be read: the folder {path.parent} is not there.",
            "Connect its drive, or find the clip again on the Clips page.",
        )


@dataclass(frozen=True, slots=True)
class CaptionPlace:
    """The two places that a caption may have; asking which touches the disk.

    Attributes:
        beside: The `.txt` that the project names.
        kept: In the project's folder; the same where the project names that.
        folder: Of the clip's own file.
    """

    beside: Path
    kept: Path
    folder: Path

    @property
    def now(self) -> Path:
        """The file to read."""
        return self.kept if self.kept.is_file() else self.beside

    @property
    def for_writing(self) -> Path:
        """The file to write, as far as permissions tell; only the attempt knows."""
        return self.kept if self.kept.is_file() or not can_be_written(self.beside) else self.beside

    @property
    def note(self) -> str:
        """Why it is not, or will not be, beside the clip; empty where it is."""
        is_kept = self.kept.is_file() or self.beside == self.kept
        beside = self.folder / self.beside.name if self.beside == self.kept else self.beside
        if not is_kept and can_be_written(self.beside):
            return ""
        kept = "Kept in the project" if is_kept else "Changes will be kept in the project"
        if not beside.parent.is_dir():
            return f"{kept}: {beside.parent} is not there"
        if not can_be_written(beside):
            is_file = beside.is_file() and can_be_written(beside.with_name(".wan-studio"))
            return f"{kept}: {beside if is_file else beside.parent} is read-only"
        return f"{kept}: {beside.parent} could not be written"


def place_of(clip: ProjectClip, captions_folder: Path) -> CaptionPlace:
    """Where a clip's caption may be.

    Args:
        clip: Of the project.
        captions_folder: The project's folder for captions that cannot be beside their clips.
    """
    beside = Path(clip.caption_file)
    kept = beside if beside.parent == captions_folder else kept_path(beside, captions_folder)
    return CaptionPlace(beside, kept, Path(clip.source).parent)


def kept_path(beside: Path, captions_folder: Path) -> Path:
    """The stand-in in the project for this file; files of one name in different folders get different ones."""
    mark = hashlib.sha256(os.fsencode(beside)).hexdigest()[:8]
    return captions_folder / f"{beside.stem}.{mark}.txt"


def can_be_written(path: Path) -> bool:
    """Whether a file can be made or replaced here, by its permissions.

    The administrator may write everywhere; a folder or file that nobody may write is read-only for them, too.
    """
    try:
        folder = path.parent.stat()
    except OSError:
        return False
    # On Windows the bit of a folder means that it looks special, not that it is read-only.
    if os.name != "nt" and not folder.st_mode & _ANYONE_MAY_WRITE:
        return False
    if not os.access(path.parent, os.W_OK):
        return False
    try:
        return bool(path.stat().st_mode & _ANYONE_MAY_WRITE) and os.access(path, os.W_OK)
    except FileNotFoundError:
        return True
    except OSError:
        return False


def is_refusal(error: BaseException | None) -> bool:
    """Whether writing failed because of the place, so that another place may take it: not a full disk."""
    return isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno in _REFUSALS)


def read_clip_caption(clip: ProjectClip, captions_folder: Path) -> Caption:
    """Read a clip's caption, wherever it is kept; no file is an empty caption.

    Raises:
        CaptionEncodingError: neither UTF-8 nor UTF-16 with its mark.
        CaptionFileError: it cannot be read.
        CaptionFolderMissingError: its folder is not there: what it says is not known.
    """
    return read_caption_at(place_of(clip, captions_folder))


def read_caption_at(place: CaptionPlace) -> Caption:
    """The same for a place; raises the same."""
    path = place.now
    found = read_caption(path)
    if not found.exists and path != place.kept and not path.parent.is_dir():
        raise CaptionFolderMissingError(path)
    return found


def write_caption_at(place: CaptionPlace, text: str) -> Path:
    """Write a caption where that can be done, and say where.

    Raises:
        CaptionEncodingError: there is a file whose text cannot be read.
        CaptionFileError: it cannot be written in the project either.
    """
    path = place.for_writing
    if path != place.kept:
        try:
            write_caption(path, text)
        except CaptionFileError as error:
            if not is_refusal(error.__cause__):
                raise
        else:
            return path
    try:
        place.kept.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CaptionFileError(place.kept, "written", error) from error
    write_caption(place.kept, text)
    return place.kept
