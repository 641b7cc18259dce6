"""What the app's tests share: a home of their own, and a trainer that only speaks."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wan_studio.domain.hardware import HardwareSnapshot, MachineState
from wan_studio.services import fallback

STAND_IN = Path(__file__).with_name("stand_in_trainer.py")
STAND_IN_CAPTIONER = Path(__file__).with_name("stand_in_captioner.py")


@pytest.fixture(autouse=True)
def collected_between_tests() -> Iterator[None]:
    """Python collects no garbage within a test: a worker would delete the window's objects on its thread.

    The app has `wan_studio.bridge.garbage` for that.
    """
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """The user's folders, in the test's own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("WAN_STUDIO_HOME", str(folder))
    return folder


@pytest.fixture
def machine_without_gpu(monkeypatch) -> None:
    """Plans are made for a machine without a GPU, whatever this one has."""
    machine = HardwareSnapshot((), 2**34, 2**33, state=MachineState.NO_DRIVER)
    monkeypatch.setattr(fallback, "look_at_gpus", lambda: machine)


@pytest.fixture
def stand_in_trainer(tmp_path, monkeypatch) -> None:
    """Every trainer that is started is the stand-in."""
    use_trainer(monkeypatch, tmp_path, STAND_IN)


def use_trainer(monkeypatch, folder: Path, script: Path) -> None:
    """Every trainer that is started is this script."""
    if os.name == "nt":
        launcher = folder / "stand_in.cmd"
        launcher.write_text(f'@"{sys.executable}" "{script}" %*\n')
    else:
        launcher = folder / "stand_in.sh"
        launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
        launcher.chmod(0o755)
    monkeypatch.setenv("WAN_STUDIO_TRAINER_PYTHON", str(launcher))
