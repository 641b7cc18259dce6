"""The window's composition root: builds each object once, and survives what slots raise."""

import logging
import logging.handlers
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication

from wan_studio import __version__
from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.garbage import GarbageCollector
from wan_studio.bridge.workbench import Workbench
from wan_studio.paths import user_data_folder
from wan_studio.undo.restore import StepRestorer
from wan_studio.views.main_window import LOG_FILE_NAME, MainWindow
from wan_studio.views.theme import Appearance, Theme

_log = logging.getLogger("wan_studio")


def run_window(project_folder: Path | None = None) -> int:
    """Open the window and stay until it closes; returns the exit code.

    Args:
        project_folder: A project to open at once; without one the last project comes back when a
            run of it may be at work.
    """
    _log_to_file()
    app = QApplication.instance() or QApplication(sys.argv[:1])
    assert isinstance(app, QApplication)
    app.setApplicationName("Wan Studio")
    app.setApplicationVersion(__version__)
    app.setDesktopFileName("wan-studio")
    # Python's own 5 ms at each of the window's turns add up while a worker computes: a recommendation held up a
    # first painting for 200 ms, and for 50 ms with this.
    sys.setswitchinterval(0.001)
    window = build_window(app)
    sys.excepthook = _exception_hook(window.show_error)
    window.show()
    folder = project_folder or _last_project(window.bench)
    if folder is not None:
        # After the first paint: the window is there before the disk is asked.
        QTimer.singleShot(0, lambda: window.bench.open_project(folder))
    QTimer.singleShot(0, window.bench.hardware.start)
    garbage = GarbageCollector()
    window.bench.session.project_opened.connect(garbage.collect_all)
    code = app.exec()
    garbage.stop()
    wait_for_background()
    return code


def build_window(app: QApplication) -> MainWindow:
    """The window with everything that it needs, not yet shown."""
    theme = Theme(app)
    bench = Workbench(app)
    chosen = bench.settings.theme
    appearance: Appearance = "light" if chosen == "light" else "dark" if chosen == "dark" else "system"
    theme.set_appearance(appearance)
    StepRestorer(bench.session, bench.captions)
    return MainWindow(bench, theme)


def _last_project(bench: Workbench) -> Path | None:
    recent = bench.settings.recent_projects
    return Path(recent[0]) if recent and (Path(recent[0]) / "project.json").is_file() else None


def _exception_hook(
    show: Callable[[Exception], object],
) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    """A hook that logs an exception of a slot and shows it inline, so that the window lives on."""

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not isinstance(error, Exception):
            sys.__excepthook__(kind, error, trace)
            return
        _log.error("Unexpected error", exc_info=(kind, error, trace))
        if threading.current_thread() is threading.main_thread():
            show(error)

    return hook


def _log_to_file() -> None:
    folder = user_data_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handler: logging.Handler = logging.handlers.RotatingFileHandler(
            folder / LOG_FILE_NAME, maxBytes=1_000_000, backupCount=2, encoding="utf-8"
        )
    except OSError:
        handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
