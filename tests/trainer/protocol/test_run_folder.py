"""The run folder: events that survive tearing, commands that arrive whole, a lock that cannot lie."""

import subprocess
import sys
import time

import pytest

from trainer.protocol.commands import SetLearningRate, Stop
from trainer.protocol.events import Hello, RunFinished, UnknownEvent, Warned
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
