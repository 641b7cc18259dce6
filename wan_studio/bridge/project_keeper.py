"""Brings the project and its undo steps to disk, in the one order that a crash anywhere leaves whole.

First the steps, then the project file that they lead to, then, by the caption desk, captions. A crash in between
leaves a project file that is one of those that the steps know, and the next opening goes on from there.
"""

import threading
from dataclasses import dataclass

from wan_studio.domain.project import Project
from wan_studio.errors import AppError
from wan_studio.services.project_store import ProjectStore, digest_of, encoded
from wan_studio.services.undo_log import LogChange, UndoLog


@dataclass(frozen=True, slots=True)
class _Wish:
    """What is to be on disk."""

    store: ProjectStore
    log: UndoLog | None
    project: Project | None
    change: LogChange | None


@dataclass(frozen=True, slots=True)
class Kept:
    """What came of it.

    Attributes:
        project: The value that was to be written.
        error: Why it was not; None when it is on disk.
        log_error: Why the steps are not kept.
    """

    project: Project | None
    error: Exception | None = None
    log_error: AppError | None = None


class ProjectKeeper:
    """A queue of what is to be kept: filled on the GUI thread, emptied on any."""

    def __init__(self) -> None:
        self._wishes: list[_Wish] = []
        self._wishes_lock = threading.Lock()
        self._work_lock = threading.Lock()
        self._unkept: tuple[UndoLog, LogChange] | None = None

    def wish(
        self, store: ProjectStore, log: UndoLog | None, project: Project | None, change: LogChange | None
    ) -> None:
        """Ask for a project and its steps to be kept.

        Args:
            store: The project's files.
            log: Its steps; None where they are not kept.
            project: Its value; None where the file says it already.
            change: What is new of the steps; None for nothing.
        """
        with self._wishes_lock:
            self._wishes.append(_Wish(store, log, project, change))

    @property
    def has_work(self) -> bool:
        """Whether something was asked for that nobody began with."""
        with self._wishes_lock:
            return bool(self._wishes)

    def work(self) -> list[Kept]:
        """Keep all that was asked for, on the calling thread; nothing is raised."""
        with self._work_lock:
            with self._wishes_lock:
                wishes, self._wishes = self._wishes, []
            return [self._keep(wish) for wish in _gathered(wishes)]

    def _keep(self, wish: _Wish) -> Kept:
        content = None if wish.project is None else encoded(wish.project)
        log_error: AppError | None = None
        change = wish.change
        if wish.log is not None:
            if self._unkept is not None and self._unkept[0] is wish.log:
                change = self._unkept[1] if change is None else self._unkept[1].then(change)
            self._unkept = None
            if change is not None:
                try:
                    wish.log.write(change, None if content is None else digest_of(content))
                except AppError as error:
                    log_error = error
                    self._unkept = wish.log, change
        try:
            if content is not None:
                wish.store.write(content)
        except (AppError, OSError) as error:
            return Kept(wish.project, error, log_error)
        return Kept(wish.project, None, log_error)


def _gathered(wishes: list[_Wish]) -> list[_Wish]:
    """The same with wishes for one project made one; of its values only the last is written."""
    gathered: list[_Wish] = []
    for wish in wishes:
        last = gathered[-1] if gathered else None
        if last is None or (last.store, last.log) != (wish.store, wish.log):
            gathered.append(wish)
            continue
        change = wish.change
        if last.change is not None:
            change = last.change if change is None else last.change.then(change)
        project = last.project if wish.project is None else wish.project
        gathered[-1] = _Wish(wish.store, wish.log, project, change)
    return gathered
