"""The undo steps of a project on disk, in one file of its folder; written before what the steps change.

The file is SQLite, so that a change of it is there as a whole or not at all. Each step knows the digest of the
project file that was saved right after it: whatever is cut off between two writes, the file that is found says
how far the steps have come. A window holds the file for itself while the project is open in it.
"""

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wan_studio.domain.project import FORMAT_VERSION
from wan_studio.errors import AppError

FILE_NAME = "undo.sqlite"
DAMAGED_NAME = "undo.damaged.sqlite"
OUTDATED_NAME = "undo.outdated.sqlite"
MOST_STEPS = 1000
MOST_BYTES = 32 * 2**20

_log = logging.getLogger(__name__)
_LAYOUT = f"1.{FORMAT_VERSION}"
"""Of the file and of the projects in it: steps of another layout are not applied."""

_PATIENCE_SECONDS = 0.5
_BASE = "base"
_PROJECT = "project"
_TABLES = (
    "CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS steps (serial INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL,"
    " content BLOB NOT NULL, digest TEXT, old_content BLOB, old_digest TEXT)",
    "CREATE TABLE IF NOT EXISTS tasks (number INTEGER PRIMARY KEY, serial INTEGER NOT NULL,"
    " forward INTEGER NOT NULL)",
)


class UndoLogError(AppError):
    """The steps cannot be kept."""

    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(
            f"The undo steps cannot be kept in {path} ({error}).",
            "They can be undone until the window closes. Check the folder's permissions and the free space.",
        )


class UndoLogInUseError(AppError):
    """Another window has the project open."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"The project {folder} is open in another window, too.",
            "Close one of them: the one that saves last wins. Steps of this window are not kept for later.",
        )


class UndoLogDamagedError(AppError):
    """The steps cannot be read."""

    def __init__(self, aside: Path) -> None:
        super().__init__(
            "The earlier steps of this project cannot be read, so they cannot be undone any more.",
            f"The project itself is whole. The damaged file is {aside}.",
        )


class UndoLogOutdatedError(AppError):
    """The steps are of another state of the project."""

    def __init__(self) -> None:
        super().__init__(
            "The project was changed by something else since it was last open here, so the earlier steps "
            "cannot be undone any more.",
            "The project is as that left it; earlier versions of captions are on the Captions page.",
        )


@dataclass(frozen=True, slots=True)
class KeptStep:
    """A step as it is kept.

    Attributes:
        serial: Ascending with the order of the steps, unique in the file.
        kind: "project" or "captions".
        name: What the Edit menu calls it.
        content: What `undo_steps` packed.
        old_content: The same before the last step was merged into it; None where none was.
    """

    serial: int
    kind: str
    name: str
    content: bytes
    old_content: bytes | None = None


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step to keep; its content is made by `make`, in the background."""

    kind: str
    name: str
    make: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class CaptionTask:
    """Captions that are to be written because a step was done or taken back."""

    serial: int
    is_forward: bool


@dataclass(slots=True)
class LogChange:
    """What is new about the steps since the last change.

    Attributes:
        rows: Steps that are new or other ones, by serial.
        gone: Steps that can be neither undone nor done again any more.
        head: The last step that is done; 0 for none.
        tasks: Captions that are to be written now.
    """

    rows: dict[int, StepRow] = field(default_factory=dict[int, StepRow])
    gone: set[int] = field(default_factory=set[int])
    head: int = 0
    tasks: list[CaptionTask] = field(default_factory=list[CaptionTask])

    def then(self, later: "LogChange") -> "LogChange":
        """Both in one."""
        gone = self.gone | later.gone
        rows = {serial: row for serial, row in {**self.rows, **later.rows}.items() if serial not in gone}
        tasks = [task for task in (*self.tasks, *later.tasks) if task.serial not in gone]
        return LogChange(rows, gone, later.head, tasks)


@dataclass(slots=True)
class OpenedLog:
    """What is known of a project's steps when it is opened.

    Attributes:
        log: To go on with; None where steps cannot be kept.
        steps: Those that can be undone or done again, in order.
        index: How many of them are done.
        base: Serial of the state before the first of them.
        tasks: Captions that may not have been written.
        problem: What the user should know.
    """

    log: "UndoLog | None"
    steps: list[KeptStep] = field(default_factory=list[KeptStep])
    index: int = 0
    base: int = 0
    tasks: list[CaptionTask] = field(default_factory=list[CaptionTask])
    problem: AppError | None = None


