"""A full disk pauses, says so, and goes on when there is room; a stop is heard meanwhile."""

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from tests.small_disk import run_on_a_small_disk
from trainer.errors import TrainerError
from trainer.protocol.commands import Stop
from trainer.protocol.events import CommandObeyed, Paused, Unpaused
from trainer.protocol.run_folder import EventReader, RunFolder
from trainer.runtime import disk_guard
from trainer.runtime.control import Control, StopRequested
from trainer.runtime.disk_guard import free_bytes, is_full_disk, wait_for_room
from trainer.runtime.reporter import Reporter


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch):
    monkeypatch.setattr(disk_guard, "SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(disk_guard, "SECONDS_BETWEEN_TRIES", 0.02)


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return RunFolder(tmp_path)


class FullUntil:
    """A write for which there is room at the last of so many tries."""

    def __init__(self, tries: int) -> None:
        self.tries = tries

    def __call__(self) -> str:
        self.tries -= 1
        if self.tries:
            raise OSError(errno.ENOSPC, "No space left on device")
        return "written"


def no_room_for(kind: type[Exception], *arguments: object) -> Exception:
    """A trainer's error as the outputs raise it: from the cause of such a kind."""
    error = TrainerError("The checkpoint could not be written.")
    error.__cause__ = kind(*arguments)
    return error


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (OSError(errno.EFBIG, "File too large"), False),
        (no_room_for(OSError, errno.ENOSPC, "No space left on device"), True),
        (no_room_for(OSError, errno.EROFS, "Read-only file system"), False),
        (TrainerError("The disk is full of clips."), False),
    ],
)
def test_a_full_disk_is_told_from_other_trouble(error, is_full):
    assert is_full_disk(error) == is_full


@pytest.mark.skipif(os.name == "nt", reason="the numbers are those of POSIX")
def test_errors_of_rust_are_known_by_the_number_in_their_text():
    assert is_full_disk(no_room_for(ValueError, "I/O error: No space left on device (os error 28)"))
    assert not is_full_disk(no_room_for(ValueError, "I/O error: Permission denied (os error 13)"))


def test_windows_tells_a_full_disk_in_its_own_numbers():
    error = OSError(errno.EINVAL, "handle disk full")
    error.winerror = 39
    assert is_full_disk(error)


def test_a_write_that_succeeds_says_nothing(run, tmp_path):
    with Reporter(run) as reporter:
        assert wait_for_room(FullUntil(1), tmp_path, reporter, Control(run, reporter)) == "written"
    assert EventReader(run.events_file).read_new() == []


def test_a_pause_is_said_once_and_ends_with_the_write(run, tmp_path, monkeypatch):
    free = iter(range(1_000_000, 10_000_000, 1000))
    monkeypatch.setattr(disk_guard, "free_bytes", lambda folder: next(free))
    with Reporter(run) as reporter:
        write = FullUntil(4)
        result = wait_for_room(
            write, tmp_path / "checkpoints", reporter, Control(run, reporter), step=7, needed_bytes=1_000_500
        )
    assert result == "written"
    paused, unpaused = EventReader(run.events_file).read_new()
    assert isinstance(paused, Paused)
    assert isinstance(unpaused, Unpaused)
    assert (paused.step, unpaused.step) == (7, 7)
    assert str(tmp_path / "checkpoints") in paused.reason
    assert "1.0 MB free, about 1.0 MB needed" in paused.reason


def test_without_more_room_it_is_tried_again_only_after_a_while(run, tmp_path, monkeypatch):
    monkeypatch.setattr(disk_guard, "free_bytes", lambda folder: 5 << 30)
    monkeypatch.setattr(disk_guard, "SECONDS_BEFORE_A_TRY_ANYWAY", 0.3)
    began = time.monotonic()
    with Reporter(run) as reporter:
        wait_for_room(FullUntil(3), tmp_path, reporter, Control(run, reporter))
    assert 0.6 <= time.monotonic() - began < 5
    assert "quota" in EventReader(run.events_file).read_new()[0].reason


