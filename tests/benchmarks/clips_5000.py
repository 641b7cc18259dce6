"""5000 clips: how smoothly grid and table scroll, how fast a search answers, and what memory they take.

python -m tests.benchmarks.clips_5000 [ROUNDS]
"""

import statistics
import sys
import time
from pathlib import Path

from tests.benchmarks.clip_library import Watchdog, memory_megabytes, run, wait_until

COUNT = 5000
TARGETS = "targets: no frame over 50 ms, a key of a search 50 ms, memory 600 MB"


def scroll(page, view: str) -> dict[str, float]:
    """From top to bottom in 200 steps; milliseconds of processor time of each repaint."""
    from PySide6.QtTest import QTest

    page.show_view(view)
    QTest.qWait(300)
    shown = page.browser.grid if view == "grid" else page.browser.table
    bar = shown.verticalScrollBar()
    frames: list[float] = []
    for place in range(200):
        bar.setValue(bar.maximum() * place // 200)
        began = time.thread_time()
        shown.viewport().repaint()
        frames.append(1000 * (time.thread_time() - began))
        QTest.qWait(1)
    return {f"{view}: median frame, ms": statistics.median(frames), f"{view}: longest frame, ms": max(frames)}


def measure(window, clips: Path) -> dict[str, float]:
    from PySide6.QtTest import QTest

    from wan_studio.domain.checks import Step

    bench = window.bench
    window.page(Step.CLIPS)
    bench.create_project(Path(str(clips) + f"_project_{time.time_ns()}"), "motion")
    wait_until(lambda: bench.session.is_open)
    window.go_to(Step.CLIPS)
    library, page = bench.library, window.page(Step.CLIPS)
    times: dict[str, float] = {}
    begin = time.perf_counter()
    with Watchdog() as watchdog:
        bench.import_clips([clips])
        wait_until(lambda: page.model.rowCount() == COUNT)
        times["rows, s"] = time.perf_counter() - begin
        wait_until(lambda: library.waiting == 0, 900)
        times["all probed, s"] = time.perf_counter() - begin
    times["longest stall while adding and probing, ms"] = watchdog.longest_busy
    print("worst stalls:", watchdog.worst(4))
    library.pause()
    wait_until(lambda: bench.index.is_settled)
    QTest.qWait(1000)
    for view in ("grid", "table"):
        times.update(scroll(page, view))
    page.show_view("grid")
    keys: list[float] = []
    typed = "orbit caption:castle speed:<2 -dolly"
    for end in range(1, len(typed) + 1):
        began = time.thread_time()
        page.model.set_query(typed[:end])
        keys.append(1000 * (time.thread_time() - began))
    times["search: median key, ms"] = statistics.median(keys)
    times["search: longest key, ms"] = max(keys)
    page.model.set_query("")
    began = time.thread_time()
    page.edits.rate(page.model.ids[:1], 3)
    times["an edit of one clip, ms"] = 1000 * (time.thread_time() - began)
    library.go_on()
    times["memory, MB"] = memory_megabytes()
    return times


if __name__ == "__main__":
    run(COUNT, int(sys.argv[1]) if len(sys.argv) > 1 else 1, measure)
    print(TARGETS)
