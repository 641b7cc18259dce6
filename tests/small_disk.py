"""A real disk of a few kilobytes, in a process of its own, for tests of what happens when it is full."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MOUNT = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && shift 2 && exec "$@"'


def run_on_a_small_disk(script: str, folder: Path, size: str) -> str:
    """Run a Python script whose first argument is a folder on a disk of that size; returns its output.

    The mount is seen by that process alone and goes with it. Skips where mounting is not allowed.
    """
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("there is no unshare here")
    alone = [unshare, "--mount", "--map-root-user", "sh", "-c", MOUNT, "sh", size, str(folder)]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [*alone, sys.executable, "-c", script, str(folder)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
