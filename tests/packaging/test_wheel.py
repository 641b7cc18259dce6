"""The wheel holds both programs and their data, and nothing else."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "wan_studio",
    "trainer",
    "resources",
    "packaging",
    "tests",
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy, because setuptools builds in the tree that it is given, with data deep down beside what is there."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, copy / name)
    (copy / "resources" / "some" / "folder").mkdir(parents=True)
    (copy / "resources" / "some" / "folder" / "data.bin").write_bytes(b"data")
    return copy


@pytest.fixture(scope="module")
def wheel(checkout):
    code = "from setuptools.build_meta import build_wheel; build_wheel('dist')"
    subprocess.run([sys.executable, "-c", code], cwd=checkout, check=True, capture_output=True)
    (path,) = (checkout / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_every_module_and_every_resource_is_in_the_wheel(wheel, checkout):
    modules = {
        path.relative_to(checkout).as_posix()
        for top in ("wan_studio", "trainer")
        for path in (checkout / top).rglob("*.py")
    }
    resources = {
        f"wan_studio/{path.relative_to(checkout).as_posix()}"
        for path in (checkout / "resources").rglob("*")
        if path.is_file()
    }
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert shipped == modules | resources
    assert "wan_studio/resources/some/folder/data.bin" in shipped


def test_the_wheel_names_its_licence_its_python_and_its_start(wheel):
    texts = {
        name.split("/", 1)[1]: wheel.read(name).decode() for name in wheel.namelist() if ".dist-info/" in name
    }
    assert "Apache License" in texts["licenses/LICENSE"]
    assert "License-Expression: Apache-2.0" in texts["METADATA"]
    assert re.search(r"Requires-Python: .*>=3.11", texts["METADATA"])
    assert "wan-studio = wan_studio.__main__:main" in texts["entry_points.txt"]
    for extra in ("train", "dev"):
        assert f"Provides-Extra: {extra}" in texts["METADATA"]


def test_resources_and_packaging_are_no_packages():
    # packaging/__init__.py would hide the library `packaging`, which diffusers imports.
    assert not list((ROOT / "packaging").rglob("__init__.py"))
    assert not list((ROOT / "resources").rglob("__init__.py"))
