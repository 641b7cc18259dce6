"""Everything that the pages share, built once by the window's composition root."""

import logging
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from wan_studio.bridge.background import ProgressRelay, run_in_background
from wan_studio.bridge.clip_library import ClipLibrary
from wan_studio.bridge.hardware_monitor import HardwareMonitor
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.bridge.run_desk import RunDesk
from wan_studio.domain.project import Goal, Project
from wan_studio.errors import AppError
from wan_studio.paths import default_projects_folder, user_cache_folder
from wan_studio.services.demo_project import make_demo_project
from wan_studio.services.preset_store import settings_for
from wan_studio.services.project_store import ProjectStore
from wan_studio.services.thumbnail_cache import ThumbnailCache
from wan_studio.settings import AppSettings, load_settings, save_settings

_log = logging.getLogger(__name__)


class ProjectExistsError(AppError):
    """A new project's folder already holds one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} already holds a project.", "Open it, or choose another name.")


class Workbench(QObject):
    """The open project and everything around it.

    Signals:
        error_happened: Something that was asked could not be done. arg: Exception
        recent_changed: The list of recent projects is another one.
        busy_changed: A project is being made or opened. arg: what is done, empty when finished
    """

    error_happened = Signal(object)
    recent_changed = Signal()
    busy_changed = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.settings: AppSettings = load_settings()
        self.session = ProjectSession(self)
        self.library = ClipLibrary(self.session, ThumbnailCache(user_cache_folder() / "posters"))
        self.runs = RunDesk(self.session)
        self.hardware = HardwareMonitor(default_projects_folder(), self)
        self.session.save_failed.connect(self.error_happened)
        self.runs.failed.connect(self.error_happened)

    def open_project(self, folder: Path) -> None:
        """Load and show a project."""

        def work() -> tuple[ProjectStore, Project]:
            store = ProjectStore(folder)
            return store, store.load()

        self._open_when_done(f"Opening {folder.name}", work)

    def create_project(self, folder: Path, goal: Goal = "motion", base: str = "miniature") -> None:
        """Make and show an empty project in a folder that holds none."""

        def work() -> tuple[ProjectStore, Project]:
            store = ProjectStore(folder)
            if store.exists:
                raise ProjectExistsError(folder)
            project = Project(name=folder.name, goal=goal, settings=settings_for(goal, base))
            store.save(project)
            return store, project

        self._open_when_done(f"Making {folder.name}", work)

    def open_demo(self, folder: Path, on_progress: Callable[[tuple[object, ...]], object]) -> None:
        """Make, where it is not there yet, and show the project with the sample clips."""
        relay = ProgressRelay(self)
        relay.progressed.connect(on_progress)

        def work() -> tuple[ProjectStore, Project]:
            store = make_demo_project(folder, relay.report)
            return store, store.load()

        self._open_when_done("Making the sample clips", work)

    def remember_settings(self) -> None:
        """Write the window's own settings."""
        try:
            save_settings(self.settings)
        except (AppError, OSError) as error:
            _log.warning("The settings could not be saved: %s", error)

    def close(self) -> None:
        """Save what is open and end what runs here; trainers go on."""
        self.hardware.stop()
        self.runs.stop_watching()
        self.session.save_now()
        self.remember_settings()

    def _open_when_done(self, what: str, work: Callable[[], tuple[ProjectStore, Project]]) -> None:
        self.busy_changed.emit(what)

        def on_done(opened: tuple[ProjectStore, Project]) -> None:
            self.busy_changed.emit("")
            store, project = opened
            self._remember_recent(store.folder)
            self.hardware.set_folder(store.folder)
            self.session.open(store, project)

        def on_error(error: Exception) -> None:
            self.busy_changed.emit("")
            self.error_happened.emit(error)

        run_in_background(work, on_done, on_error, urgent=True)

    def _remember_recent(self, folder: Path) -> None:
        known = [path for path in self.settings.recent_projects if path != str(folder)]
        self.settings.recent_projects = [str(folder), *known][:10]
        self.remember_settings()
        self.recent_changed.emit()
