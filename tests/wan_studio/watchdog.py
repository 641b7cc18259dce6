"""Tells how long the GUI thread was busy without looking at its events, and what it was doing."""

import sys
import threading
import time
from pathlib import Path

from PySide6.QtCore import Qt, QTimer

_SHORTEST_MILLISECONDS = 4.0
"""Shorter ones are not kept: there are millions of them."""
_BEAT_MILLISECONDS = 2
_LOOK_EVERY_SECONDS = 0.008
_LOOK_AFTER_SECONDS = 0.024
_PLACES = 14
_ROOT = Path(__file__).resolve().parents[2]


class Watchdog:
    """A timer that fires every 2 ms when the event loop gets to it; its gaps are the stalls.

    A gap is measured in processor time of the GUI thread, so that other programs on a loaded machine
    do not count, and in wall time, so that waiting for a file or a lock does. A second thread looks at
    what the GUI thread is doing whenever a gap grows long.

    Attributes:
        busy: Processor milliseconds of every gap but the shortest.
        walls: Wall milliseconds of the same.
    """

    def __init__(self):
        self.busy = []
        self.walls = []
        self.marks = []
        self._stacks = {}
        self._looks = []
        self._thread_id = threading.get_ident()
        self._stop = threading.Event()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(_BEAT_MILLISECONDS)
        self._timer.timeout.connect(self._on_beat)

    def __enter__(self):
        self._cpu, self._wall = time.thread_time(), time.perf_counter()
        self._timer.start()
        self._watcher = threading.Thread(target=self._look, name="watchdog")
        self._watcher.start()
        return self

    def __exit__(self, *_):
        self._on_beat()
        self._timer.stop()
        self._stop.set()
        self._watcher.join()

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
        return [
            (round(self.busy[at], 1), round(self.walls[at], 1), self._name_at(at))
            for at in self._longest(count)
        ]

    def report(self, count=3):
        """The longest gaps in words, each with the stacks of the GUI thread that were seen in it."""
        return "\n".join(
            f"{self.busy[at]:.0f} ms of processor time, {self.walls[at]:.0f} ms of the clock, in"
            f" '{self._name_at(at)}':\n" + "\n  --- later\n".join(map(_in_words, self._stacks.get(at, [])))
            for at in self._longest(count)
        )

    def _longest(self, count):
        return sorted(range(len(self.busy)), key=lambda at: -self.busy[at])[:count]

    def _name_at(self, at):
        return next((name for first, name in reversed(self.marks) if first <= at), "")

    def _on_beat(self):
        cpu, wall = time.thread_time(), time.perf_counter()
        busy, waited = 1000 * (cpu - self._cpu), 1000 * (wall - self._wall)
        looks, self._looks = self._looks, []
        if max(busy, waited) > _SHORTEST_MILLISECONDS:
            if looks:
                # The first, the last and one between are enough to see what took the time.
                self._stacks[len(self.busy)] = list(
                    dict.fromkeys((looks[0], looks[len(looks) // 2], looks[-1]))
                )
            self.busy.append(busy)
            self.walls.append(waited)
        self._cpu, self._wall = cpu, wall

    def _look(self):
        while not self._stop.wait(_LOOK_EVERY_SECONDS):
            if time.perf_counter() - self._wall < _LOOK_AFTER_SECONDS:
                continue
            self._looks.append(_places_in(self._thread_id))


def _places_in(thread_id):
    """Code and line of the innermost functions that a thread is in.

    A frame keeps its local variables alive, and a painter that outlives its paint event brings the window
    down: frames are let go of before the other thread gets on, and put into words later.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1.0)
    frame, places = sys._current_frames().get(thread_id), []
    while frame is not None and len(places) < _PLACES:
        places.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    del frame
    sys.setswitchinterval(interval)
    return tuple(places)


def _in_words(places):
    lines = []
    for code, line in places:
        file = Path(code.co_filename)
        place = file.relative_to(_ROOT).as_posix() if file.is_relative_to(_ROOT) else file.name
        lines.append(f"  {place}:{line} {code.co_name}")
    return "\n".join(lines)
