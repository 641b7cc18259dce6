"""Rewrites what follows from the files themselves: the README's tree and the packages in pyproject.toml.

python packaging/refresh.py            rewrites both
python packaging/refresh.py --check    says which is stale, exit code 1 if one is
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What cannot say it itself: data, folders without an __init__.py, files whose format has no comments.
DESCRIPTIONS = {
    "pyproject.toml": "One distribution with the extras train and dev; every tool's settings.",
    "LICENSE": "Apache License 2.0.",
    "README.md": "This text; the tree is written by packaging/refresh.py.",
    ".ci": "What every change must pass.",
    "packaging": "How it gets onto a machine. No __init__.py: it would hide the library of that name.",
    "packaging/CHANGELOG.md": "What changed, for users.",
    "resources": "Data only, shipped inside the app's package; no __init__.py.",
    "resources/presets": "Settings for each training goal.",
    "resources/icons": "Pictures on buttons.",
    "resources/miniature": "The real model's classes in small, in the diffusers layout.",
    "tests": "The tests; no __init__.py.",
    "tests/wan_studio": "The app's tests, path for path as in wan_studio/.",
    "tests/trainer": "The trainer's tests, path for path as in trainer/.",
    "tests/contract": "Both programs together, with a real trainer process.",
    "tests/benchmarks": "Ours against peers, run by hand; not collected by pytest.",
    "tests/benchmarks/README.md": "How to run them, what was tried, and the figures.",
    "tests/packaging": "Bootstrap, wheel and this tree.",
}
TOP_LEVEL = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    ".ci",
    "packaging",
    "resources",
    "wan_studio",
    "trainer",
    "tests",
)
SHOWN_AS_ONE_LINE = ("resources/icons", "resources/miniature", "tests/wan_studio", "tests/trainer")
TREE = re.compile(r"(?<=<!-- tree -->\n).*?(?=<!-- end of tree -->)", re.DOTALL)
PACKAGES = re.compile(r"^packages = \[.*?\]\n", re.DOTALL | re.MULTILINE)
DESCRIPTION_COLUMN = 34


def list_packages(root: Path) -> list[str]:
    """Every package that the wheel must contain, by its dotted name."""
    inits = [init for top in ("trainer", "wan_studio") for init in (root / top).rglob("__init__.py")]
    return sorted(
        [".".join(init.parent.relative_to(root).parts) for init in inits] + ["wan_studio.resources"]
    )


def describe(path: Path, root: Path) -> str:
    """One line on a file or folder: from the table above, its docstring or its first comment."""
    known = DESCRIPTIONS.get(path.relative_to(root).as_posix())
    if known:
        return known
    if path.is_dir():
        init = path / "__init__.py"
        return describe(init, root) if init.exists() else _count_kinds(path)
    if path.suffix == ".py":
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        return docstring.partition("\n")[0]
    if path.suffix in ("", ".toml", ".txt", ".sh", ".qss"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("#") and not line.startswith("#!"):
                return line.lstrip("# ")
    return ""


def _count_kinds(folder: Path) -> str:
    """`12 .svg, 1 .txt` for a folder of data."""
    kinds = Counter(path.suffix for path in folder.rglob("*") if path.is_file())
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def tree_lines(path: Path, root: Path, depth: int = 0) -> Iterator[str]:
    """The tree below a file or folder, one line for each, folders after files."""
    name = "  " * depth + path.name + ("/" if path.is_dir() else "")
    yield f"{name:{DESCRIPTION_COLUMN}} {describe(path, root)}".rstrip()
    if not path.is_dir() or path.relative_to(root).as_posix() in SHOWN_AS_ONE_LINE:
        return
    for child in sorted(path.iterdir(), key=lambda one: (one.is_dir(), one.name)):
        if child.name != "__init__.py" and not child.name.startswith(".") and holds_files(child):
            yield from tree_lines(child, root, depth + 1)


def holds_files(path: Path) -> bool:
    """Whether it is more than what Python or a removed folder left behind."""
    files = path.rglob("*") if path.is_dir() else [path]
    return any(file.is_file() and "__pycache__" not in file.parts for file in files)


def write_tree(root: Path) -> str:
    """The whole tree as a block for the README."""
    tops = [root / name for name in TOP_LEVEL if holds_files(root / name)]
    return "\n".join(["```text", *(line for top in tops for line in tree_lines(top, root)), "```", ""])


def refreshed(root: Path) -> dict[Path, str]:
    """README.md and pyproject.toml as they should be."""
    readme, pyproject = root / "README.md", root / "pyproject.toml"
    packages = "".join(f'  "{name}",\n' for name in list_packages(root))
    return {
        readme: TREE.sub(lambda _: write_tree(root), readme.read_text(encoding="utf-8")),
        pyproject: PACKAGES.sub(f"packages = [\n{packages}]\n", pyproject.read_text(encoding="utf-8")),
    }


def main(arguments: Sequence[str]) -> int:
    """Rewrites or checks both files; returns the exit code."""
    stale = {path: text for path, text in refreshed(ROOT).items() if path.read_text(encoding="utf-8") != text}
    for path, text in stale.items():
        if "--check" in arguments:
            print(f"{path.name} is stale: run python packaging/refresh.py")
        else:
            path.write_text(text, encoding="utf-8", newline="\n")
            print(f"{path.name} rewritten")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
