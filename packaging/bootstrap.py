"""One door for a fresh checkout: makes `.venv`, installs the pinned packages, then starts what was asked for.

    python3 packaging/bootstrap.py demo        the whole way, from made-up clips to a verified LoRA pair
    python3 packaging/bootstrap.py test        the tests; further arguments go to pytest
    python3 packaging/bootstrap.py run         the window
    python3 packaging/bootstrap.py train ...   a training run by command
    python3 packaging/bootstrap.py doctor      what this machine has and lacks
    python3 packaging/bootstrap.py resume RUN | stop RUN | export RUN
    python3 packaging/bootstrap.py export-dataset ...  clips and captions for another trainer

Standard library only, Linux and Windows. The first start takes minutes, every later one a moment: a
stamp in `.venv` says what was installed, and only a change of the pins, of the Python or of the
graphics driver installs again. What is said here goes to stderr, so that stdout is the command's own.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bootstrap_console import SetupError, failure_text, run_logged, say
from bootstrap_system import apt_install, has_qt_libraries, may_use_apt
from bootstrap_torch import (
    choose_torch,
    cuda_driver_version,
    find_pytorch_index,
    parse_versions,
    torch_builds,
)

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
STAMP = ENVIRONMENT / "installed.stamp"
LOG = ENVIRONMENT / "install.log"
PYPROJECT = ROOT / "pyproject.toml"
CONSTRAINTS = ROOT / "packaging" / "constraints.txt"

COMMANDS = ("demo", "test", "run", "train", "doctor", "resume", "stop", "export", "export-dataset")
WITH_WINDOW_OR_WITHOUT = ("demo", "train")
EXTRAS = ("train", "dev")
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
PIP_ZIPAPP = "https://bootstrap.pypa.io/pip/pip.pyz"
FETCH_SECONDS = 20


# --- What is to be installed ------------------------------------------------------------------------------


def is_supported(version: Sequence[int]) -> bool:
    """Whether the project runs on that Python (major, minor, ...)."""
    return OLDEST_PYTHON <= tuple(version[:2]) <= NEWEST_PYTHON


def project_name_of(requirement: str) -> str:
    """The normalised project name in a requirement or pin: `PySide6_Essentials==6` gives `pyside6-essentials`."""
    name = re.match(r"\s*([A-Za-z0-9._-]+)", requirement)
    return re.sub(r"[-_.]+", "-", name[1]).lower() if name else ""


def read_requirements(pyproject: Path) -> list[str]:
    """The app's dependencies and those of the extras, each once, in the order of the file."""
    import tomllib  # not at the top: absent before Python 3.11, where this file must still run to say so

    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    listed = [
        *project["dependencies"],
        *(one for extra in EXTRAS for one in project["optional-dependencies"][extra]),
    ]
    return list({project_name_of(requirement): requirement for requirement in listed}.values())


def pinned_version(constraints: str, name: str) -> str:
    """The version that the constraints pin for a project.

    Raises:
        SetupError: Without such a pin.
    """
    for line in constraints.splitlines():
        pin = line.split("#")[0].strip()
        if "==" in pin and project_name_of(pin) == name:
            return pin.split("==")[1].strip()
    raise SetupError(f"{CONSTRAINTS} pins no version of {name}. Add a line such as {name}==1.2.3.")


def stamp_for(requirements: Sequence[str], constraints: str, python_version: str, torch_build: str) -> str:
    """A fingerprint of everything that decides what is installed."""
    parts = [*requirements, constraints, python_version, torch_build, sys.platform]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def is_installed(builds: Sequence[str]) -> bool:
    """Whether the environment's stamp is that of the pins, the Python and the driver of now."""
    version = environment_version()
    if not version or not STAMP.exists():
        return False
    constraints = CONSTRAINTS.read_text(encoding="utf-8")
    wanted = stamp_for(read_requirements(PYPROJECT), constraints, version, builds[0])
    return STAMP.read_text(encoding="utf-8").strip() == wanted


# --- The environment --------------------------------------------------------------------------------------


def environment_python() -> Path:
    """The environment's interpreter, there or not."""
    return ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def environment_version() -> str:
    """`3.11` of an environment that starts and that the project supports; empty otherwise."""
    return supported_version(environment_python())


def supported_version(python: str | Path) -> str:
    """`3.11` of an interpreter that starts and that the project supports; empty otherwise."""
    try:
        printed = _output_of([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).strip()
    except OSError:
        return ""
    return printed if printed and is_supported([int(number) for number in printed.split(".")]) else ""


def _output_of(command: Sequence[str | Path]) -> str:
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", check=False
    ).stdout