def test_a_stop_while_waiting_ends_the_wait(run, tmp_path):
    with Reporter(run) as reporter:
        stopping = threading.Timer(0.1, run.send, [Stop()])
        stopping.start()
        with pytest.raises(StopRequested):
            wait_for_room(FullUntil(10**9), tmp_path, reporter, Control(run, reporter))
        stopping.join()
    kinds = [type(event) for event in EventReader(run.events_file).read_new()]
    assert kinds == [Paused, CommandObeyed]


def test_a_stop_that_asked_for_the_save_waits_for_it_and_holds_afterwards(run, tmp_path, monkeypatch):
    free = iter(range(1_000_000, 10_000_000, 1000))
    monkeypatch.setattr(disk_guard, "free_bytes", lambda folder: next(free))
    with Reporter(run) as reporter:
        control = Control(run, reporter)
        control.stop = True
        assert wait_for_room(FullUntil(3), tmp_path, reporter, control) == "written"
        assert control.stop
        control.pause = True
        run.send(Stop())
        with pytest.raises(StopRequested):
            wait_for_room(FullUntil(10**9), tmp_path, reporter, control)
    assert "the run stops, its state saved" in EventReader(run.events_file).read_new()[0].reason


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "Permission denied"), TrainerError("Wrong.")])
def test_other_trouble_is_not_waited_for(run, tmp_path, error):
    def write():
        raise error

    with Reporter(run) as reporter, pytest.raises(type(error)):
        wait_for_room(write, tmp_path, reporter, Control(run, reporter))
    assert EventReader(run.events_file).read_new() == []


def test_the_room_of_a_folder_that_is_not_there_is_that_of_its_disk(tmp_path):
    missing = free_bytes(tmp_path / "not" / "there")
    assert missing is not None
    assert missing > 0
    assert free_bytes(Path(os.devnull)) is not None


SAVE_ON_A_FULL_DISK = """
import sys, threading, time
from pathlib import Path

import torch

from trainer.data.tensor_cache import TensorCache
from trainer.output.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from trainer.protocol.events import Paused, Unpaused
from trainer.protocol.job import Expert
from trainer.protocol.run_folder import EventReader, RunFolder
from trainer.runtime import disk_guard
from trainer.runtime.control import Control
from trainer.runtime.reporter import Reporter

disk_guard.SECONDS_BETWEEN_LOOKS, disk_guard.SECONDS_BETWEEN_TRIES = 0.02, 0.1
folder = Path(sys.argv[1])
filler = folder / "filler"
run = RunFolder(folder / "run")
run.path.mkdir()
tensor = torch.arange(100_000, dtype=torch.float32)
state = TrainingState(5, 1e-4, {Expert.HIGH: {"a": tensor}}, {})

def make_room_when_told():
    reader = EventReader(run.events_file)
    while not any(isinstance(event, Paused) for event in reader.read_new()):
        time.sleep(0.01)
    time.sleep(0.2)
    print("left behind:", sorted(path.name for path in run.path.rglob("*") if path.is_file()))
    filler.unlink()

def guarded(write, where):
    helper = threading.Thread(target=make_room_when_told)
    with Reporter(run) as reporter:
        filler.write_bytes(bytes(disk_guard.free_bytes(folder) - 100_000))
        helper.start()
        control = Control(run, reporter)
        result = disk_guard.wait_for_room(write, where, reporter, control, needed_bytes=state.expected_bytes)
    helper.join()
    kinds = [type(event).__name__ for event in EventReader(run.events_file).read_new()]
    print(kinds)
    run.events_file.unlink()
    return result

def save():
    return save_checkpoint(run, state, lambda at: (at / "high_noise.safetensors").write_bytes(b"lora"))

saved = guarded(save, run.checkpoints_folder)
assert torch.equal(load_checkpoint(saved).loras[Expert.HIGH]["a"], tensor)
cache = TensorCache(run.path / "cache")
guarded(lambda: cache.store("latents", {"a": tensor}), cache.folder)
assert torch.equal(cache.load("latents")["a"], tensor)
"""


def test_a_save_and_a_cached_clip_wait_out_a_disk_that_is_really_full(tmp_path):
    told = run_on_a_small_disk(SAVE_ON_A_FULL_DISK, tmp_path, size="2m").splitlines()
    assert told[0] == "left behind: ['.events.jsonl.reserve', 'events.jsonl']"
    assert told[1] == told[3] == "['Paused', 'Unpaused']"
    assert "latents" not in told[2]
