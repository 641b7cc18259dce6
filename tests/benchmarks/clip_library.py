"""What the benchmarks of the Clips page share: many clips made by code, a window on them, and its stalls."""

import os
import random
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.media import make_video
from tests.wan_studio.watchdog import Watchdog


def make_clips(folder: Path, count: int, *, width: int = 1280, height: int = 720, frames: int = 60) -> None:
    """So many files of a few different videos, each with bytes of its own."""
    folder.mkdir(parents=True)
    bases = [
        make_video(
            folder / f"base{at}.mp4", frames=frames, fps=20, width=width, height=height, first_number=at * 16
        ).read_bytes()
        for at in range(8)
    ]
    for at in range(8):
        (folder / f"base{at}.mp4").unlink()
    words = ["orbit", "dolly", "pan", "tilt", "zoom", "static", "slow", "fast", "castle", "woman", "car"]
    for number in range(count):
        # A `free` box is part of the format that nobody reads.
        box = struct.pack(">I4sQ", 16, b"free", number)
        (folder / f"clip_{number:04d}.mp4").write_bytes(bases[number % len(bases)] + box)
        if number % 3:
            text = " ".join(random.Random(number).choices(words, k=12))
            (folder / f"clip_{number:04d}.txt").write_text(text)


@contextmanager
def window_at(home: Path) -> Iterator[object]:
    """A window with folders of its own."""
    os.environ["WAN_STUDIO_HOME"] = str(home)
    from PySide6.QtWidgets import QApplication

    from wan_studio.app import build_window
    from wan_studio.bridge.background import wait_for_background
    from wan_studio.bridge.garbage import GarbageCollector

    sys.setswitchinterval(0.001)  # as the window's own start does
    app = QApplication.instance() or QApplication(sys.argv[:1])
    window = build_window(app)  # type: ignore[arg-type]
    window.resize(1600, 1000)
    window.show()
    garbage = GarbageCollector()
    yield window
    window.close()
    garbage.stop()
    wait_for_background()


def wait_until(is_so: Callable[[], bool], seconds: float = 300.0) -> float:
    """Seconds until something is so, the event loop running meanwhile."""
    from PySide6.QtTest import QTest

    begin = time.perf_counter()
    while not is_so():
        if time.perf_counter() - begin > seconds:
            raise TimeoutError("it never came to be so")
        QTest.qWait(2)
    return time.perf_counter() - begin


def memory_megabytes() -> float:
    """Of this process, without its workers."""
    return psutil.Process().memory_info().rss / 1e6


def run(count: int, rounds: int, measure: Callable[[object, Path], dict[str, float]]) -> None:
    """Measure some rounds on fresh folders and print medians."""
    results: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        clips = Path(name, "clips")
        size = {} if count <= 1000 else {"width": 320, "height": 180, "frames": 40}
        make_clips(clips, count, **size)
        for number in range(rounds):
            with window_at(Path(name, f"home{number}")) as window:
                for what, value in measure(window, clips).items():
                    results.setdefault(what, []).append(value)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    print(f"{count} clips, {rounds} rounds, {os.cpu_count()} cores, load {load:.1f}; medians")
    for what, values in results.items():
        print(f"  {what:58} {statistics.median(values):10.2f}")


__all__ = ["Watchdog", "make_clips", "memory_megabytes", "run", "wait_until", "window_at"]