@contextmanager
def install_lock() -> Iterator[None]:
    """Held while installing, so that two starts at once do not write over each other."""
    with (ROOT / ".venv.lock").open("a+b") as file:
        if not _try_lock(file.fileno()):
            say("Another start is installing; waiting for it ...")
            while not _try_lock(file.fileno()):
                time.sleep(0.5)
        yield  # closing the file frees the lock, and so does the end of the process


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def prepare() -> Path:
    """The interpreter of an environment that holds all pins; installs what is missing.

    Raises:
        SetupError: Where that cannot be had.
    """
    driver_version = cuda_driver_version()
    builds = torch_builds(driver_version)
    if is_installed(builds):
        return environment_python()
    try:
        with install_lock():
            if not is_installed(builds):
                if driver_version is not None and builds == ("cpu",):
                    say("The NVIDIA driver is too old for PyTorch; update it to train on the graphics card.")
                install(builds)
    except OSError as error:
        raise SetupError(
            f"Could not set up {ENVIRONMENT}: {error}. See that the folder may be written to."
        ) from error
    return environment_python()


def install(builds: Sequence[str]) -> None:
    """Makes the environment where it is missing or broken, and fills it; goes on with an interrupted one."""
    gigabytes = 2 if builds[0] == "cpu" else 9
    say(f"Setting up Wan Studio in {ENVIRONMENT} (only this once; about {gigabytes} GB of disk) ...")
    began = time.monotonic()
    python = make_environment()
    constraints = CONSTRAINTS.read_text(encoding="utf-8")
    requirements = read_requirements(PYPROJECT)
    install_torch(python, pinned_version(constraints, "torch"), builds)
    others = [requirement for requirement in requirements if project_name_of(requirement) != "torch"]
    say(f"Installing the app, the trainer and the test tools ({len(others)} packages and what they need) ...")
    pip_install(python, others)
    version = environment_version()
    make_importable(version)
    STAMP.write_text(stamp_for(requirements, constraints, version, builds[0]), encoding="utf-8")
    say(f"Set up in {time.monotonic() - began:.0f} s.")


def make_environment() -> Path:
    """An environment with pip in it, also where Debian's python3-venv is missing; returns its interpreter.

    Raises:
        SetupError: With the command to run by hand, where no way works.
    """
    is_new = not environment_version()
    if is_new and ENVIRONMENT.exists():
        shutil.rmtree(ENVIRONMENT)
    ENVIRONMENT.mkdir(exist_ok=True)
    STAMP.unlink(missing_ok=True)
    LOG.write_text("", encoding="utf-8")
    python = environment_python()
    if (is_new and not make_bare_environment()) or not (pip_version(python) > (0,) or install_pip(python)):
        package = debian_venv_package()
        advice = (
            f"Run this, then start again:\n    sudo apt-get install {package}"
            if package
            else "Reinstall Python."
        )
        raise SetupError(
            f"This Python ({sys.executable}) cannot make an environment with pip; see {LOG}. {advice}"
        )
    if pip_version(python) < (24, 1):  # older ones cannot tell how far a download is
        run_logged([python, "-m", "pip", "install", "--no-input", "-c", CONSTRAINTS, "--upgrade", "pip"], LOG)
    return python


def make_bare_environment() -> bool:
    """Runs venv without pip, which works without python3-venv; the bare python3-minimal lacks even that."""
    command = [sys.executable, "-m", "venv", "--without-pip", ENVIRONMENT]
    return run_logged(command, LOG) == 0 or (apt_install_venv() and run_logged(command, LOG) == 0)


def install_pip(python: Path) -> bool:
    """Tries one way after the other: Python's own pip, this Python's, Debian's, a downloaded one."""
    bundled = [python, "-m", "ensurepip", "--default-pip"]
    if run_logged(bundled, LOG) == 0:
        return True
    if (
        run_logged([sys.executable, "-m", "pip", "--python", python, "install", "--no-input", "pip"], LOG)
        == 0
    ):
        return True
    return (apt_install_venv() and run_logged(bundled, LOG) == 0) or install_pip_from(PIP_ZIPAPP, python)


def debian_venv_package() -> str:
    """Name of the package that brings venv and pip for this Python; empty where it is not the system's."""
    is_systems = sys.base_prefix == "/usr" and shutil.which("apt-get") is not None
    return f"python{sys.version_info[0]}.{sys.version_info[1]}-venv" if is_systems else ""


def apt_install_venv() -> bool:
    """Installs that package where it may."""
    package = debian_venv_package()
    if not package or not may_use_apt():
        return False
    say(f"This Python lacks parts; installing {package} ...")
    return apt_install([package], LOG)


def install_pip_from(url: str, python: Path) -> bool:
    """Fetches pip as a single file, which then installs itself; False where that fails."""
    zipapp = ENVIRONMENT / "pip.pyz"
    try:
        with urllib.request.urlopen(url, timeout=FETCH_SECONDS) as answer:
            zipapp.write_bytes(answer.read())
    except (OSError, http.client.HTTPException) as error:
        say(f"Could not fetch pip from {url}: {error}")
        return False
    return run_logged([python, zipapp, "install", "--no-input", "pip"], LOG) == 0


