"""What an export has written into its folder, so that the next one writes the rest and touches nothing else.

A file is the export's own while it is what was written: a clip by its size, a text by its hash. What lies
in the folder otherwise, or was changed since, belongs to the user and is left alone. Every entry is written
before the file that it tells of takes its place, so that no file is ever without one.
"""

import contextlib
import hashlib
from pathlib import Path

import msgspec
from msgspec import Struct

from trainer.protocol.wire import WireError, read_json, write_atomic, write_json
from wan_studio.domain.export_plan import ExportedClip, Recipe
from wan_studio.errors import AppError

MANIFEST_NAME = "wan-studio-export.json"
FORMAT_VERSION = 1


class ExportFolderError(AppError):
    """The target folder cannot take this export."""

    def __init__(self, folder: Path, problem: str, hint: str) -> None:
        super().__init__(f"{folder} {problem}", hint)


class ClipEntry(Struct, frozen=True, kw_only=True):
    """One written clip.

    Attributes:
        recipe: Digest of all that it depends on.
        source: Where it came from, with its first and last frame.
        size_bytes: Of the file.
        former_bytes: Of the file that it takes the place of, which is the export's as well.
    """

    recipe: str
    source: str
    first_frame: int
    last_frame: int
    frames: int
    size_bytes: int
    former_bytes: int | None = None


class Manifest(Struct, kw_only=True):
    """All entries, by paths relative to the folder.

    Attributes:
        project: Name of the project whose export lies here.
        texts: Of each text file the hashes of what may stand in it.
    """

    project: str
    clips: dict[str, ClipEntry] = {}
    texts: dict[str, list[str]] = {}
    format_version: int = FORMAT_VERSION


class ExportFolder:
    """The target folder, and what is known of it."""

    def __init__(self, folder: Path, project: str) -> None:
        self.folder = folder
        self._manifest = Manifest(project=project)

    @property
    def manifest_file(self) -> Path:
        return self.folder / MANIFEST_NAME

    def load(self) -> None:
        """Read what is known; a folder without an export knows nothing.

        Raises:
            ExportFolderError: another project's export lies there, or its manifest cannot be read.
        """
        if not self.manifest_file.exists():
            return
        try:
            found = read_json(self.manifest_file, Manifest)
        except WireError as error:
            raise ExportFolderError(
                self.folder,
                f"holds an export whose {MANIFEST_NAME} cannot be read.",
                "Choose another folder, or delete what was exported there.",
            ) from error
        if found.format_version > FORMAT_VERSION:
            raise ExportFolderError(
                self.folder, "holds the export of a newer Wan Studio.", "Choose another folder."
            )
        if found.project != self._manifest.project:
            raise ExportFolderError(
                self.folder, f'holds the export of the project "{found.project}".', "Choose another folder."
            )
        self._manifest = found

    def is_current(self, clip: ExportedClip) -> bool:
        """Whether the clip's file is there and needs not be written."""
        entry = self._manifest.clips.get(clip.path)
        return (
            entry is not None
            and entry.recipe == digest(clip.recipe)
            and self._size(clip.path) == (entry.size_bytes)
        )

    def is_foreign(self, path: str) -> bool:
        """Whether something lies at a clip's place that the export did not write."""
        size, entry = self._size(path), self._manifest.clips.get(path)
        if size is None:
            return (self.folder / path).exists()
        return entry is None or size not in (entry.size_bytes, entry.former_bytes)

    def part_of(self, path: str) -> Path:
        """Where a clip is written before it takes its place: hidden, so that no trainer reads it."""
        place = self.folder / path
        return place.with_name(f".{place.stem}.part{place.suffix}")

    def take_in(self, clip: ExportedClip) -> None:
        """Put the clip's part in its place.

        Raises:
            OSError: it cannot be done.
        """
        part = self.part_of(clip.path)
        self._manifest.clips[clip.path] = ClipEntry(
            recipe=digest(clip.recipe),
            source=clip.recipe.source,
            first_frame=clip.recipe.frames[0],
            last_frame=clip.recipe.frames[-1],
            frames=len(clip.recipe.frames),
            size_bytes=part.stat().st_size,
            former_bytes=self._size(clip.path),
        )
        self._save()
        part.replace(self.folder / clip.path)

    def write_text(self, path: str, text: str) -> bool:
        """Write a text file, unless the user's own stands there; returns whether it says the text now.

        Raises:
            OSError: it cannot be written.
        """
        content, place = text.encode("utf-8", "surrogatepass"), self.folder / path
        wanted, found = _hash(content), self._text_hash(path)
        known = self._manifest.texts.get(path, [])
        if found == wanted:
            if known != [wanted]:
                self._manifest.texts[path] = [wanted]
                self._save()
            return True
        if found is not None and found not in known:
            return False
        self._manifest.texts[path] = [wanted] if found is None else [wanted, found]
        self._save()
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(place, content)
        return True

    def remove_all_but(self, clips: set[str], texts: set[str]) -> int:
        """Delete what an earlier export wrote and this one does not; returns how many clips that were.

        Raises:
            OSError: something cannot be deleted.
        """
        removed = 0
        for path in [path for path in self._manifest.clips if path not in clips]:
            if self._size(path) is not None and not self.is_foreign(path):
                self._delete(path)
                removed += 1
            del self._manifest.clips[path]
        for path in [path for path in self._manifest.texts if path not in texts]:
            if self._text_hash(path) in self._manifest.texts[path]:
                self._delete(path)
            del self._manifest.texts[path]
        self._save()
        return removed

    def _delete(self, path: str) -> None:
        """Delete a file, and its folder when that was the last in it."""
        place = self.folder / path
        place.unlink()
        with contextlib.suppress(OSError):
            place.parent.rmdir()

    def _save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.manifest_file, self._manifest)

    def _size(self, path: str) -> int | None:
        place = self.folder / path
        return place.stat().st_size if place.is_file() else None

    def _text_hash(self, path: str) -> str | None:
        place = self.folder / path
        return _hash(place.read_bytes()) if place.is_file() else None


def digest(recipe: Recipe) -> str:
    """Of all that a clip's file depends on."""
    return _hash(msgspec.msgpack.encode(recipe))


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
