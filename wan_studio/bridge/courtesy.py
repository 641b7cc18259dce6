"""Keeps work on clips out of the way of a training run on this machine."""

from PySide6.QtCore import QObject, QTimer, Signal

from wan_studio.bridge.background import limit_patient_work, run_in_background
from wan_studio.bridge.clip_library import ClipLibrary
from wan_studio.bridge.run_desk import RunDesk
from wan_studio.services.lower_priority import is_trainer_at_work
from wan_studio.services.media_pool import MediaPool

_LOOK_EVERY_MILLISECONDS = 10_000


class Courtesy(QObject):
    """While a trainer is at work, clips are looked at by one process, and one thread makes proxies.

    A run of this project is known at once; one of another window or a command line is looked for now and
    then, as long as there is work that could be in its way.

    Signals:
        yielding_changed: Whether work on clips stands back. arg: bool
    """

    yielding_changed = Signal(bool)

    def __init__(self, runs: RunDesk, library: ClipLibrary, pool: MediaPool) -> None:
        super().__init__(library)
        self._runs = runs
        self._library = library
        self._pool = pool
        self._sees_others = False
        self.is_yielding = False
        self._timer = QTimer(self)
        self._timer.setInterval(_LOOK_EVERY_MILLISECONDS)
        self._timer.timeout.connect(self.look_now)
        self._timer.start()
        runs.state_changed.connect(self._renew)

    def look_now(self) -> None:
        """Look for trainers of others, in the background."""
        if self._library.waiting or self._library.looks_waiting:
            task = run_in_background(is_trainer_at_work, self._on_looked)
            self.destroyed.connect(task.cancel)

    def _on_looked(self, sees_others: bool) -> None:  # noqa: FBT001 - a result
        self._sees_others = sees_others
        self._renew()

    def _renew(self) -> None:
        is_yielding = self._runs.is_training or self._sees_others
        if is_yielding != self.is_yielding:
            self.is_yielding = is_yielding
            self._pool.limit(1 if is_yielding else None)
            limit_patient_work(1 if is_yielding else None)
            self.yielding_changed.emit(is_yielding)
