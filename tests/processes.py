"""Real trainer processes for tests, on the CPU and one thread each."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from trainer.protocol.events import StepDone
from trainer.protocol.run_folder import EventReader, RunFolder

ROOT = Path(__file__).parents[1]
SECONDS = 240


def trainer(*arguments: object) -> subprocess.Popen:
    """`python -m` with these arguments."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def go(*arguments: object, code: int = 0) -> str:
    """The same to its end; returns what it printed."""
    process = trainer(*arguments)
    words, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == code, words
    return words


def wait_for(process: subprocess.Popen, what: Callable[[], bool]) -> None:
    """Until it is so; the process must not end before."""
    deadline = time.monotonic() + SECONDS
    while not what():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def events_of(run: RunFolder) -> list:
    return EventReader(run.events_file).read_new()


def steps_of(run: RunFolder) -> list[StepDone]:
    return [event for event in events_of(run) if isinstance(event, StepDone)]
