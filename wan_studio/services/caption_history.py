"""Every version that a caption's file had, byte for byte, in one file of the project's folder.

Nothing is written over a caption before what it held is here. The file is SQLite: thousands of
captions are kept in one go, and half a batch is never there.
"""

import contextlib
import json
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
    CREATE TABLE IF NOT EXISTS unwritten (
        file TEXT PRIMARY KEY, batch INTEGER NOT NULL, before BLOB, after BLOB NOT NULL
    );
"""
_LAST_VERSIONS = """
    SELECT v.file, v.id, v.saved_at, v.what, v.content FROM json_each(?) asked
    JOIN versions v ON v.id = (SELECT max(id) FROM versions WHERE file = asked.value)
"""
_INSERT = "INSERT INTO versions (file, saved_at, what, content) VALUES (?, ?, ?, ?)"


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

    def keep(self, files: Iterable[Kept], what: str, *, is_noted: bool = False) -> int:
        """Keep what files hold and what they are to hold, all or nothing; the disk has it on return.

        What was typed in one sitting is one version.

        Args:
            files: In any number; one statement each way does them all.
            what: Names the versions.
            is_noted: Whether the files are also noted as not written yet, until `forget_unwritten`.

        Returns:
            The batch's number, for `forget_unwritten`; 0 where nothing was noted.

        Raises:
            CaptionHistoryError: it cannot be written.
        """
        now = time.time()
        kept = [(str(one.path), one) for one in files]
        with self._open(make=True) as connection:
            asked = json.dumps([file for file, _ in kept])
            last = {row[0]: row[1:] for row in connection.execute(_LAST_VERSIONS, (asked,))}
            added: list[tuple[str, float, str, bytes]] = []
            typed_on: list[tuple[bytes, float, int]] = []
            for file, one in kept:
                number, saved_at, made_by, content = last.get(file, (0, 0.0, "", None))
                if one.before is not None and (content is None or bytes(content) != one.before):
                    added.append((file, now, FOUND, one.before))
                    number = 0
                if number and what == TYPED == made_by and now - saved_at < _ONE_SITTING_SECONDS:
                    typed_on.append((one.after, now, number))
                else:
                    added.append((file, now, what, one.after))
            connection.executemany(_INSERT, added)
            connection.executemany("UPDATE versions SET content = ?, saved_at = ? WHERE id = ?", typed_on)
            if not is_noted:
                return 0
            batch = connection.execute("SELECT coalesce(max(id), 0) FROM versions").fetchone()[0]
            connection.executemany(
                "INSERT OR REPLACE INTO unwritten (file, batch, before, after) VALUES (?, ?, ?, ?)",
                ((file, batch, one.before, one.after) for file, one in kept),
            )
            return batch

    def unwritten(self) -> tuple[list[Kept], int]:
        """What was noted and not forgotten: a batch of a sitting that ended in its midst; and its number.

        Raises:
            CaptionHistoryError: it cannot be read.
        """
        if not self.path.is_file():
            return [], 0
        with self._open(make=True) as connection:
            rows = connection.execute("SELECT file, batch, before, after FROM unwritten").fetchall()
        found = [
            Kept(Path(file), None if before is None else bytes(before), bytes(after))
            for file, _, before, after in rows
        ]
        return found, max((row[1] for row in rows), default=0)

    def forget_unwritten(self, batch: int) -> None:
        """This batch, and those before it, are on the disk.

        Raises:
            CaptionHistoryError: it cannot be written.
        """
        with self._open(make=True) as connection:
            connection.execute("DELETE FROM unwritten WHERE batch <= ?", (batch,))

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
