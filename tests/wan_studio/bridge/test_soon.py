from PySide6.QtCore import QObject, QTimer
from PySide6.QtTest import QTest

from wan_studio.bridge.soon import AT_THE_LATEST_MILLISECONDS, SoonTimer


def test_it_fires_once_after_a_pause(qtbot):
    parent, fired = QObject(), []
    timer = SoonTimer(20, parent)
    timer.timeout.connect(lambda: fired.append(True))
    timer.start()
    assert timer.is_active
    qtbot.waitUntil(lambda: bool(fired))
    QTest.qWait(60)
    assert fired == [True]
    assert not timer.is_active


def test_changes_without_a_pause_do_not_put_it_off_for_longer_than_its_limit(qtbot):
    parent, fired = QObject(), []
    timer, typing = SoonTimer(200, parent), QTimer(parent)
    timer.timeout.connect(lambda: fired.append(True))
    typing.timeout.connect(timer.start)
    typing.start(10)
    QTest.qWait(round(2.3 * AT_THE_LATEST_MILLISECONDS))
    assert len(fired) >= 2


def test_a_stopped_one_does_not_fire(qtbot):
    parent, fired = QObject(), []
    timer = SoonTimer(10, parent)
    timer.timeout.connect(lambda: fired.append(True))
    timer.start()
    timer.stop()
    QTest.qWait(50)
    assert not fired
