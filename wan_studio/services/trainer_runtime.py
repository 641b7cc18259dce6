"""Which Python trains, and how the trainer is called."""

import importlib.util
import os
import sys
from pathlib import Path

import trainer.protocol
from wan_studio.errors import AppError
from wan_studio.paths import user_data_folder


class TrainerMissingError(AppError):
    """There is no Python with torch to train with."""

    def __init__(self, looked_at: list[Path]) -> None:
        places = " or ".join(str(path) for path in looked_at)
        super().__init__(
            f"The trainer is not installed: torch was not found in {places}.",
            "Install it with: python3 packaging/bootstrap.py run",
        )


def managed_trainer_python() -> Path:
    """The interpreter of the trainer's own environment, whether it is there or not."""
    folder = user_data_folder() / "trainer-env"
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def find_trainer_python() -> Path:
    """The interpreter that trains; torch is looked for, never imported.

    In this order: `WAN_STUDIO_TRAINER_PYTHON`, this interpreter when it has torch, the managed
    environment's.

    Raises:
        TrainerMissingError: there is none.
    """
    chosen = os.environ.get("WAN_STUDIO_TRAINER_PYTHON")
    if chosen:
        if not Path(chosen).is_file():
            raise TrainerMissingError([Path(chosen)])
        return Path(chosen)
    looked_at: list[Path] = []
    # In a frozen app the executable is the app itself.
    if not getattr(sys, "frozen", False):
        if importlib.util.find_spec("torch") is not None:
            return Path(sys.executable)
        looked_at.append(Path(sys.executable))
    managed = managed_trainer_python()
    if managed.is_file():
        return managed
    raise TrainerMissingError([*looked_at, managed])


def trainer_command(*arguments: str) -> list[str]:
    """The command line that runs the trainer with these arguments.

    Raises:
        TrainerMissingError: no interpreter has torch.
    """
    # -P: a folder named "trainer" where the command happens to run must not be taken for ours.
    return [str(find_trainer_python()), "-P", "-m", "trainer", *arguments]


def trainer_environment() -> dict[str, str]:
    """The environment for a trainer process: finds the `trainer` package, knows nothing of Qt."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QT_")}
    environment["PYTHONUNBUFFERED"] = "1"
    environment["PYTHONIOENCODING"] = "utf-8"
    if getattr(sys, "frozen", False):
        # The frozen app's libraries must not reach another Python.
        for name in ("LD_LIBRARY_PATH", "PYTHONHOME"):
            original = environment.pop(f"{name}_ORIG", None)
            environment.pop(name, None)
            if original:
                environment[name] = original
    root = Path(next(iter(trainer.protocol.__path__))).parent.parent
    # An installed package is found by itself, and its neighbours must not leak into another environment.
    if root.name not in {"site-packages", "dist-packages"}:
        others = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{root}{os.pathsep}{others}" if others else str(root)
    return environment
