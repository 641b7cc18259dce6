"""What import-linter cannot see: what a fresh interpreter has really loaded."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TRAINING_STACK = {"torch", "diffusers", "transformers", "peft", "accelerate", "bitsandbytes", "optimum"}
QT = {"PySide6", "shiboken6"}


def loaded_by(module):
    """Top-level names in sys.modules after importing a module in a fresh interpreter."""
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def modules_below(package):
    folder = ROOT / package.replace(".", "/")
    return sorted(f"{package}.{path.stem}" for path in folder.glob("*.py") if not path.stem.startswith("__"))


@pytest.mark.skipif(not (ROOT / "wan_studio" / "app.py").exists(), reason="there is no window yet")
def test_the_window_starts_without_the_training_stack():
    names = loaded_by("wan_studio.app")
    assert not names & TRAINING_STACK
    assert "PySide6" in names


@pytest.mark.skipif(importlib.util.find_spec("wan_studio.cli") is None, reason="there is no command line yet")
def test_the_command_line_starts_without_the_training_stack_and_without_qt():
    assert not loaded_by("wan_studio.cli") & (TRAINING_STACK | QT)


def test_the_contract_loads_nothing_but_msgspec():
    names = loaded_by(", ".join(modules_below("trainer.protocol")))
    assert not names & (TRAINING_STACK | QT | {"numpy", "av", "psutil", "wan_studio"})
    assert "msgspec" in names


def test_importing_the_domain_loads_neither_qt_nor_media_libraries():
    assert not loaded_by(", ".join(modules_below("wan_studio.domain"))) & (
        TRAINING_STACK | QT | {"av", "numpy"}
    )


@pytest.mark.skipif(not modules_below("wan_studio.services"), reason="there are no services yet")
def test_importing_the_services_loads_no_qt_and_no_training_stack():
    assert not loaded_by(", ".join(modules_below("wan_studio.services"))) & (TRAINING_STACK | QT)
