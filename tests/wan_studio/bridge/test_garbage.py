import gc
import threading

from PySide6.QtCore import QObject, QThread

from wan_studio.bridge.garbage import GarbageCollector


class Cycle(QObject):
    """Garbage that only the collector finds, and that tells which thread it was collected on."""

    def __init__(self, collected_on: list[QThread]) -> None:
        super().__init__()
        self.itself = self
        self.collected_on = collected_on

    def __del__(self) -> None:
        self.collected_on.append(QThread.currentThread())


def many() -> list[list[int]]:
    return [[] for _ in range(20_000)]


def test_what_a_worker_allocates_deletes_no_qt_object_on_its_thread(qtbot):
    collector = GarbageCollector()
    try:
        collected_on: list[QThread] = []
        Cycle(collected_on)
        worker = threading.Thread(target=many)
        worker.start()
        worker.join()
        assert collected_on == []
        kept = many()
        qtbot.waitUntil(lambda: bool(collected_on), timeout=5000)
        assert collected_on == [QThread.currentThread()]
        assert kept
    finally:
        collector.stop()
    assert gc.isenabled()


def test_what_survived_is_set_aside_and_looked_through_when_asked(qtbot):
    collector = GarbageCollector()
    try:
        collected_on: list[QThread] = []
        cycle = Cycle(collected_on)
        collector.collect_all()
        assert gc.get_freeze_count() > 10_000
        del cycle
        gc.collect()
        assert collected_on == [], "set aside"
        collector.collect_all()
        assert len(collected_on) == 1
    finally:
        collector.stop()
    assert gc.get_freeze_count() == 0
