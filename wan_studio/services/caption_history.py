"""Every version that a caption's file had, byte for byte, in one file of the project's folder.

Nothing is written over a caption before what it held is here. The file is SQLite: thousands of
captions are kept in one go, and half a batch is never there.
"""

import contextlib
import sqlite3
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

from wan_studio.errors import AppError

FILE_NAME = "caption_history.sqlite"
FOUND = "As it was found"
TYPED = "Typed"
NOT_WRITTEN = "Not written: the file was changed outside"

_ONE_SITTING_SECONDS = 120.0
_TABLE = """
    CREATE TABLE IF NOT EXISTS versions (
        id INTEGER PRIMARY KEY, file TEXT NOT NULL, saved_at REAL NOT NULL, what TEXT NOT NULL, content BLOB NOT NULL
    );
    CREATE INDEX IF NOT EXISTS versions_by_file ON versions (file, id);
"""


class CaptionHistoryError(AppError):
    """The history cannot be read or written; no caption is written without it."""

    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(
            f"The captions' history {path} cannot be used ({error}), so no caption is written.",
            "Check the project folder's permissions and the free space.",
        )


@dataclass(frozen=True, slots=True)
class CaptionVersion:
    """One version of a file.

    Attributes:
        number: Of the version, unique in the project.
        saved_at: Seconds since 1970, UTC.
        what: What made it, e.g. "Typed" or "Replace in 312 captions".
        content: The whole file.
    """

    number: int
    saved_at: float
    what: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Kept:
    """What is to be kept before a file is written.

    Attributes:
        path: The caption's file.
        before: What it holds; None without a file.
        after: What it is to hold.
    """

    path: Path
    before: bytes | None
    after: bytes


class CaptionHistory:
    """Versions of captions; makes its file at the first write."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME

    def keep(self, files: Iterable[Kept], what: str) -> None:
        """Keep what files hold and what they are to hold, all or nothing.

        What was typed in one sitting is one version.

        Raises:
            CaptionHistoryError: it cannot be written.
        """
        now = time.time()
        with self._open(make=True) as connection:
            for one in files:
                file = str(one.path)
                last = connection.execute(
                    "SELECT id, saved_at, what, content FROM versions WHERE file = ? ORDER BY id DESC LIMIT 1",
                    (file,),
                ).fetchone()
                if one.before is not None and (last is None or bytes(last[3]) != one.before):
                    _insert(connection, file, now, FOUND, one.before)
                    last = None
                if last is not None and what == TYPED == last[2] and now - last[1] < _ONE_SITTING_SECONDS:
                    connection.execute(
                        "UPDATE versions SET content = ?, saved_at = ? WHERE id = ?",
                        (one.after, now, last[0]),
                    )
                else:
                    _insert(connection, file, now, what, one.after)

    def versions_of(self, path: Path) -> list[CaptionVersion]:
        """The versions of a file, the latest first.

        Raises:
            CaptionHistoryError: it cannot be read.
        """
        if not self.path.is_file():
            return []
        with self._open(make=False) as connection:
            rows = connection.execute(
                "SELECT id, saved_at, what, content FROM versions WHERE file = ? ORDER BY id DESC",
                (str(path),),
            ).fetchall()
        return [CaptionVersion(number, at, what, bytes(content)) for number, at, what, content in rows]

    @contextlib.contextmanager
    def _open(self, *, make: bool) -> Generator[sqlite3.Connection]:
        try:
            if make:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=5.0)
            try:
                if make:
                    connection.executescript(_TABLE)
                with connection:
                    yield connection
            finally:
                connection.close()
        except (sqlite3.Error, OSError) as error:
            raise CaptionHistoryError(self.path, error) from error


def _insert(connection: sqlite3.Connection, file: str, at: float, what: str, content: bytes) -> None:
    connection.execute(
        "INSERT INTO versions (file, saved_at, what, content) VALUES (?, ?, ?, ?)", (file, at, what, content)
    )