def pip_version(python: Path) -> tuple[int, ...]:
    """Version of the environment's pip, such as (24, 1); (0,) where it has none."""
    printed = _output_of([python, "-c", "import pip; print(pip.__version__)"])
    return tuple(int(number) for number in re.findall(r"\d+", printed)[:2]) or (0,)


def pip_install(python: Path, requirements: Sequence[str], *, extra_index: str = "") -> None:
    """Installs into the environment under the constraints; pip's own configuration stays in force.

    Raises:
        SetupError: With the log's tail and what to do, where pip fails.
    """
    command = [python, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "-c", CONSTRAINTS]
    command += ["--progress-bar", "raw" if pip_version(python) >= (24, 1) else "off"]
    command += ["--extra-index-url", extra_index] if extra_index else []
    began_at = LOG.stat().st_size
    if run_logged([*command, *requirements], LOG) != 0:
        printed = LOG.read_bytes()[began_at:].decode("utf-8", "replace")
        raise SetupError(failure_text(printed, LOG))


def install_torch(python: Path, version: str, builds: Sequence[str]) -> None:
    """Installs the right build first: later, a looser pin would bring the newest one with gigabytes of CUDA."""
    command = [python, "-m", "pip", "index", "versions", "torch", "--disable-pip-version-check"]
    offered = parse_versions(_output_of(command))
    index = ""
    if f"{version}+{builds[0]}" not in offered:
        found = find_pytorch_index(version, builds)
        if found:
            offered.append(f"{version}+{found[0]}")
            index = found[1]
        else:
            say("PyTorch's own package index does not answer; using the indexes that pip is set up with.")
    requirement, sentence = choose_torch(version, builds, offered, is_linux=sys.platform == "linux")
    say(sentence)
    pip_install(python, [requirement], extra_index=index)


def make_importable(python_version: str) -> None:
    """Lets the environment import this checkout from any folder.

    The path is relative to site-packages: it stays right when the project is moved, whatever letters its name has.
    """
    library = "Lib" if os.name == "nt" else f"lib/python{python_version}"
    packages = ENVIRONMENT / library / "site-packages"
    (packages / "wan_studio_checkout.pth").write_text(
        os.path.relpath(ROOT, packages) + "\n", encoding="ascii"
    )


# --- Handing over -----------------------------------------------------------------------------------------


def child_command(
    python: Path, command: str, arguments: Sequence[str], *, can_show_window: bool
) -> list[str]:
    """The command line that does the work."""
    if command == "test":
        # Two processes, whose files stay together: made once for a file, such as a trained run, serves all its tests.
        return [str(python), "-m", "pytest", "-n", "2", "--dist", "loadfile", *arguments]
    # -P: started in a folder with a random.py in it, Python must not import that one.
    app = [str(python), "-P", "-m", "wan_studio"]
    if command == "run":
        return [*app, *arguments]
    is_changed = command in WITH_WINDOW_OR_WITHOUT and not can_show_window and "--headless" not in arguments
    return [*app, command, *arguments, *(["--headless"] if is_changed else [])]


def hand_over(command: Sequence[str], folder: Path) -> int:
    """Runs the command in this process's place: its exit code, signals and Ctrl+C are its own."""
    sys.stderr.flush()
    os.chdir(folder)
    if os.name != "nt":
        os.execv(command[0], command)
    child = subprocess.Popen(command)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:  # Windows sent it to the child as well, which ends in its own time
            continue


def start_with_other_python(arguments: Sequence[str]) -> int:
    """Starts this file again with a Python that the project supports."""
    for minor in (12, 13, 11):
        other = shutil.which(f"python3.{minor}")
        if other and supported_version(other):  # a version manager's stand-in is there, but does not start
            return hand_over([other, str(Path(__file__).resolve()), *arguments], Path.cwd())
    found = "{}.{}".format(*sys.version_info[:2])
    say(
        f"Wan Studio needs Python 3.11, 3.12 or 3.13; this is {found}. Install one and start this file with it."
    )
    return 1


def main(arguments: Sequence[str]) -> int:
    """Prepares the environment and starts the command; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    command, *others = arguments
    if command not in COMMANDS:
        say(f"There is no command {command!r}; choose one of {', '.join(COMMANDS)}.")
        return 2
    if not is_supported(sys.version_info):
        return start_with_other_python(arguments)
    try:
        python = prepare()
        needs_qt = command in ("run", "test", *WITH_WINDOW_OR_WITHOUT) and "--headless" not in others
        can_show_window = not needs_qt or has_qt_libraries(LOG)
        if command == "run" and not can_show_window:
            return 1
        folder = ROOT if command == "test" else Path.cwd()
        return hand_over(child_command(python, command, others, can_show_window=can_show_window), folder)
    except SetupError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("\nStopped. The next start goes on from here.")
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
