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

from PySide6.QtWidgets import QApplication

from tests.wan_studio.watchdog import Watchdog
from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.garbage import GarbageCollector
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


def bare_files_milliseconds(folder: Path) -> float:
    """As many files written beside their targets and renamed over them, twice, with nothing around it."""
    folder.mkdir()
    names = [str(folder / f"clip_{number:04}.txt") for number in range(COUNT)]
    took = 0.0
    for _ in range(2):
        if hasattr(os, "sync"):
            # To replace what lies on the disk is another thing than what is still on its way there.
            os.sync()
        began = time.perf_counter()
        for name in names:
            with open(f"{name}.tmp", "wb") as file:  # noqa: PTH123 - bare
                file.write(b"x" * 200)
            os.replace(f"{name}.tmp", name)  # noqa: PTH105 - bare
        took = (time.perf_counter() - began) * 1000
    return took


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


def told(what: str, budget: float, values: list[float], stall: tuple[float, float]) -> None:
    """One line of the outcome."""
    print(
        f"{what:<24} median {median(values):7.1f} ms  worst {max(values):7.1f} ms  budget {budget:5.0f} ms"
        f"  longest stall {stall[0]:5.1f} ms of processor time, {stall[1]:5.1f} ms of the clock"
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


def measure_search(page: CaptionsPage) -> None:
    """Three searches, a key at a time, each to the finished picture."""
    keys: list[float] = []
    busy = 0.0
    for query in ("castle AND tokens:>40 NOT tower", "clip_12 OR wet*dusk", "trigger:missing OR words:>40"):
        for end in range(1, len(query) + 1):
            began, busy_before = time.perf_counter(), time.thread_time()
            page._list.search.setText(query[:end])
            page._list._timer.stop()
            page._list._apply_search()
            page.repaint()
            keys.append((time.perf_counter() - began) * 1000)
            busy = max(busy, (time.thread_time() - busy_before) * 1000)
            QApplication.processEvents()
    told("search, a key", 50, keys, (busy, max(keys)))
    page._list.search.clear()
    page._list._apply_search()


def measure_replace(page: CaptionsPage, folder: Path) -> None:
    """Replace in every caption and take it back, several times."""
    panel, desk, stack = page._top.replace, page._desk, page.session.undo_stack
    taken: dict[str, list[float]] = {"preview": [], "replace": [], "undo": []}
    stalls = dict.fromkeys(taken, (0.0, 0.0))

    def timed(what: str, act: Callable[[], object], is_done: Callable[[], bool]) -> None:
        with Watchdog() as watch:
            began = time.perf_counter()
            act()
            wait_until(is_done)
            taken[what].append((time.perf_counter() - began) * 1000)
            rest(1)
        longest = (watch.longest_busy, watch.longest_wall)
        stalls[what] = max(stalls[what][0], longest[0]), max(stalls[what][1], longest[1])

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
    print(f"{COUNT} files of this disk, bare: {bare_files_milliseconds(folder / 'bare'):.0f} ms")
    for what, budget in (("preview", 300), ("replace", 1000), ("undo", 1000)):
        told(f"{what}, {COUNT} captions", budget, taken[what], stalls[what])


def main(folder: Path) -> None:
    """Measure and print."""
    os.environ["WAN_STUDIO_HOME"] = str(folder / "home")
    page = open_page(folder)
    garbage = GarbageCollector()
    measure_search(page)
    measure_replace(page, folder)
    garbage.stop()
    page.leave()
    page.shut_down()
    page.bench.close()
    wait_for_background()


if __name__ == "__main__":
    app = QApplication([])
    with tempfile.TemporaryDirectory() as place:
        main(Path(place))
