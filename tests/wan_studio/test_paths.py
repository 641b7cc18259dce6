import sys
from pathlib import Path

import pytest

from wan_studio import paths


def test_shipped_files_are_found_in_the_source_layout():
    assert paths.resource("presets/motion.toml").is_file()
    assert paths.resource("presets").is_dir()


def test_a_missing_shipped_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"presets/gone\.toml"):
        paths.resource("presets/gone.toml")


def test_the_override_and_the_frozen_layout_come_first(tmp_path, monkeypatch):
    frozen, override = tmp_path / "frozen" / "resources", tmp_path / "override"
    for folder in (frozen, override):
        folder.mkdir(parents=True)
        (folder / "x.txt").touch()
    monkeypatch.setattr(sys, "_MEIPASS", str(frozen.parent), raising=False)
    assert paths.resource("x.txt") == frozen / "x.txt"
    monkeypatch.setenv("WAN_STUDIO_RESOURCES", str(override))
    assert paths.resource("x.txt") == override / "x.txt"


def test_the_override_stands_alone_as_it_does_for_the_trainer(tmp_path, monkeypatch):
    monkeypatch.setenv("WAN_STUDIO_RESOURCES", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="Install Wan Studio again"):
        paths.resource("presets/motion.toml")


def test_the_wheel_layout_has_its_files_inside_the_package(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "wan_studio"
    (package / "resources").mkdir(parents=True)
    (package / "resources" / "x.txt").touch()
    monkeypatch.setattr(paths, "__file__", str(package / "paths.py"))
    assert paths.resource("x.txt") == package / "resources" / "x.txt"


def test_one_variable_moves_all_of_the_users_folders(home):
    folders = {paths.user_data_folder(), paths.user_cache_folder(), paths.default_projects_folder()}
    assert len(folders) == 3
    assert all(folder.parent == home for folder in folders)
    assert not home.exists()


def test_models_of_the_hub_lie_where_the_hub_itself_puts_them(monkeypatch, tmp_path):
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert paths.model_downloads_folder() == Path("~/.cache/huggingface/hub").expanduser()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert paths.model_downloads_folder() == tmp_path / "cache" / "huggingface" / "hub"
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert paths.model_downloads_folder() == tmp_path / "home" / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert paths.model_downloads_folder() == tmp_path / "hub"
