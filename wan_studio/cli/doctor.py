"""`doctor`: what this machine has and lacks for Wan Studio, and what to do about it."""

import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from wan_studio import __version__
from wan_studio.cli.console import EXIT_DONE, EXIT_FAILED, say
from wan_studio.cli.display import display_problem
from wan_studio.cli.doctor_hardware import hardware_findings
from wan_studio.cli.finding import Finding, Verdict
from wan_studio.domain.hardware import DiskUse
from wan_studio.paths import default_projects_folder, model_downloads_folder, resource, user_data_folder
from wan_studio.services.hardware_probe import HardwareProbe
from wan_studio.services.trainer_runtime import TrainerMissingError, find_trainer_python

_APP_PACKAGES = ("PySide6-Essentials", "pyqtgraph", "av", "numpy", "msgspec")
_TRAINER_PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "accelerate",
    "bitsandbytes",
    "safetensors",
    "ftfy",
)
_QT_LIBRARIES = (
    "libEGL.so.1",
    "libGL.so.1",
    "libxkbcommon.so.0",
    "libxkbcommon-x11.so.0",
    "libxcb-cursor.so.0",
    "libxcb-icccm.so.4",
    "libxcb-keysyms.so.1",
    "libfontconfig.so.1",
    "libdbus-1.so.3",
)
_INSTALL = "Install what is missing with: python3 packaging/bootstrap.py run"


def run_doctor() -> int:
    """Print the findings; returns 0 when training is possible on this machine, else 1."""
    findings = list(examine())
    for finding in findings:
        say(f"{finding.verdict.value:<8} {finding.topic}: {finding.text}")
        if finding.hint:
            say(f"{'':<8} {finding.hint}")
    if any(finding.stops_training for finding in findings):
        say("Training is not possible on this machine yet.")
        return EXIT_FAILED
    say("Training is possible on this machine.")
    return EXIT_DONE


def examine() -> Iterator[Finding]:
    """All findings, one after the other; none of them loads torch or Qt."""
    yield Finding("Wan Studio", Verdict.OK, f"{__version__} on {platform.system()} {platform.release()}")
    yield _python()
    yield _packages("App packages", _APP_PACKAGES, stops_training=False)
    yield _packages("Trainer packages", _TRAINER_PACKAGES, stops_training=True)
    yield _trainer()
    yield _shipped_files()
    projects = default_projects_folder()
    folders = {
        DiskUse.RUNS: projects,
        DiskUse.CACHE: projects,
        DiskUse.MODELS: model_downloads_folder(),
    }
    yield from hardware_findings(HardwareProbe().snapshot(folders))
    yield _writable("Data folder", user_data_folder())
    yield _writable("Projects folder", default_projects_folder())
    yield from _window()


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] < (3, 14):
        return Finding("Python", Verdict.OK, f"{version} ({sys.executable})")
    return Finding("Python", Verdict.WARNING, f"{version} is not one of 3.11, 3.12 and 3.13.", _INSTALL)


def _packages(topic: str, names: tuple[str, ...], *, stops_training: bool) -> Finding:
    found: list[str] = []
    missing: list[str] = []
    for name in names:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if not missing:
        return Finding(topic, Verdict.OK, ", ".join(found))
    text = f"missing: {', '.join(missing)}"
    # The trainer may have an environment of its own; then ours need not have its packages.
    if stops_training and importlib.util.find_spec("torch") is None and _has_trainer():
        return Finding(topic, Verdict.OK, "in the trainer's own environment")
    return Finding(topic, Verdict.PROBLEM, text, _INSTALL, stops_training)


def _trainer() -> Finding:
    try:
        return Finding("Trainer", Verdict.OK, f"runs with {find_trainer_python()}")
    except TrainerMissingError as error:
        return Finding("Trainer", Verdict.PROBLEM, error.message, error.hint, stops_training=True)


def _has_trainer() -> bool:
    try:
        find_trainer_python()
    except TrainerMissingError:
        return False
    return True


def _shipped_files() -> Finding:
    missing: list[str] = []
    for relative in ("presets/motion.toml", "miniature/model_index.json"):
        try:
            resource(relative)
        except FileNotFoundError:
            missing.append(relative)
    if missing:
        return Finding(
            "Shipped files",
            Verdict.PROBLEM,
            f"missing: {', '.join(missing)}",
            "Install Wan Studio again.",
            stops_training=True,
        )
    return Finding("Shipped files", Verdict.OK, "presets and the miniature model are there")


def _writable(topic: str, folder: Path) -> Finding:
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            return Finding(topic, Verdict.OK, f"{folder} can be written")
    except OSError as error:
        return Finding(
            topic,
            Verdict.PROBLEM,
            f"{folder} cannot be written ({error.strerror or error}).",
            "Set WAN_STUDIO_HOME to a folder that can, or mend the permissions.",
        )


def _window() -> Iterator[Finding]:
    problem = display_problem()
    if problem:
        yield Finding(
            "Display", Verdict.WARNING, problem, "Commands work without one: wan-studio train --headless"
        )
    else:
        yield Finding("Display", Verdict.OK, "there is one")
    if not sys.platform.startswith("linux"):
        return
    missing = [name for name in _QT_LIBRARIES if not _loads(name)]
    if missing:
        yield Finding(
            "Window libraries",
            Verdict.WARNING,
            f"not found: {', '.join(missing)}",
            "Install them with: python3 packaging/bootstrap.py run",
        )
    else:
        yield Finding("Window libraries", Verdict.OK, "all of Qt's are there")
    yield _fonts()


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _fonts() -> Finding:
    folders = [Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path.home() / ".local/share/fonts"]
    has_fonts = any(
        name.endswith((".ttf", ".otf", ".ttc"))
        for folder in folders
        for _, _, names in os.walk(folder)
        for name in names
    )
    if has_fonts:
        return Finding("Fonts", Verdict.OK, "there are some")
    return Finding(
        "Fonts", Verdict.WARNING, "none was found.", "Install one, e.g. sudo apt install fonts-dejavu-core"
    )
