"""Qt's system libraries: found by loading them, named by their Debian package."""

import importlib
import sys

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux takes Qt's libraries from the system"
)


@pytest.fixture
def system():
    return importlib.import_module("bootstrap_system")


def test_a_library_that_does_not_load_is_named_with_its_package(system):
    table = {
        "libc6": ("libc.so.6",),
        "libnone1": ("libc.so.6", "libnone-at-all.so.1"),
        "libgone2": ("libgone.so.2",),
    }
    assert system.missing_libraries(table) == {"libnone-at-all.so.1": "libnone1", "libgone.so.2": "libgone2"}


def test_without_rights_the_exact_command_is_said(system, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(
        system,
        "missing_libraries",
        lambda: {"libxcb-cursor.so.0": "libxcb-cursor0", "libEGL.so.1": "libegl1"},
    )
    monkeypatch.setattr(system, "may_use_apt", lambda: False)
    monkeypatch.setattr(system.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert not system.has_qt_libraries(tmp_path / "log")
    said = capsys.readouterr().err
    assert "libxcb-cursor.so.0, libEGL.so.1" in said
    assert "    sudo apt-get install libegl1 libxcb-cursor0\n" in said


def test_with_rights_the_missing_packages_are_installed_and_looked_at_again(system, monkeypatch, tmp_path):
    missing = {"libEGL.so.1": "libegl1"}
    asked_for = []

    def apt_install(packages, log_file):
        asked_for.extend(packages)
        missing.clear()
        return True

    monkeypatch.setattr(system, "missing_libraries", lambda: dict(missing))
    monkeypatch.setattr(system, "may_use_apt", lambda: True)
    monkeypatch.setattr(system, "apt_install", apt_install)
    assert system.has_qt_libraries(tmp_path / "log")
    assert asked_for == ["libegl1"]


def test_nothing_is_said_or_installed_where_all_is_there(system, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(system, "missing_libraries", dict)
    assert system.has_qt_libraries(tmp_path / "log")
    assert capsys.readouterr().err == ""
    assert not (tmp_path / "log").exists()