class UndoLog:
    """The open file; may be used on any thread."""

    def __init__(self, path: Path) -> None:
        """Take the file, or make it.

        Raises:
            sqlite3.Error: it is another window's, damaged, or cannot be made.
        """
        self.path = path
        self._lock = threading.Lock()
        self._is_closed = False
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(
            path, timeout=_PATIENCE_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            with self._change():
                for table in _TABLES:
                    self._connection.execute(table)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Let the file go; later writes do nothing."""
        with self._lock:
            self._is_closed = True
            self._connection.close()

    def write(self, change: LogChange, digest: str | None) -> None:
        """Keep what is new.

        Args:
            change: It.
            digest: Of the project file that is saved next; None where the project stays as it was.

        Raises:
            UndoLogError: it cannot be kept; the file is as it was.
        """
        rows = [(serial, row.kind, row.name, row.make()) for serial, row in change.rows.items()]
        with self._told_errors(), self._change():
            execute, many = self._connection.execute, self._connection.executemany
            execute(
                "UPDATE steps SET old_content = NULL, old_digest = NULL WHERE serial != ? AND "
                "(old_content IS NOT NULL OR old_digest IS NOT NULL)",
                (change.head,),
            )
            many("DELETE FROM steps WHERE serial = ? AND kind != 'base'", [(one,) for one in change.gone])
            many("DELETE FROM tasks WHERE serial = ?", [(one,) for one in change.gone])
            many(
                "INSERT INTO steps (serial, kind, name, content) VALUES (?, ?, ?, ?) ON CONFLICT (serial) DO "
                "UPDATE SET name = excluded.name, old_content = content, content = excluded.content",
                rows,
            )
            many(
                "INSERT INTO tasks (serial, forward) VALUES (?, ?)",
                [(task.serial, task.is_forward) for task in change.tasks],
            )
            self._set_head(change.head, digest)
            self._drop_oldest(change.head)

    def confirm(self, task: CaptionTask, content: bytes | None = None) -> None:
        """A task's captions are written; `content` is the step again where more is known of it now.

        Raises:
            UndoLogError: it cannot be kept.
        """
        with self._told_errors(), self._change():
            self._connection.execute(
                "DELETE FROM tasks WHERE number = "
                "(SELECT MIN(number) FROM tasks WHERE serial = ? AND forward = ?)",
                (task.serial, task.is_forward),
            )
            if content is not None:
                self._connection.execute(
                    "UPDATE steps SET content = ? WHERE serial = ? AND kind != 'base'",
                    (content, task.serial),
                )

    def forget(self, digest: str) -> None:
        """Begin anew: no step, at this state of the project.

        Raises:
            UndoLogError: it cannot be written.
        """
        with self._told_errors(), self._change():
            self._begin(digest)

    def load(self, digest: str) -> OpenedLog | None:
        """The steps, at the place where the project file is; None where they do not lead to it.

        Args:
            digest: Of the project file.

        Raises:
            sqlite3.Error: they cannot be read.
        """
        with self._change():
            read = self._connection.execute
            layout = read("SELECT value FROM state WHERE name = 'layout'").fetchone()
            if layout is None:
                self._begin(digest)
                return OpenedLog(self)
            if layout[0] != _LAYOUT:
                return None
            head = int(read("SELECT value FROM state WHERE name = 'head'").fetchone()[0])
            rows = [
                _Row(*row)
                for row in read(
                    "SELECT serial, kind, name, content, digest, old_content, old_digest FROM steps ORDER BY serial"
                )
            ]
            at = _place_of(rows, head, digest)
            if at is None:
                return None
            if rows[at].digest != digest and rows[at].old_digest == digest:
                rows[at].content = rows[at].old_content or rows[at].content
                rows[at].digest, rows[at].old_content = digest, None
                read("UPDATE steps SET content = ?, digest = ?, old_content = NULL, old_digest = NULL WHERE serial = ?",
                     (rows[at].content, digest, rows[at].serial))  # fmt: skip
            done = rows[at].serial
            read("UPDATE state SET value = ? WHERE name = 'head'", (str(done),))
            read("DELETE FROM tasks WHERE forward != (serial <= ?)", (done,))
            tasks = [
                CaptionTask(serial, bool(forward))
                for serial, forward in read("SELECT serial, forward FROM tasks ORDER BY number")
            ]
        steps = [
            KeptStep(row.serial, row.kind, row.name, row.content, row.old_content)
            for row in rows
            if row.kind != _BASE
        ]
        index = sum(step.serial <= done for step in steps)
        return OpenedLog(self, steps, index, rows[0].serial, tasks)

    def _begin(self, digest: str) -> None:
        execute = self._connection.execute
        for table in ("state", "steps", "tasks"):
            execute(f"DELETE FROM {table}")
        self._connection.executemany(
            "INSERT INTO state (name, value) VALUES (?, ?)", [("layout", _LAYOUT), ("head", "0")]
        )
        execute(
            "INSERT INTO steps (serial, kind, name, content, digest) VALUES (0, 'base', '', x'', ?)",
            (digest,),
        )

    def _set_head(self, head: int, digest: str | None) -> None:
        execute = self._connection.execute
        execute("UPDATE state SET value = ? WHERE name = 'head'", (str(head),))
        if digest is not None:
            execute(
                "UPDATE steps SET old_digest = digest, digest = ? WHERE serial = ? AND digest IS NOT ?",
                (digest, head, digest),
            )

    def _drop_oldest(self, head: int) -> None:
        """Keep the file small; the last step that goes becomes the base of those that stay."""
        execute = self._connection.execute
        sizes = execute("SELECT serial, LENGTH(content) FROM steps ORDER BY serial DESC").fetchall()
        room, base = MOST_BYTES, int(sizes[-1][0])
        for kept, (serial, size) in enumerate(sizes):
            room -= size
            if kept and (room < 0 or kept >= MOST_STEPS):
                base = int(serial)
                break
        if base == sizes[-1][0] and head >= base:
            return
        execute("DELETE FROM steps WHERE serial < ?", (base,))
        execute("UPDATE steps SET kind = 'base', name = '', content = x'' WHERE serial = ?", (base,))
        if head < base:
            # Undone beyond what is kept: what is left cannot be done again without what went.
            execute("DELETE FROM steps WHERE serial > ?", (base,))
            execute("UPDATE steps SET digest = NULL WHERE serial = ?", (base,))
            execute("UPDATE state SET value = ? WHERE name = 'head'", (str(base),))

    @contextlib.contextmanager
    def _change(self) -> Generator[None]:
        with self._lock:
            if self._is_closed:
                raise sqlite3.ProgrammingError("the project is closed")
            self._connection.execute("BEGIN EXCLUSIVE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextlib.contextmanager
    def _told_errors(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if not self._is_closed:
                raise UndoLogError(self.path, error) from error


@dataclass(slots=True)
class _Row:
    serial: int
    kind: str
    name: str
    content: bytes
    digest: str | None
    old_content: bytes | None
    old_digest: str | None


def _place_of(rows: Sequence[_Row], head: int, digest: str) -> int | None:
    """The row after which the project was as its file is: the head where that may be, else the nearest one."""
    at_head = next((at for at, row in enumerate(rows) if row.serial == head), None)
    if at_head is None:
        return None
    places: list[int] = []
    for at, row in enumerate(rows):
        if digest in (row.digest, row.old_digest):
            place = at
            # Steps of captions alone leave the project file as it is.
            while place < at_head and rows[place + 1].kind != _PROJECT and rows[place + 1].digest is None:
                place += 1
            places.append(place)
    return min(places, key=lambda place: abs(place - at_head), default=None)


def open_log(folder: Path, digest: str) -> OpenedLog:
    """The steps of a project that is being opened; never in the way of opening it.

    Args:
        folder: Of the project.
        digest: Of its project file.
    """
    path = folder / FILE_NAME
    problem: AppError | None = None
    for _ in range(2):
        log: UndoLog | None = None
        try:
            log = UndoLog(path)
            opened = log.load(digest)
            if opened is not None:
                opened.problem = problem
                return opened
            problem = UndoLogOutdatedError()
            log.close()
            _set_aside(path, OUTDATED_NAME)
        except sqlite3.Error as error:
            if log is not None:
                log.close()
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                return OpenedLog(None, problem=UndoLogInUseError(folder))
            if isinstance(error, sqlite3.OperationalError) and code not in (sqlite3.SQLITE_ERROR,):
                _log.warning("The undo steps of %s cannot be kept: %s", folder, error)
                return OpenedLog(None, problem=problem)
            _log.warning("The undo steps of %s are damaged: %s", folder, error)
            problem = UndoLogDamagedError(folder / DAMAGED_NAME)
            _set_aside(path, DAMAGED_NAME)
        except OSError as error:
            _log.warning("The undo steps of %s cannot be kept: %s", folder, error)
            return OpenedLog(None, problem=problem)
        except (TypeError, ValueError, AttributeError) as error:
            # Tables of ours that hold what we never wrote.
            if log is not None:
                log.close()
            _log.warning("The undo steps of %s are damaged: %s", folder, error)
            problem = UndoLogDamagedError(folder / DAMAGED_NAME)
            _set_aside(path, DAMAGED_NAME)
    return OpenedLog(None, problem=problem)


def _set_aside(path: Path, name: str) -> None:
    """Rename the file and what SQLite keeps beside it, so that nothing is lost."""
    for ending in ("", "-journal"):
        old = path.with_name(path.name + ending)
        with contextlib.suppress(OSError):
            path.with_name(name + ending).unlink(missing_ok=True)
            if old.exists():
                old.replace(path.with_name(name + ending))
