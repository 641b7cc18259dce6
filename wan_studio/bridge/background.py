"""The one door to other threads: slow work goes in, its result comes back on the GUI thread."""

from collections.abc import Callable
from functools import cache
from typing import Any, Generic, TypeVar

from PySide6.QtCore import QObject, QThreadPool, Signal, Slot

from wan_studio.services.lower_priority import lower_thread

_PATIENT_THREADS = 2
T = TypeVar("T")
_SAVING_THREADS = 2


class Task(Generic[T]):
    """One piece of work under way; keep it to cancel it, or drop it."""

    def __init__(
        self,
        func: Callable[[], T],
        on_done: Callable[[T], object],
        on_error: Callable[[Exception], object] | None,
    ) -> None:
        self.is_cancelled = False
        self._func = func
        self._on_done = on_done
        self._on_error = on_error

    def cancel(self) -> None:
        """Forget the result; work that has not begun does not begin."""
        self.is_cancelled = True

    def work(self, hub: "_Hub") -> None:
        """Called by the pool, on its thread."""
        if self.is_cancelled:
            return
        try:
            result = self._func()
        except Exception as error:  # noqa: BLE001 - every failure of a worker is the caller's to show
            hub.failed.emit(self, error)
        else:
            hub.finished.emit(self, result)

    def deliver(self, result: T) -> None:
        """Called on the GUI thread."""
        if not self.is_cancelled:
            self._on_done(result)

    def deliver_error(self, error: Exception) -> None:
        """Called on the GUI thread."""
        if self.is_cancelled:
            return
        if self._on_error is None:
            raise error
        self._on_error(error)


class _Hub(QObject):
    """Lives on the GUI thread for as long as the program; its signals carry workers' words there.

    One for all: an object a task would be deleted while its own signal is being delivered.

    Signals:
        finished: A function returned. args: Task, its result
        failed: A function raised. args: Task, Exception
    """

    finished = Signal(object, object)
    failed = Signal(object, object)

    def __init__(self) -> None:
        super().__init__()
        self.waiting: set[Task[Any]] = set()
        self.finished.connect(self._on_finished)
        self.failed.connect(self._on_failed)

    @Slot(object, object)
    def _on_finished(self, task: Task[Any], result: object) -> None:
        self.waiting.discard(task)
        task.deliver(result)

    @Slot(object, object)
    def _on_failed(self, task: Task[Any], error: Exception) -> None:
        self.waiting.discard(task)
        task.deliver_error(error)


@cache
def _hub() -> _Hub:
    return _Hub()


@cache
def _patient_pool() -> QThreadPool:
    pool = QThreadPool()
    pool.setMaxThreadCount(_PATIENT_THREADS)
    return pool


class ProgressRelay(QObject):
    """Carries progress from a worker to the GUI thread: pass `report` to the worker.

    Signals:
        progressed: What the worker reported. arg: tuple of its arguments
    """

    progressed = Signal(object)

    def report(self, *values: object) -> None:
        """Called on the worker's thread."""
        self.progressed.emit(values)


def run_in_background(
    func: Callable[[], T],
    on_done: Callable[[T], object],
    on_error: Callable[[Exception], object] | None = None,
    *,
    urgent: bool = False,
    is_patient: bool = False,
    saves: bool = False,
) -> Task[T]:
    """Run `func` on a pool thread and hand its result to `on_done` on the GUI thread.

    Args:
        func: Takes nothing; must not touch Qt objects that live on the GUI thread.
        on_done: Called with the result.
        on_error: Called with what was raised; without it the exception is raised on the GUI thread,
            where the window shows it.
        urgent: Whether it goes before other waiting work.
        is_patient: Whether it takes long and stands back behind all else, also on the processor.
        saves: Whether it writes what the user did, which never waits for other work.
    """
    hub = _hub()
    task = Task(func, on_done, on_error)
    hub.waiting.add(task)
    if is_patient:
        _patient_pool().start(lambda: (lower_thread(), task.work(hub)))
        return task
    pool = _saving_pool() if saves else QThreadPool.globalInstance()
    pool.start(lambda: task.work(hub), 1 if urgent else 0)
    return task


@cache
def _saving_pool() -> QThreadPool:
    """Threads for saving alone: a search through a slow disk may hold every other thread for minutes."""
    pool = QThreadPool()
    pool.setMaxThreadCount(_SAVING_THREADS)
    return pool


def limit_patient_work(count: int | None) -> None:
    """Let so many threads do patient work at most; None for as many as usual."""
    _patient_pool().setMaxThreadCount(_PATIENT_THREADS if count is None else count)


def wait_for_background(milliseconds: int = 5000) -> bool:
    """Cancel what has not begun and wait for the rest, before the program ends."""
    hub = _hub()
    for task in tuple(hub.waiting):
        task.cancel()
    hub.waiting.clear()
    is_saved = _saving_pool().waitForDone(milliseconds)
    is_done = QThreadPool.globalInstance().waitForDone(milliseconds)
    return _patient_pool().waitForDone(milliseconds) and is_done and is_saved
