"""The run folder: events that survive tearing, commands that arrive whole, a lock that cannot lie."""

import errno
import os
import subprocess
import sys
import time

import pytest

from tests.small_disk import run_on_a_small_disk
from trainer.protocol import run_folder
from trainer.protocol.commands import SetLearningRate, Stop
from trainer.protocol.events import Hello, RunFinished, StepDone, UnknownEvent, Warned
from trainer.protocol.job import Expert
from trainer.protocol.run_folder import EventReader, EventWriter, RunFolder, RunLockedError

HOLD_THE_LOCK = """
import sys, time
from pathlib import Path
from trainer.protocol.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).hold_lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_events_come_back_as_they_were_written_and_only_once(tmp_path):
    writer = EventWriter(tmp_path / "events.jsonl")
    reader = EventReader(tmp_path / "events.jsonl")
    writer.write(Hello(protocol_version=1, trainer_version="1", pid=5, device="CPU"))
    writer.write(Warned(message="größer"))
    first = reader.read_new()
    writer.write(RunFinished(reason="completed", step=3))
    second = reader.read_new()
    writer.close()
    assert [type(event) for event in first] == [Hello, Warned]
    assert first[1].message == "größer"
    assert abs(first[0].time - time.time()) < 60
    assert [type(event) for event in second] == [RunFinished]
    assert reader.read_new() == []


def test_a_torn_last_line_waits_until_it_is_whole(tmp_path):
    path = tmp_path / "events.jsonl"
    line = b'{"event":"warned","message":"whole"}\n'
    path.write_bytes(line + line[:9])
    reader = EventReader(path)
    assert len(reader.read_new()) == 1
    path.write_bytes(line + line)
    assert len(reader.read_new()) == 1


def test_a_line_torn_by_a_crash_does_not_swallow_the_next_trainers_first_event(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event":"warn')
    writer = EventWriter(path)
    writer.write(Warned(message="resumed"))
    writer.close()
    torn, warned = EventReader(path).read_new()
    assert isinstance(torn, UnknownEvent)
    assert warned.message == "resumed"


def test_an_event_of_a_newer_trainer_is_kept_and_a_new_field_is_ignored(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event":"teleported","to":"moon"}\n{"event":"warned","message":"m","colour":"red"}\n')
    unknown, warned = EventReader(path).read_new()
    assert isinstance(unknown, UnknownEvent)
    assert b"moon" in unknown.line
    assert warned.message == "m"


def test_commands_arrive_in_order_and_go_when_removed(tmp_path):
    run = RunFolder(tmp_path)
    run.send(SetLearningRate(learning_rate=5e-5))
    run.send(Stop())
    (first_id, first), (_, second) = run.waiting_commands()
    assert first == SetLearningRate(learning_rate=5e-5)
    assert second == Stop()
    run.remove_command(first_id)
    assert [command for _, command in run.waiting_commands()] == [Stop()]


def test_a_command_that_cannot_be_read_comes_as_its_error(tmp_path):
    run = RunFolder(tmp_path)
    run.commands_folder.mkdir()
    (run.commands_folder / "1.json").write_text('{"command": "explode"}', encoding="utf-8")
    ((_, error),) = run.waiting_commands()
    assert "explode" in str(error)


@pytest.mark.contract
def test_the_lock_is_seen_from_outside_refuses_a_second_trainer_and_dies_with_its_holder(tmp_path):
    run = RunFolder(tmp_path)
    assert not run.is_alive()
    holder = subprocess.Popen([sys.executable, "-c", HOLD_THE_LOCK, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline().strip() == b"held"
        assert run.is_alive()
        with pytest.raises(RunLockedError), run.hold_lock(patience_seconds=0.2):
            pass
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert not run.is_alive()
    with run.hold_lock():
        assert run.is_alive()


class FullDisk:
    """`os.write` for a disk with that many bytes left."""

    def __init__(self, monkeypatch, room_bytes: int) -> None:
        self.room_bytes = room_bytes
        self.real = os.write
        monkeypatch.setattr(run_folder.os, "write", self.write)

    def write(self, file: int, content: bytes) -> int:
        if not self.room_bytes:
            raise OSError(errno.ENOSPC, "No space left on device")
        fits = content[: self.room_bytes]
        self.room_bytes -= len(fits)
        return self.real(file, fits)


def step_done(step: int) -> StepDone:
    return StepDone(
        step=step,
        expert=Expert.HIGH,
        loss=0.5,
        timesteps=(900.0,),
        learning_rate=1e-4,
        grad_norm=1.0,
        seconds=1.0,
    )


def test_events_of_a_full_disk_wait_for_room_and_no_line_is_torn(tmp_path, monkeypatch):
    path = tmp_path / "events.jsonl"
    writer, reader = EventWriter(path), EventReader(path)
    disk = FullDisk(monkeypatch, room_bytes=30)
    writer.write(Warned(message="first"))
    writer.write(step_done(1))
    assert path.stat().st_size == 30
    assert reader.read_new() == []
    disk.room_bytes = 50
    assert not writer.catch_up()
    disk.room_bytes = 100_000
    said_at = time.time()
    writer.write(Warned(message="last"))
    events = reader.read_new()
    assert [getattr(event, "message", "step") for event in events] == ["first", "step", "last"]
    assert events[0].time <= said_at
    assert writer.catch_up()
    writer.close()


def test_of_the_steps_that_wait_only_the_newest_are_kept_and_the_rest_of_the_story_is_whole(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(run_folder, "MOST_ROUTINE_UNSAID", 3)
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)
    disk = FullDisk(monkeypatch, room_bytes=10)
    for step in range(1, 8):
        writer.write(step_done(step))
        if step == 2:
            writer.write(Warned(message="matters"))
    disk.room_bytes = 100_000
    writer.close()
    told = [getattr(event, "step", "matters") for event in EventReader(path).read_new()]
    # The first had begun to be written.
    assert told == [1, "matters", 5, 6, 7]


def test_a_torn_line_of_a_crash_on_a_full_disk_is_ended_when_there_is_room(tmp_path, monkeypatch):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event":"warn')
    disk = FullDisk(monkeypatch, room_bytes=0)
    writer = EventWriter(path)
    disk.room_bytes = 100_000
    writer.write(Warned(message="resumed"))
    writer.close()
    torn, warned = EventReader(path).read_new()
    assert isinstance(torn, UnknownEvent)
    assert warned.message == "resumed"


def test_another_failure_to_write_an_event_is_an_error(tmp_path):
    writer = EventWriter(tmp_path / "events.jsonl")
    writer.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        writer.write(Warned(message="late"))


def test_the_reserve_goes_with_the_writer(tmp_path):
    writer = EventWriter(tmp_path / "events.jsonl")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == run_folder.RESERVE_BYTES
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["events.jsonl"]


FILL_THE_DISK = """
import errno, sys
from pathlib import Path
from tests.trainer.protocol.test_run_folder import step_done
from trainer.protocol.events import Paused, Unpaused, Warned
from trainer.protocol.run_folder import EventReader, EventWriter

