import os
import subprocess
import sys
from pathlib import Path

import pytest

from wan_studio.services import trainer_runtime
from wan_studio.services.trainer_runtime import (
    TrainerMissingError,
    find_trainer_python,
    managed_trainer_python,
    trainer_command,
    trainer_environment,
)


def test_this_interpreter_trains_when_it_has_torch(home):
    assert find_trainer_python() == Path(sys.executable)


def test_without_torch_the_managed_environment_is_taken_or_missed_in_a_sentence(home, monkeypatch):
    monkeypatch.setattr(trainer_runtime.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TrainerMissingError) as raised:
        find_trainer_python()
    assert sys.executable in raised.value.message
    assert str(home) in raised.value.message
    assert "bootstrap.py" in raised.value.hint
    managed_trainer_python().parent.mkdir(parents=True)
    managed_trainer_python().touch()
    assert find_trainer_python() == managed_trainer_python()


def test_an_interpreter_that_was_chosen_must_exist(home, tmp_path, monkeypatch):
    monkeypatch.setenv("WAN_STUDIO_TRAINER_PYTHON", str(tmp_path / "python"))
    with pytest.raises(TrainerMissingError):
        find_trainer_python()
    (tmp_path / "python").touch()
    assert find_trainer_python() == tmp_path / "python"


def test_the_trainer_package_is_found_from_any_folder(tmp_path):
    """Also where a folder of that name lies about."""
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "__init__.py").write_text("raise SystemExit(9)")
    python, *flags = trainer_command()[:2]
    code = "import trainer.protocol, sys; sys.exit('torch' in sys.modules)"
    result = subprocess.run(
        [python, *flags, "-c", code], cwd=tmp_path, env=trainer_environment(), check=False
    )
    assert result.returncode == 0


def test_the_environment_keeps_what_is_there_but_qt(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    environment = trainer_environment()
    assert "elsewhere" in environment["PYTHONPATH"].split(os.pathsep)
    assert "QT_QPA_PLATFORM" not in environment
    assert environment["PATH"] == os.environ["PATH"]
