"""A project on disk: `project.json`, its dated backups, and the folders around it."""

import contextlib
import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import msgspec
from msgspec import Struct

from trainer.protocol.wire import to_json, write_atomic
from wan_studio.domain.project import FORMAT_VERSION, Project
from wan_studio.errors import AppError
from wan_studio.services.project_upgrade import upgraded

BACKUPS_KEPT = 7


class ProjectFileError(AppError):
    """A project cannot be read or written.

    Attributes:
        path: The file.
        backup: The last good copy, when there is one.
    """

    def __init__(self, path: Path, problem: str, hint: str = "", backup: Path | None = None) -> None:
        if backup is not None:
            hint = f"{hint} The last good copy is {backup}.".strip()
        super().__init__(f"{path} {problem}", hint)
        self.path = path
        self.backup = backup


class _Version(Struct):
    format_version: int = 1


_DAMAGE = (msgspec.DecodeError, UnicodeDecodeError, AppError)


def digest_of(content: bytes) -> str:
    """Tells whether a project file is the one that was saved."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def encoded(project: Project) -> bytes:
    """A project file's content."""
    return to_json(project, pretty=True)


def _decoded(content: bytes) -> Project:
    """The project in a file of this or an older version.

    Raises:
        msgspec.DecodeError: it is none, or damaged.
        UnicodeDecodeError: it is no text.
        AppError: what it says cannot be.
    """
    data = msgspec.json.decode(content)
    if isinstance(data, dict):
        try:
            data = upgraded(cast("dict[str, Any]", data))
        except (AttributeError, KeyError, TypeError, IndexError):
            # Its shape is wrong: decoding it as it is says where.
            return msgspec.convert(data, type=Project)
    return msgspec.convert(data, type=Project)


class ProjectStore:
    """One project's folder; makes nothing until asked to save."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._written = ""

    @property
    def project_file(self) -> Path:
        return self.folder / "project.json"

    @property
    def runs_folder(self) -> Path:
        return self.folder / "runs"

    @property
    def cache_folder(self) -> Path:
        return self.folder / "cache"

    @property
    def captions_folder(self) -> Path:
        """For captions of clips whose own folder cannot be written."""
        return self.folder / "captions"

    @property
    def backups_folder(self) -> Path:
        return self.folder / "backups"

    @property
    def exists(self) -> bool:
        """Whether there is a project file, readable or not."""
        return self.project_file.is_file()

    def load(self) -> Project:
        """Read the project; errors as in `load_with_digest`."""
        return self.load_with_digest()[0]

    def load_with_digest(self) -> tuple[Project, str]:
        """Read the project, and the digest of its file as it stands.

        Raises:
            ProjectFileError: missing, damaged, or made by a newer version.
        """
        try:
            content = self.project_file.read_bytes()
        except FileNotFoundError as error:
            raise ProjectFileError(
                self.project_file, "does not exist.", "Choose a project folder, or start a new project."
            ) from error
        except OSError as error:
            raise ProjectFileError(
                self.project_file,
                f"cannot be read ({error.strerror or error}).",
                "Check the file's permissions.",
            ) from error
        self._refuse_newer(content)
        try:
            return _decoded(content), digest_of(content)
        except _DAMAGE as error:
            raise ProjectFileError(
                self.project_file,
                f"is damaged: {error}.",
                "Restore a backup, or mend the file.",
                backup=next(iter(self.backups()), None),
            ) from error

    def save(self, project: Project) -> None:
        """Write the project; errors as in `write`."""
        self.write(encoded(project))

    def write(self, content: bytes) -> None:
        """Write the project file, atomically; what was there before becomes the day's backup.

        Args:
            content: What `encoded` made of the project.

        Raises:
            ProjectFileError: the folder cannot be written, or holds a newer version's project.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self.exists:
                old = self.project_file.read_bytes()
                if digest_of(old) != self._written:
                    self._refuse_newer(old)
                self._keep(old)
            write_atomic(self.project_file, content)
            self._written = digest_of(content)
        except OSError as error:
            raise ProjectFileError(
                self.project_file,
                f"cannot be written ({error.strerror or error}).",
                "Check the folder's permissions and the free space, or choose another folder.",
            ) from error

    def backups(self) -> list[Path]:
        """Good older states of the project, newest first."""
        return sorted(self.backups_folder.glob("project-*.json"), reverse=True)

    def restore(self, backup: Path) -> Project:
        """Put a backup in the project's place; the damaged file stays beside it.

        Raises:
            ProjectFileError: the backup cannot be read, or the folder not be written.
        """
        try:
            project = _decoded(backup.read_bytes())
        except (OSError, *_DAMAGE) as error:
            raise ProjectFileError(backup, f"cannot be restored: {error}.") from error
        self.save(project)
        return project

    def _refuse_newer(self, content: bytes) -> None:
        try:
            version = msgspec.json.decode(content, type=_Version).format_version
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if version > FORMAT_VERSION:
            raise ProjectFileError(
                self.project_file,
                f"was made by a newer Wan Studio (format {version}; this one reads up to {FORMAT_VERSION}).",
                "Open it with that version, or update Wan Studio.",
            )

    def _keep(self, content: bytes) -> None:
        """Back up a good state; a damaged one is set aside instead and never replaces a good one."""
        if digest_of(content) != self._written:  # What this program wrote itself is good.
            try:
                _decoded(content)
            except _DAMAGE:
                write_atomic(self.project_file.with_name("project.damaged.json"), content)
                return
        self.backups_folder.mkdir(exist_ok=True)
        today = datetime.now().astimezone().strftime("%Y-%m-%d")
        write_atomic(self.backups_folder / f"project-{today}.json", content)
        for old in self.backups()[BACKUPS_KEPT:]:
            with contextlib.suppress(OSError):
                old.unlink()