folder = Path(sys.argv[1])
writer, reader = EventWriter(folder / "events.jsonl"), EventReader(folder / "events.jsonl")

def fill():
    with (folder / "filler").open("ab", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError as error:
            assert error.errno == errno.ENOSPC

fill()
for step in range(1, 101):
    writer.write(step_done(step))
seen = reader.read_new()
assert len(seen) < 100
writer.write(Paused(step=100, reason="full"))
seen += reader.read_new()
print("told on a full disk:", type(seen[-1]).__name__, len(seen))
fill()
for step in range(101, 201):
    writer.write(step_done(step))
writer.write(Warned(message="still full"))
assert not writer.catch_up()
assert len(reader.read_new()) < 100
(folder / "filler").unlink()
writer.write(Unpaused(step=200))
print("held again:", (folder / ".events.jsonl.reserve").stat().st_size)
writer.close()
told = [getattr(event, "step", event) for event in EventReader(folder / "events.jsonl").read_new()]
assert told[:101] == [*range(1, 101), 100], told
assert told[101:201] == [*range(101, 201)]
assert told[201].message == "still full" and told[202] == 200 and len(told) == 203
"""


def test_a_pause_is_told_on_a_disk_that_is_really_full(tmp_path):
    told = run_on_a_small_disk(FILL_THE_DISK, tmp_path, size="1m")
    assert told.splitlines() == ["told on a full disk: Paused 101", f"held again: {run_folder.RESERVE_BYTES}"]


def test_a_pin_is_a_file_in_the_checkpoints_folder(tmp_path):
    run = RunFolder(tmp_path)
    with pytest.raises(FileNotFoundError):
        run.pin(5)
    run.checkpoint(5).mkdir(parents=True)
    assert not run.is_pinned(5)
    run.pin(5)
    run.pin(5)
    assert run.is_pinned(5)
    assert (run.checkpoint(5) / "pinned").read_bytes() == b""
    run.unpin(5)
    run.unpin(5)
    assert not run.is_pinned(5)
