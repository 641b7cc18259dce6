"""The tour of the Clips, Trim and Captions pages with 5000 clips: the GUI thread's longest stalls, with stacks.

python -m tests.benchmarks.tour [CLIPS]
"""

import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from tests.benchmarks.clip_library import memory_megabytes, wait_until, window_at
from tests.wan_studio.tour import Tour, many_clips


def main(count: int) -> None:
    from PySide6.QtTest import QTest

    from wan_studio.domain.checks import Step

    with tempfile.TemporaryDirectory() as name:
        store = many_clips(Path(name), count)
        with window_at(Path(name, "home")) as window:
            window.bench.open_project(store.folder)
            wait_until(lambda: window.bench.session.is_open)
            for step in (Step.CLIPS, Step.TRIM, Step.CAPTIONS, Step.CLIPS):
                window.go_to(step)
                QTest.qWait(50)
            began = time.perf_counter()
            watchdog = Tour(window).run()
            print(
                f"{count} clips, toured in {time.perf_counter() - began:.0f} s, load {os.getloadavg()[0]:.1f}"
            )
            print(
                f"longest: {watchdog.longest_busy:.0f} ms of processor time, {watchdog.longest_wall:.0f} ms of the clock"
            )
            print("gaps over 50 ms of processor time:", sum(busy > 50 for busy in watchdog.busy))
            for one in watchdog.worst(12):
                print("  ", *one)
            print(watchdog.report(int(os.environ.get("STACKS", "3"))))
            print(f"memory {memory_megabytes():.0f} MB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
