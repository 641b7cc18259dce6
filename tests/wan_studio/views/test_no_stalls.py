"""The window never waits: a tour of its pages with many clips, watched."""

import time

import pytest
from PySide6.QtCore import QTimer
from PySide6.QtTest import QTest

from tests.wan_studio.tour import Tour, many_clips
from tests.wan_studio.watchdog import Watchdog
from wan_studio.domain.checks import Step

pytestmark = pytest.mark.media

CLIPS = 200
ALLOWED_MILLISECONDS = 50.0
REFERENCE_SECONDS = 0.030
"""What `machine_factor` measures on an idle core of the machine on which the limit was set."""


def machine_factor():
    """How much slower than the reference this machine is now, at the kind of work that slots do."""
    times = []
    for _ in range(3):
        begin = time.thread_time()
        sum(len(f"{number}") for number in range(200_000))
        times.append(time.thread_time() - begin)
    return max(1.0, min(times) / REFERENCE_SECONDS)


@pytest.fixture
def big_project(tmp_path):
    """Many clips of a few files: a clip is a source and a part of it."""
    return many_clips(tmp_path, CLIPS)


@pytest.fixture
def visited(qtbot, window, big_project):
    """Each page was made once: making it is a part of the start."""
    window.bench.open_project(big_project.folder)
    qtbot.waitUntil(lambda: window.bench.session.is_open)
    for step in (Step.CLIPS, Step.TRIM, Step.CAPTIONS, Step.CLIPS):
        window.go_to(step)
        QTest.qWait(50)
    return window


def test_no_page_of_the_clips_keeps_the_window_waiting(qtbot, visited):
    allowed = ALLOWED_MILLISECONDS * machine_factor()
    watchdog = Tour(visited).run()
    qtbot.waitUntil(lambda: visited.bench.library.waiting == 0, timeout=30_000)
    assert watchdog.longest_busy < allowed, watchdog.report()
    # Waiting takes no processor time. Other programs may hold the thread up, but not for so long.
    assert watchdog.longest_wall < 20 * allowed, watchdog.worst()


def busy_for(seconds):
    begin = time.thread_time()
    while time.thread_time() - begin < seconds:
        pass


def test_the_tour_fails_on_a_slot_that_computes_for_80_ms_and_names_it(qtbot, visited, monkeypatch):
    tour = Tour(visited)

    def slow_clips():
        tour.do("Clips: something slow", lambda: busy_for(0.08))

    for part in ("clips", "trim", "captions"):
        monkeypatch.setattr(tour, part, slow_clips if part == "clips" else lambda: None)
    watchdog = tour.run()
    assert watchdog.longest_busy > ALLOWED_MILLISECONDS
    report = watchdog.report(1)
    assert "in 'Clips: something slow'" in report
    assert "test_no_stalls.py" in report
    assert "busy_for" in report


def test_the_watchdog_sees_a_slot_that_waits(qtbot):
    with Watchdog() as watchdog:
        QTest.qWait(20)
        watchdog.mark("wait")
        QTimer.singleShot(0, lambda: time.sleep(0.08))
        QTest.qWait(120)
    assert watchdog.longest_wall > 75
    assert watchdog.longest_busy < 50
