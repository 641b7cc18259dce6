"""Tells how long the GUI thread was busy without looking at its events."""

import time

from PySide6.QtCore import QTimer

_SHORTEST_MILLISECONDS = 4.0
"""Shorter ones are not kept: there are millions of them."""


class Watchdog:
    """A timer that fires whenever the event loop has nothing else to do; its gaps are the stalls.

    A gap is measured in processor time of the GUI thread, so that other programs on a loaded machine
    do not count, and in wall time, so that waiting for a file or a lock does.

    Attributes:
        busy: Processor milliseconds of every gap but the shortest.
        walls: Wall milliseconds of the same.
    """

    def __init__(self):
        self.busy = []
        self.walls = []
        self.marks = []
        self._timer = QTimer()
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._on_beat)

    def __enter__(self):
        self._cpu, self._wall = time.thread_time(), time.perf_counter()
        self._timer.start()
        return self

    def __exit__(self, *_):
        self._on_beat()
        self._timer.stop()

    def mark(self, name):
        """Gaps from now on belong to this part of the tour."""
        self._on_beat()
        self.marks.append((len(self.busy), name))

    @property
    def longest_busy(self):
        return max(self.busy, default=0.0)

    @property
    def longest_wall(self):
        return max(self.walls, default=0.0)

    def worst(self, count=5):
        """The longest gaps, each with the part of the tour that it fell into."""
        places = sorted(range(len(self.busy)), key=lambda at: -self.busy[at])[:count]
        return [(round(self.busy[at], 1), round(self.walls[at], 1), self._name_at(at)) for at in places]

    def _name_at(self, at):
        return next((name for first, name in reversed(self.marks) if first <= at), "")

    def _on_beat(self):
        cpu, wall = time.thread_time(), time.perf_counter()
        busy, waited = 1000 * (cpu - self._cpu), 1000 * (wall - self._wall)
        if max(busy, waited) > _SHORTEST_MILLISECONDS:
            self.busy.append(busy)
            self.walls.append(waited)
        self._cpu, self._wall = cpu, wall
