"""500 clips dropped into a new project: rows, posters, probes, and the GUI thread's stalls meanwhile.

python -m tests.benchmarks.clips_500 [ROUNDS]
"""

import sys
import time
from pathlib import Path

from tests.benchmarks.clip_library import Watchdog, memory_megabytes, run, wait_until

COUNT = 500
POSTERS = 30
TARGETS = "targets: rows 1 s, 30 posters 3 s, probed 30 s, no stall over 50 ms, memory 600 MB"


def measure(window, clips: Path) -> dict[str, float]:
    from wan_studio.domain.checks import Step

    bench = window.bench
    # Tall enough for thirty posters at once.
    window.resize(1920, 1500)
    window.page(Step.CLIPS)
    bench.create_project(Path(str(clips) + f"_project_{time.time_ns()}"), "motion")
    wait_until(lambda: bench.session.is_open)
    window.go_to(Step.CLIPS)
    wait_until(lambda: True)
    library, page = bench.library, window.page(Step.CLIPS)
    times: dict[str, float] = {}
    begin = time.perf_counter()
    with Watchdog() as watchdog:
        bench.import_clips([clips])
        wait_until(lambda: page.model.rowCount() == COUNT)
        times["rows, s"] = time.perf_counter() - begin
        grid = page.browser.grid

        first = page.model.ids[:POSTERS]
        shown = grid.viewport().rect()
        assert all(shown.intersects(grid.visualRect(page.model.index(row, 0))) for row in range(POSTERS))
        wait_until(lambda: all(one in library._posters for one in first), 120)
        times[f"the first {POSTERS} posters, on the screen, s"] = time.perf_counter() - begin
        wait_until(lambda: library.waiting == 0)
        times["all probed, s"] = time.perf_counter() - begin
        times["longest stall while probing, ms of processor time"] = watchdog.longest_busy
    print("worst stalls:", watchdog.worst(3))
    times["memory, MB"] = memory_megabytes()
    wait_until(lambda: library.looks_waiting == 0, 600)
    times["all looked at for duplicates and still parts, s"] = time.perf_counter() - begin
    folder = bench.session.store.folder
    bench.session.save_now()
    begin = time.perf_counter()
    bench.open_project(folder)
    wait_until(lambda: library.waiting == COUNT)
    wait_until(lambda: library.waiting == 0)
    times["opened again, all known, s"] = time.perf_counter() - begin
    return times


if __name__ == "__main__":
    run(COUNT, int(sys.argv[1]) if len(sys.argv) > 1 else 1, measure)
    print(TARGETS)
