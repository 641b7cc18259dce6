"""What 5000 captions cost, in the real window: searching by key, previewing, replacing and undoing; run by hand.

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

COUNT = 5000
ROUNDS = 5
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
        self._timer.start(0)

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
        if time.perf_counter() - began > seconds:
            raise TimeoutError
    return (time.perf_counter() - began) * 1000


def told(what: str, budget: float, values: list[float], stall: float) -> None:
    """One line of the outcome."""
    print(
        f"{what:<44} median {median(values):7.1f} ms  worst {max(values):7.1f} ms  budget {budget:6.0f} ms"
        f"  longest stall {stall * 1000:6.1f} ms"
    )


def main(folder: Path) -> None:
    """Measure and print."""
    os.environ["WAN_STUDIO_HOME"] = str(folder / "home")
    from wan_studio.app import build_window
    from wan_studio.bridge.background import wait_for_background
    from wan_studio.domain.checks import Step
    from wan_studio.domain.project import Project, ProjectClip
    from wan_studio.services.project_store import ProjectStore

    write_captions(folder)
    names = [f"clip_{number:04}" for number in range(COUNT)]
    clips = tuple(
        ProjectClip(id=name, source=str(folder / f"{name}.mp4"), caption_file=str(folder / f"{name}.txt"))
        for name in names
    )
    store = ProjectStore(folder / "project")
    store.save(Project(name="many", trigger="frung", clips=clips))
    app = QApplication.instance() or QApplication([])
    assert isinstance(app, QApplication)
    window = build_window(app)
    window.show()
    window.bench.open_project(store.folder)
    wait_until(lambda: window.bench.session.is_open and window.bench.library.waiting == 0)
    window.go_to(Step.CAPTIONS)
    page = window.page(Step.CAPTIONS)
    wait_until(lambda: len(page._model.ids) == COUNT)
    settled = time.perf_counter()
    wait_until(lambda: time.perf_counter() - settled > 3)
    watch = StallWatch()

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
            app.processEvents()
    told("search, a key", 50, keys, watch.longest)
    page._list.search.clear()
    page._list._apply_search()

    panel = page._top.replace
    previews: list[float] = []
    applies: list[float] = []
    undos: list[float] = []
    seen: dict[str, float] = {"preview": 0.0, "apply": 0.0, "undo": 0.0}
    page.open_replace()
    panel.regex.setChecked(True)
    for number in range(ROUNDS):
        panel.sought.setText(r"(\d+),")
        panel.replacement.setText(rf"\1 {number};")
        panel._timer.stop()
        panel.model.show_changes([], {})
        watch.begin()
        panel._preview()
        previews.append(wait_until(lambda: panel.model.rowCount() == COUNT))
        seen["preview"] = max(seen["preview"], watch.longest)
        watch.begin()
        began = time.perf_counter()
        panel._on_apply()
        wait_until(lambda: page._desk.is_saved)
        applies.append((time.perf_counter() - began) * 1000)
        seen["apply"] = max(seen["apply"], watch.longest)
        watch.begin()
        began = time.perf_counter()
        window.bench.session.undo_stack.undo()
        wait_until(lambda: page._desk.is_saved)
        undos.append((time.perf_counter() - began) * 1000)
        seen["undo"] = max(seen["undo"], watch.longest)
        settled = time.perf_counter()
        wait_until(lambda: time.perf_counter() - settled > 2)
    told("replace by expression, preview", 300, previews, seen["preview"])
    told("replace, until all files are written", 1000, applies, seen["apply"])
    told("undo, until all files are written", 1000, undos, seen["undo"])
    window.close()
    wait_for_background()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(Path(place))
