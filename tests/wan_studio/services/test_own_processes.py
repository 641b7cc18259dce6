"""Whose a process on the GPU is, with real processes."""

import os
import subprocess
import sys

import psutil
import pytest

from trainer.protocol.run_folder import RunFolder
from trainer.protocol.wire import write_json
from wan_studio.services.own_processes import OwnProcesses
from wan_studio.services.run_process import ProcessRecord

# Starts a child of its own, as a trainer on several GPUs does, tells its number and waits.
PARENT = (
    "import subprocess, sys; "
    "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=sys.stdin); "
    "print(child.pid, flush=True); child.wait()"
)


@pytest.fixture
def family():
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    )
    child = int(parent.stdout.readline())
    yield parent.pid, child
    parent.stdin.write("\n")
    parent.stdin.close()
    parent.wait(timeout=10)
    parent.stdout.close()


def test_a_trainers_children_are_its_own_and_others_are_not(tmp_path, family):
    parent, child = family
    run = RunFolder(tmp_path)
    created = psutil.Process(parent).create_time()
    write_json(tmp_path / "process.json", ProcessRecord(pid=parent, created=created, started=created))
    own = OwnProcesses()
    for _ in range(2):
        assert own.among({child, os.getpid(), 2**31 - 2}, run) == {parent, child}


def test_a_run_without_a_process_owns_nothing(tmp_path):
    assert OwnProcesses().among({os.getpid()}, RunFolder(tmp_path)) == frozenset()
