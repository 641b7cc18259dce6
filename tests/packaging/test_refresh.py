"""The README's tree and pyproject's packages are those of the files that are there."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def refresh():
    return importlib.import_module("refresh")


def test_the_readme_and_the_package_list_are_up_to_date(refresh):
    stale = [
        path.name
        for path, text in refresh.refreshed(ROOT).items()
        if path.read_text(encoding="utf-8") != text
    ]
    assert not stale, "run: python packaging/refresh.py"


def test_every_line_of_the_tree_says_what_the_file_is(refresh):
    lines = refresh.write_tree(ROOT).splitlines()[1:-1]
    silent = [line.strip() for line in lines if len(line.split()) == 1]
    assert not silent, "give these a docstring, a first comment, or a line in packaging/refresh.py"


def test_a_new_module_and_a_new_package_appear(refresh, tmp_path):
    package = tmp_path / "trainer" / "newest"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('"""Something new."""\n')
    (package / "part.py").write_text('"""Its part.\n\nMore on it.\n"""\n')
    (tmp_path / "README.md").write_text("# Name\n<!-- tree -->\nold\n<!-- end of tree -->\nend\n")
    (tmp_path / "pyproject.toml").write_text('[tool.setuptools]\npackages = [\n  "old",\n]\nrest = 1\n')

    texts = {path.name: text for path, text in refresh.refreshed(tmp_path).items()}

    assert texts["pyproject.toml"] == (
        '[tool.setuptools]\npackages = [\n  "trainer.newest",\n  "wan_studio.resources",\n]\nrest = 1\n'
    )
    words = [line.split(maxsplit=1) for line in texts["README.md"].splitlines()]
    assert ["newest/", "Something new."] in words
    assert ["part.py", "Its part."] in words
    assert texts["README.md"].startswith("# Name\n")
    assert texts["README.md"].endswith("\nend\n")
    assert "old" not in texts["README.md"].split()
