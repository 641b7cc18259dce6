"""A stop that does not wait for the work, and leaves work alone that ends by itself."""

import os
import signal
import threading
import time

import pytest

from trainer.protocol.commands import Pause, Stop
from trainer.protocol.events import CommandObeyed
from trainer.protocol.run_folder import EventReader, RunFolder
from trainer.runtime.control import Control
from trainer.runtime.quick_stop import quick_stop
from trainer.runtime.reporter import Reporter


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path)


@pytest.fixture
def control(run):
    with Reporter(run) as reporter:
        yield Control(run, reporter)


@pytest.fixture
def own_signals():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_work_that_does_not_look_is_left_after_a_moment_and_the_command_answered(run, control):
    left = threading.Event()
    with quick_stop(run, control, left.set):
        run.send(Stop())
        began = time.monotonic()
        assert left.wait(5)
        assert time.monotonic() - began < 2
    answers = [one for one in EventReader(run.events_file).read_new() if isinstance(one, CommandObeyed)]
    assert [one.command for one in answers] == ["stop"]


def test_the_handler_that_comes_after_the_watcher_does_not_take_it_for_a_second_ctrl_c(
    run, control, own_signals, monkeypatch
):
    asked_to_die, own = [], control._on_signal

    def late(number, frame):
        # Work that holds the main thread while the watcher looks.
        time.sleep(0.5)
        asked_to_die.append(control.stop)
        own(number, frame)

    monkeypatch.setattr(control, "_on_signal", late)
    control.listen_to_signals()
    with quick_stop(run, control, lambda: None):
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.1)
    assert asked_to_die == [False]


@pytest.mark.skipif(os.name == "nt", reason="a process cannot send itself these there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_so_it_is_for_signals(run, control, own_signals, number):
    control.listen_to_signals()
    left = threading.Event()
    with quick_stop(run, control, left.set):
        os.kill(os.getpid(), number)
        assert left.wait(5)
    assert control.stop


def test_work_that_ends_in_time_is_not_left(run, control):
    left = threading.Event()
    with quick_stop(run, control, left.set):
        run.send(Stop())
        while not control.stop:
            control.look()
    time.sleep(1.0)
    assert not left.is_set()


def test_other_commands_and_no_command_leave_nothing(run, control):
    left = threading.Event()
    with quick_stop(run, control, left.set):
        run.send(Pause())
        time.sleep(1.2)
    assert not left.is_set()
    assert signal.set_wakeup_fd(-1) == -1, "signals wake nobody any more"
