import pytest

from wan_studio.bridge.playback import Playback


@pytest.fixture
def playback(qtbot):
    made = Playback()
    made.set_sequence([i / 10 for i in range(10)], 1.0)
    return made


def test_it_plays_in_real_time_and_loops_inside_the_range(qtbot, playback):
    playback.set_loop(4, 7)
    seen = []
    playback.position_changed.connect(seen.append)
    playback.play()
    qtbot.waitUntil(lambda: len(seen) >= 7, timeout=3000)
    playback.stop()
    assert set(seen) <= {4, 5, 6}
    assert {4, 5, 6} <= set(seen)


def test_each_press_of_l_doubles_the_speed_and_j_turns_round(playback):
    speeds = []
    for direction in (1, 1, 1, 1, 1, -1, -1):
        playback.shuttle(direction)
        speeds.append(playback.speed)
    playback.stop()
    assert speeds == [1, 2, 4, 8, 8, -1, -2]


def test_stepping_stops_and_stays_inside(playback):
    playback.play()
    playback.step(3)
    assert (playback.position, playback.speed) == (3, 0)
    playback.step(100)
    assert playback.position == 9
    playback.step(-100)
    assert playback.position == 0


def test_backward_it_runs_from_the_end(qtbot, playback):
    seen = []
    playback.position_changed.connect(seen.append)
    playback.play(-8)
    qtbot.waitUntil(lambda: len(seen) >= 4, timeout=3000)
    playback.stop()
    assert seen[0] == 9
    assert seen[1] < 9


def test_one_frame_plays_without_end(qtbot):
    still = Playback()
    still.set_sequence([0.0], 0.0)
    still.play()
    qtbot.wait(40)
    assert still.position == 0
