"""Growth is a decision, not an accident: how large a module, a function and a signature may be."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULE_LINES = 500
BODY_LINES = 100
RECIPE_BODY_LINES = 150  # for a recipe's `train` alone: a program that is read from top to bottom
PARAMETERS = 6
PRODUCT = ("wan_studio", "trainer", "packaging")


def python_files(*tops):
    return sorted(path for top in tops for path in (ROOT / top).rglob("*.py"))


def functions_of(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def body_lines(function):
    """Lines from the first statement after the docstring to the end."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def body_limit(path, function):
    is_recipe = path.parent == ROOT / "trainer" / "recipes" and function.name == "train"
    return RECIPE_BODY_LINES if is_recipe else BODY_LINES


def parameter_count(function):
    arguments = function.args
    names = [one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def undocumented(tree):
    """Public classes and functions of a module without a docstring; a method's name may speak for itself."""
    definitions = (
        node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return [
        node.name for node in definitions if not node.name.startswith("_") and not ast.get_docstring(node)
    ]


@pytest.mark.parametrize(
    "path", python_files(*PRODUCT, "tests"), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_a_module_stays_within_the_limits(path):
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    assert len(source.splitlines()) <= MODULE_LINES, "split it by what its parts do"
    long = {
        one.name: body_lines(one) for one in functions_of(tree) if body_lines(one) > body_limit(path, one)
    }
    assert not long, "name the steps and make each a function"
    if path.is_relative_to(ROOT / "tests"):
        return
    wide = {one.name: parameter_count(one) for one in functions_of(tree) if parameter_count(one) > PARAMETERS}
    assert not wide, "give the values that belong together a name: a frozen dataclass"
    assert ast.get_docstring(tree), "say in one line what the module is for"
    assert not undocumented(tree), "say what it does, with units and errors"
