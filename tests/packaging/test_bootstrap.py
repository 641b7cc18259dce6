"""The bootstrap's decisions and its way of running things; a whole install is the CI's first step."""

import importlib
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bootstrap():
    return importlib.import_module("bootstrap")


def start(*arguments, cwd=ROOT, **options):
    command = [sys.executable, ROOT / "packaging" / "bootstrap.py", *arguments]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False, **options
    )


def test_the_requirements_are_those_of_the_app_the_trainer_and_the_tests_each_once(bootstrap, tmp_path):
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text(
        '[project]\ndependencies = ["PySide6-Essentials>=6.8", "av>=15"]\n'
        '[project.optional-dependencies]\ntrain = ["torch>=2.8", "AV>=15"]\ndev = ["pytest>=8"]\nother = ["x"]\n'
    )

    requirements = bootstrap.read_requirements(pyproject)

    assert [bootstrap.project_name_of(one) for one in requirements] == [
        "pyside6-essentials",
        "av",
        "torch",
        "pytest",
    ]


def test_everything_that_the_project_names_is_pinned(bootstrap):
    constraints = bootstrap.CONSTRAINTS.read_text(encoding="utf-8")
    for requirement in bootstrap.read_requirements(bootstrap.PYPROJECT):
        assert bootstrap.pinned_version(constraints, bootstrap.project_name_of(requirement))


def test_a_pin_is_found_whatever_its_spelling_and_a_missing_one_is_named(bootstrap):
    constraints = "# torch==1.0\nPySide6_Essentials==6.12.0  # the app\ntorch==2.13.0\n"
    assert bootstrap.pinned_version(constraints, "pyside6-essentials") == "6.12.0"
    assert bootstrap.pinned_version(constraints, "torch") == "2.13.0"
    with pytest.raises(bootstrap.SetupError, match="pins no version of peft"):
        bootstrap.pinned_version(constraints, "peft")


def test_the_stamp_changes_with_the_requirements_the_pins_the_python_and_the_torch_build(bootstrap):
    given = (["av>=15", "numpy>=2"], "av==18\n", "3.11", "cpu")
    others = [
        (["av>=15", "numpy>=1"], "av==18\n", "3.11", "cpu"),
        (["av>=15", "numpy>=2"], "av==17\n", "3.11", "cpu"),
        (["av>=15", "numpy>=2"], "av==18\n", "3.12", "cpu"),
        (["av>=15", "numpy>=2"], "av==18\n", "3.11", "cu130"),
    ]
    assert bootstrap.stamp_for(*given) == bootstrap.stamp_for(*given)
    assert len({bootstrap.stamp_for(*one) for one in [given, *others]}) == 5


def test_an_environment_counts_as_installed_only_with_the_stamp_of_now(bootstrap, monkeypatch, tmp_path):
    for name in ("ENVIRONMENT", "STAMP"):
        monkeypatch.setattr(bootstrap, name, tmp_path / name)
    assert not bootstrap.is_installed(("cpu",))  # nothing there at all

    monkeypatch.setattr(bootstrap, "environment_version", lambda: "3.11")
    assert not bootstrap.is_installed(("cpu",))  # an interrupted install: no stamp

    constraints = bootstrap.CONSTRAINTS.read_text(encoding="utf-8")
    requirements = bootstrap.read_requirements(bootstrap.PYPROJECT)
    bootstrap.STAMP.write_text(bootstrap.stamp_for(requirements, constraints, "3.11", "cpu"))
    assert bootstrap.is_installed(("cpu",))
    assert not bootstrap.is_installed(("cu130", "cu126"))


def test_the_supported_pythons_are_those_of_the_project(bootstrap):
    requires = tomllib.loads(bootstrap.PYPROJECT.read_text(encoding="utf-8"))["project"]["requires-python"]
    oldest, newest = bootstrap.OLDEST_PYTHON, bootstrap.NEWEST_PYTHON
    assert requires == f">={oldest[0]}.{oldest[1]},<{newest[0]}.{newest[1] + 1}"
    assert [bootstrap.is_supported(one) for one in ((3, 10, 9), (3, 11, 0), (3, 13, 9), (3, 14, 0))] == [
        0,
        1,
        1,
        0,
    ]


