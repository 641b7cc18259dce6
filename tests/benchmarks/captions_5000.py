"""What 5000 captions cost, on the real page: searching by key, previewing, replacing and undoing; run by hand.

.venv/bin/python tests/benchmarks/captions_5000.py
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication

from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.project import Project, ProjectClip
from wan_studio.services.project_store import ProjectStore
from wan_studio.views.captions.page import CaptionsPage

COUNT = 5000
ROUNDS = 3
WORDS = [
    "stone",
    "castle",
    "at",
    "dusk,",
    "the",
    "camera",
    "slowly",
    "orbits",
    "left",
    "around",
    "a",
    "wet",
    "tower",
    "while",
    "birds",
    "rise",
]


def write_captions(folder: Path) -> None:
    """Captions of ordinary length, each a little different."""
    for number in range(COUNT):
        words = " ".join(WORDS[(number + at) % len(WORDS)] for at in range(20 + number % 25))
        (folder / f"clip_{number:04}.txt").write_text(f"[trigger] {number}, {words}\n", encoding="utf-8")


class StallWatch:
    """The longest time for which the event loop did not turn."""

    def __init__(self) -> None:
        self._timer = QTimer()
        self._timer.timeout.connect(self._on_turn)
        self._last = time.perf_counter()
        self.longest = 0.0
        self._timer.start(2)

    def begin(self) -> None:
        """Forget what was before."""
        self._last, self.longest = time.perf_counter(), 0.0

    def _on_turn(self) -> None:
        now = time.perf_counter()
        self.longest, self._last = max(self.longest, now - self._last), now


def wait_until(is_done: Callable[[], bool], seconds: float = 120.0) -> float:
    """Turn the event loop until it is so; returns milliseconds."""
    began = time.perf_counter()
    while not is_done():
        QApplication.processEvents()
        # As Qt's own loop would wait: other threads must get their turn.
        time.sleep(0.002)
        if time.perf_counter() - began > seconds:
            raise TimeoutError
    return (time.perf_counter() - began) * 1000


def told(what: str, budget: float, values: list[float], stall: float) -> None:
    """One line of the outcome."""
    print(
        f"{what:<44} median {median(values):7.1f} ms  worst {max(values):7.1f} ms  budget {budget:6.0f} ms"
        f"  longest stall {stall * 1000:6.1f} ms"
    )


def rest(seconds: float) -> None:
    """Let what goes on in the background end."""
    began = time.perf_counter()
    wait_until(lambda: time.perf_counter() - began > seconds)


def open_page(folder: Path) -> CaptionsPage:
    """The page alone, with its project open and everything read."""
    write_captions(folder)
    clips = tuple(
        ProjectClip(id=name, source=str(folder / f"{name}.mp4"), caption_file=str(folder / f"{name}.txt"))
        for name in (f"clip_{number:04}" for number in range(COUNT))
    )
    bench = Workbench(QApplication.instance())
    page = CaptionsPage(bench)
    page.resize(1280, 800)
    page.show()
    bench.session.open(ProjectStore(folder / "project"), Project(name="many", trigger="frung", clips=clips))
    page.enter()
    wait_until(lambda: len(page._model.ids) == COUNT)
    rest(4)
    return page


def measure_search(page: CaptionsPage, watch: StallWatch) -> None:
    """Three searches, a key at a time, each to the finished picture."""
    keys: list[float] = []
    watch.begin()
    for query in ("castle AND tokens:>40 NOT tower", "clip_12 OR wet*dusk", "trigger:missing OR words:>40"):
        for end in range(1, len(query) + 1):
            began = time.perf_counter()
            page._list.search.setText(query[:end])
            page._list._timer.stop()
            page._list._apply_search()
            page.repaint()
            keys.append((time.perf_counter() - began) * 1000)
            QApplication.processEvents()
    told("search, a key", 50, keys, watch.longest)
    page._list.search.clear()
    page._list._apply_search()


def measure_replace(page: CaptionsPage, watch: StallWatch) -> None:
    """Replace in every caption and take it back, several times."""
    panel, desk, stack = page._top.replace, page._desk, page.session.undo_stack
    taken: dict[str, list[float]] = {"preview": [], "replace": [], "undo": []}
    stalls = dict.fromkeys(taken, 0.0)

    def timed(what: str, act: Callable[[], object], is_done: Callable[[], bool]) -> None:
        watch.begin()
        began = time.perf_counter()
        act()
        wait_until(is_done)
        taken[what].append((time.perf_counter() - began) * 1000)
        QApplication.processEvents()
        stalls[what] = max(stalls[what], watch.longest)

    page.open_replace()
    panel.regex.setChecked(True)
    for number in range(ROUNDS):
        panel.sought.setText(r"(\d+),")
        panel.replacement.setText(rf"\1 {number};")
        panel._timer.stop()
        panel.model.show_changes([], {})
        timed("preview", panel._preview, lambda: panel.model.rowCount() == COUNT)
        timed("replace", panel._on_apply, lambda: desk.is_saved)
        rest(2)
        timed("undo", stack.undo, lambda: desk.is_saved)
        rest(2)
    for what, budget in (("preview", 300), ("replace", 1000), ("undo", 1000)):
        told(f"{what}, {COUNT} captions", budget, taken[what], stalls[what])


def main(folder: Path) -> None:
    """Measure and print."""
    os.environ["WAN_STUDIO_HOME"] = str(folder / "home")
    page = open_page(folder)
    watch = StallWatch()
    measure_search(page, watch)
    measure_replace(page, watch)
    page.leave()
    page.shut_down()
    page.bench.close()
    wait_for_background()


if __name__ == "__main__":
    app = QApplication([])
    with tempfile.TemporaryDirectory() as place:
        main(Path(place))
