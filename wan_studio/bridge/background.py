"""The one door to other threads: slow work goes in, its result comes back on the GUI thread."""

import logging
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from PySide6.QtCore import QObject, QRunnable, QThreadPool, Signal, Slot

T = TypeVar("T")

_log = logging.getLogger(__name__)
_live: "set[Task[Any]]" = set()


class _Messenger(QObject):
    """Lives on the GUI thread; its signals carry a worker's words there.

    Signals:
        finished: The function returned. arg: object
        failed: The function raised. arg: Exception
        progressed: The function reported. arg: object
    """

    finished = Signal(object)
    failed = Signal(object)
    progressed = Signal(object)


class Task(QRunnable, Generic[T]):
    """One piece of work under way; drop it or keep it to cancel it."""

    def __init__(
        self,
        func: Callable[[], T],
        on_done: Callable[[T], object],
        on_error: Callable[[Exception], object] | None,
    ) -> None:
        super().__init__()
        self.setAutoDelete(False)
        self.is_cancelled = False
        self._func = func
        self._on_done = on_done
        self._on_error = on_error
        self._messenger = _Messenger()
        self._messenger.finished.connect(self._deliver)
        self._messenger.failed.connect(self._deliver_error)

    def cancel(self) -> None:
        """Forget the result; work that has not begun does not begin."""
        self.is_cancelled = True
        if QThreadPool.globalInstance().tryTake(self):
            _live.discard(self)

    def run(self) -> None:
        """Called by the pool, on its thread."""
        try:
            result = self._func()
        except Exception as error:  # noqa: BLE001 - every failure of a worker is the caller's to show
            self._messenger.failed.emit(error)
        else:
            self._messenger.finished.emit(result)

    @Slot(object)
    def _deliver(self, result: Any) -> None:
        _live.discard(self)
        if not self.is_cancelled:
            self._on_done(result)

    @Slot(object)
    def _deliver_error(self, error: Exception) -> None:
        _live.discard(self)
        if self.is_cancelled:
            return
        if self._on_error is None:
            raise error
        self._on_error(error)


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
) -> Task[T]:
    """Run `func` on a pool thread and hand its result to `on_done` on the GUI thread.

    Args:
        func: Takes nothing; must not touch Qt objects that live on the GUI thread.
        on_done: Called with the result.
        on_error: Called with what was raised; without it the exception is raised on the GUI thread,
            where the window shows it.
        urgent: Whether it goes before other waiting work.
    """
    task = Task(func, on_done, on_error)
    _live.add(task)
    QThreadPool.globalInstance().start(task, 1 if urgent else 0)
    return task


def wait_for_background(milliseconds: int = 5000) -> bool:
    """Cancel what has not begun and wait for the rest, before the program ends."""
    for task in tuple(_live):
        task.cancel()
    return QThreadPool.globalInstance().waitForDone(milliseconds)