def test_the_command_line_of_each_command(bootstrap):
    python = Path("python")
    app = ["python", "-P", "-m", "wan_studio"]
    make = bootstrap.child_command
    assert make(python, "test", ["-q"], can_show_window=True) == [
        "python",
        "-m",
        "pytest",
        *("-n", "2", "--dist", "loadfile"),
        "-q",
    ]
    assert make(python, "run", [], can_show_window=True) == app
    assert make(python, "demo", [], can_show_window=True) == [*app, "demo"]
    assert make(python, "train", ["--clips", "a b"], can_show_window=True) == [
        *app,
        "train",
        "--clips",
        "a b",
    ]
    assert make(python, "doctor", [], can_show_window=False) == [*app, "doctor"]
    assert make(python, "export", ["a run"], can_show_window=False) == [*app, "export", "a run"]
    # Without Qt's libraries Qt would abort the process: the same work goes on in the terminal.
    assert make(python, "demo", [], can_show_window=False) == [*app, "demo", "--headless"]
    assert make(python, "demo", ["--headless"], can_show_window=False) == [*app, "demo", "--headless"]


def test_a_wrong_command_is_a_sentence_and_exit_code_2():
    ended = start("tset")
    assert ended.returncode == 2
    assert (
        "no command 'tset'; choose one of demo, test, run, train, doctor, resume, stop, export"
        in ended.stderr
    )
    assert ended.stdout == ""


def test_help_says_what_each_command_does_and_no_command_is_an_error(bootstrap):
    ended = start("--help")
    assert ended.returncode == 0
    assert all(f" {command} " in ended.stdout for command in bootstrap.COMMANDS)
    assert start().returncode == 2


def test_the_child_runs_in_this_place_with_its_exit_code_and_its_own_folder(tmp_path):
    folder = tmp_path / "with space é"
    folder.mkdir()
    code = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1]); import bootstrap;"
        "bootstrap.hand_over([sys.executable, '-c', 'import os; print(os.getcwd()); raise SystemExit(7)'],"
        " pathlib.Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, ROOT / "packaging", folder]
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert ended.returncode == 7
    assert Path(ended.stdout.strip()) == folder


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT as a terminal does")
def test_ctrl_c_while_pip_works_ends_pip_and_this_with_exit_code_130(tmp_path):
    code = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1]); import bootstrap;"
        "folder = pathlib.Path(sys.argv[2]);"
        "bootstrap.prepare = lambda: bootstrap.run_logged("
        "[sys.executable, '-c', 'import time; print(\"started\", flush=True); time.sleep(60)'], folder / 'log');"
        "sys.exit(bootstrap.main(['doctor']))"
    )
    command = [sys.executable, "-c", code, ROOT / "packaging", tmp_path]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    log = tmp_path / "log"
    while not log.exists() or "\nstarted" not in log.read_text():
        time.sleep(0.02)

    os.killpg(child.pid, signal.SIGINT)

    assert child.wait(timeout=10) == 130
    assert "Stopped. The next start goes on from here." in child.stderr.read()
    with pytest.raises(ProcessLookupError):  # nobody of the group is left
        os.killpg(child.pid, 0)


def test_the_checkout_is_importable_through_a_path_relative_to_the_environment(
    bootstrap, monkeypatch, tmp_path
):
    root = tmp_path / "chéckout 雪"
    packages = root / ".venv" / ("Lib" if os.name == "nt" else "lib/python3.11") / "site-packages"
    packages.mkdir(parents=True)
    monkeypatch.setattr(bootstrap, "ROOT", root)
    monkeypatch.setattr(bootstrap, "ENVIRONMENT", root / ".venv")

    bootstrap.make_importable("3.11")

    (written,) = packages.glob("*.pth")
    line = written.read_text(
        encoding="ascii"
    ).strip()  # site reads it in the locale's encoding, whichever that is
    assert (packages / line).resolve() == root.resolve()


def test_a_second_start_waits_until_the_first_has_installed(bootstrap, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    code = (
        "import sys, pathlib, time; sys.path.insert(0, sys.argv[1]); import bootstrap;"
        "bootstrap.ROOT = pathlib.Path(sys.argv[2])\n"
        "with bootstrap.install_lock(): print('held', flush=True); time.sleep(0.7)"
    )
    command = [sys.executable, "-c", code, ROOT / "packaging", tmp_path]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    began = time.monotonic()

    with bootstrap.install_lock():
        waited_seconds = time.monotonic() - began

    assert other.wait() == 0
    assert waited_seconds > 0.4
    assert "waiting for it" in capsys.readouterr().err


def test_pip_can_be_had_from_one_file_where_this_python_has_none(bootstrap, monkeypatch, tmp_path):
    monkeypatch.setattr(bootstrap, "ENVIRONMENT", tmp_path)
    monkeypatch.setattr(bootstrap, "LOG", tmp_path / "log")
    served = tmp_path / "served.py"
    served.write_text("import sys; print('asked to', sys.argv[1:])")

    assert bootstrap.install_pip_from(served.as_uri(), Path(sys.executable))
    assert "asked to ['install', '--no-input', 'pip']" in bootstrap.LOG.read_text()
    assert not bootstrap.install_pip_from((tmp_path / "absent").as_uri(), Path(sys.executable))
