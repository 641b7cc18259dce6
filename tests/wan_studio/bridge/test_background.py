import threading

import pytest

from wan_studio.bridge.background import run_in_background


def test_results_come_on_the_gui_thread(qtbot):
    seen = {}

    def work():
        seen["worker"] = threading.current_thread()
        return 42

    def on_done(result):
        seen["result"], seen["receiver"] = result, threading.current_thread()

    run_in_background(work, on_done)
    qtbot.waitUntil(lambda: "result" in seen)
    assert seen["result"] == 42
    assert seen["receiver"] is threading.main_thread()
    assert seen["worker"] is not threading.main_thread()


def test_an_exception_comes_to_on_error(qtbot):
    errors = []
    run_in_background(lambda: 1 / 0, pytest.fail, errors.append)
    qtbot.waitUntil(lambda: errors != [])
    assert isinstance(errors[0], ZeroDivisionError)


def test_a_cancelled_task_delivers_nothing(qtbot):
    release = threading.Event()
    results = []
    task = run_in_background(lambda: release.wait(2), results.append)
    task.cancel()
    release.set()
    qtbot.wait(50)
    assert results == []


def test_without_on_error_the_exception_reaches_the_gui_thread(qtbot):
    with qtbot.captureExceptions() as exceptions:
        run_in_background(lambda: 1 / 0, lambda _: None)
        qtbot.waitUntil(lambda: exceptions != [])
    assert exceptions[0][0] is ZeroDivisionError
