"""One torch thread, no display, no network: every test runs the same on every machine.

On a machine with a GPU but without Qt or PyAV, only the files of the GPU's own tests are collected.
"""

import os
from importlib.util import find_spec

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"

LACKING = [name for name in ("av", "PySide6") if find_spec(name) is None]
"""What most tests need and those of the GPU do without."""


def pytest_addoption(parser):
    # Settings of plugins that are not there would be an error.
    for name in ("qt_api", "qt_default_raising", "qt_log_level_fail"):
        if name not in parser._inidict:
            parser.addini(name, "of pytest-qt, which is not installed")


def pytest_report_header():
    return f"without {' and '.join(LACKING)}: only tests/**/test_*_on_gpu.py" if LACKING else None


def pytest_ignore_collect(collection_path):
    is_test = collection_path.name.startswith("test_") and collection_path.suffix == ".py"
    is_of_gpu = collection_path.stem.endswith("_on_gpu")
    return True if LACKING and is_test and not is_of_gpu else None
