"""J, K and L as editing programs have them."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from wan_studio.domain.clip import TrimRange

pytestmark = pytest.mark.media

J, K, L = Qt.Key.Key_J, Qt.Key.Key_K, Qt.Key.Key_L


@pytest.fixture
def playback(page):
    page._set_trim(0, 40, "Trim")
    page._seek(20)
    return page._player.playback


def test_j_plays_backward_and_each_press_is_twice_as_fast(qtbot, open_window, page, playback):
    speeds = []
    for key in (J, J, J, J, J, L, L, K):
        QTest.keyClick(open_window, key)
        speeds.append(playback.speed)
    assert speeds == [-1, -2, -4, -8, -8, 1, 2, 0]


def test_backward_every_frame_comes_in_turn(qtbot, open_window, page, playback):
    with qtbot.waitSignal(page._player.window_filled, check_params_cb=lambda done, count: done == count):
        page._stage.loop(TrimRange(2, 30))
    shown = []
    page._player.frame_shown.connect(shown.append)
    QTest.keyClick(open_window, J)
    qtbot.waitUntil(lambda: len(shown) >= 8)
    QTest.keyClick(open_window, K)
    assert shown == list(range(shown[0], shown[0] - len(shown), -1))


@pytest.mark.parametrize(("key", "way"), [(J, -1), (L, 1)])
def test_a_tap_while_k_is_held_is_one_frame(qtbot, open_window, page, playback, key, way):
    QTest.keyPress(open_window, K)
    for tap in range(1, 4):
        QTest.keyClick(open_window, key)
        assert playback.position == 20 + way * tap
    QTest.keyRelease(open_window, K)
    qtbot.wait(300)
    assert (playback.position, playback.speed) == (20 + way * 3, 0)


@pytest.mark.parametrize(("key", "way"), [(J, -1), (L, 1)])
def test_holding_both_plays_in_slow_motion_until_one_is_let_go(qtbot, open_window, page, playback, key, way):
    QTest.keyPress(open_window, K)
    QTest.keyPress(open_window, key)
    qtbot.waitUntil(lambda: playback.speed == way * 0.25)
    assert page._stage._transport._speed.text() == f"{way * 0.25:g}x"
    QTest.keyRelease(open_window, key)
    assert playback.speed == 0
    QTest.keyRelease(open_window, K)


def test_a_held_key_does_not_count_as_many_presses(open_window):
    action = open_window.actions_table.action("play.forward")
    assert not action.autoRepeat()
