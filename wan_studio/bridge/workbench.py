"""Everything that the pages share, built once by the window's composition root."""

import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import QObject, Signal

from trainer.protocol.base_names import is_hub_name
from trainer.protocol.job import MINIATURE
from wan_studio.bridge.auto_captions import AutoCaptions
from wan_studio.bridge.background import ProgressRelay, run_in_background
from wan_studio.bridge.calibration_keeper import CalibrationKeeper
from wan_studio.bridge.caption_desk import CaptionDesk
from wan_studio.bridge.clip_index import ClipIndex
from wan_studio.bridge.clip_library import ClipLibrary
from wan_studio.bridge.courtesy import Courtesy
from wan_studio.bridge.dataset_exporter import DatasetExporter
from wan_studio.bridge.duplicate_finder import DuplicateFinder
from wan_studio.bridge.fallback_desk import FallbackDesk
from wan_studio.bridge.folder_watch import FolderWatch
from wan_studio.bridge.hardware_monitor import HardwareMonitor
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.bridge.rehearsal import Rehearsal
from wan_studio.bridge.run_desk import RunDesk
from wan_studio.domain.hardware import DiskUse
from wan_studio.domain.manual_card import ManualCard, manual_card
from wan_studio.domain.project import Goal, Project
from wan_studio.errors import AppError
from wan_studio.paths import default_projects_folder, model_downloads_folder, user_cache_folder
from wan_studio.services.caption_files import open_with_steps
from wan_studio.services.media_pool import media_pool
from wan_studio.services.preset_store import settings_for
from wan_studio.services.project_store import ProjectStore
from wan_studio.services.undo_log import OpenedLog
from wan_studio.settings import AppSettings, load_settings, save_settings

if TYPE_CHECKING:
    from wan_studio.bridge.plan_desk import PlanDesk

_log = logging.getLogger(__name__)
CONTINUE_BY_ITSELF = "continue_by_itself"
"""Name of the window's setting."""

_MANUAL_CARD = "manual_card"


class ProjectExistsError(AppError):
    """A new project's folder already holds one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} already holds a project.", "Open it, or choose another name.")


class Workbench(QObject):
    """The open project and everything around it.

    Signals:
        error_happened: Something that was asked could not be done. arg: Exception
        recent_changed: The list of recent projects is another one.
        noticed: The user should know of something that hinders nothing. arg: AppError
        busy_changed: Something takes a moment. arg: what is done, empty when finished
        clips_imported: Files were found to add. arg: tuple of the new ProjectClips
    """

    error_happened = Signal(object)
    noticed = Signal(object)
    recent_changed = Signal()
    busy_changed = Signal(str)
    clips_imported = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.settings: AppSettings = load_settings()
        self.session = ProjectSession(self)
        self.library = ClipLibrary(self.session, user_cache_folder())
        self.index = ClipIndex(self.session, self.library)
        self.duplicates = DuplicateFinder(self.session, self.library, self.index)
        self.watch = FolderWatch(self.session, self.library)
        self.captions = CaptionDesk(self.session, self.library)
        self.exporter = DatasetExporter(self.session, self.library)
        self.runs = RunDesk(self.session)
        self.courtesy = Courtesy(self.runs, self.library, media_pool())
        self.auto_captions = AutoCaptions(self.session, self.library, self.runs)
        self.hardware = HardwareMonitor(_disk_folders(None, None), self)
        self.calibration = CalibrationKeeper(self)
        self.fallback = FallbackDesk(self.runs)
        self.fallback.continues_by_itself = self.settings.values.get(CONTINUE_BY_ITSELF) == "yes"
        self.rehearsal = Rehearsal(self.session, self.runs, self.hardware, self.calibration)
        self.session.save_failed.connect(self.error_happened)
        self.session.step_failed.connect(self.error_happened)
        self.captions.step_refused.connect(self.noticed)
        self.runs.failed.connect(self.error_happened)
        self.runs.state_changed.connect(self.hardware.watch_training)
        self.runs.state_changed.connect(self.calibration.watch)
        self.session.project_changed.connect(self._renew_disk_folders)

    @cached_property
    def plans(self) -> "PlanDesk":
        """The planner, made when it is first wanted: the window is there before all that it computes with."""
        from wan_studio.bridge.plan_desk import PlanDesk

        card = manual_card(self.settings.values.get(_MANUAL_CARD, ""))
        made = PlanDesk(self.session, self.library, self.hardware, self.calibration, card)
        made.manual_card_changed.connect(self._remember_card)
        return made

    def open_project(self, folder: Path) -> None:
        """Load and show a project."""
        if self.session.is_open and self.session.store.folder == ProjectStore(folder).folder:
            # Anew: what is there is saved first, and its undo steps are read like those of an earlier sitting.
            self.captions.save_now()
            self.session.save_now()
            self.session.let_go()
        self._open_when_done(f"Opening {folder.name}", lambda: ProjectStore(folder))

    def create_project(self, folder: Path, goal: Goal = "motion", base: str = "miniature") -> None:
        """Make and show an empty project in a folder that holds none."""

        def work() -> ProjectStore:
            store = ProjectStore(folder)
            if store.exists:
                raise ProjectExistsError(folder)
            project = Project(name=folder.name, goal=goal, settings=settings_for(goal, base))
            store.save(project)
            return store

        self._open_when_done(f"Making {folder.name}", work)

    def open_demo(self, on_progress: Callable[[tuple[object, ...]], object]) -> None:
        """Make, where it is not there yet, and show the project with the sample clips."""
        relay = ProgressRelay(self)
        relay.progressed.connect(on_progress)

        def work() -> ProjectStore:
            from wan_studio.services.demo_project import DEMO_NAME, make_demo_project

            return make_demo_project(default_projects_folder() / DEMO_NAME, relay.report)

        self._open_when_done("Making the sample clips", work)

    def import_clips(self, paths: Sequence[Path]) -> None:
        """Find the clips in these files and folders; `clips_imported` brings those that are new."""
        project, captions_folder = self.session.project, self.session.store.captions_folder
        self.busy_changed.emit("Looking for clips")

        def work() -> Project:
            from wan_studio.services.clip_import import import_clips

            return import_clips(project, paths, captions_folder)

        def on_done(found: Project) -> None:
            self.busy_changed.emit("")
            # Only while the same project is open, and only what it still lacks: it may have changed meanwhile.
            known = {clip.id for clip in project.clips}
            self.clips_imported.emit(tuple(clip for clip in found.clips if clip.id not in known))

        def on_error(error: Exception) -> None:
            self.busy_changed.emit("")
            self.error_happened.emit(error)

        run_in_background(work, on_done, on_error, urgent=True)

    def remember(self, settings: AppSettings) -> None:
        """Take and write the window's own settings."""
        self.settings = settings
        try:
            save_settings(settings)
        except OSError as error:
            _log.warning("The settings could not be saved: %s", error)

    def remember_expander(self, name: str, *, is_open: bool) -> None:
        """Remember whether a page's section is open."""
        names = [other for other in self.settings.open_expanders if other != name]
        kept = (*names, name) if is_open else tuple(names)
        self.remember(msgspec.structs.replace(self.settings, open_expanders=kept))

    def remember_value(self, name: str, value: str) -> None:
        """Remember anything else of a page."""
        values = {**self.settings.values, name: value}
        self.remember(msgspec.structs.replace(self.settings, values=values))

    def continue_by_itself(self, *, is_wanted: bool) -> None:
        """Whether runs whose GPU memory ran out go on with the next plan unasked; remembered."""
        self.fallback.continues_by_itself = is_wanted
        self.remember_value(CONTINUE_BY_ITSELF, "yes" if is_wanted else "no")

    def forget_recent(self, folder: str) -> None:
        """Take a project out of the list of recent ones."""
        self.remember(self.settings.without_recent_project(folder))
        self.recent_changed.emit()

    def close(self) -> None:
        """Save what is open and end what runs here; trainers go on."""
        self.hardware.stop()
        self.rehearsal.leave()
        self.auto_captions.leave()
        self.runs.stop_watching()
        self.captions.save_now()
        self.exporter.end()
        self.watch.stop()
        self.library.pause()
        self.session.save_now()
        self.session.let_go()

    def _remember_card(self, card: ManualCard | None) -> None:
        self.remember_value(_MANUAL_CARD, "" if card is None else card.remembered)

    def _renew_disk_folders(self) -> None:
        if self.session.is_open:
            self.hardware.set_folders(_disk_folders(self.session.store, self.session.project))

    def _open_when_done(self, what: str, make: Callable[[], ProjectStore]) -> None:
        self.busy_changed.emit(what)

        def work() -> tuple[ProjectStore, Project, OpenedLog]:
            store = make()
            return store, *open_with_steps(store)

        def on_done(read: tuple[ProjectStore, Project, OpenedLog]) -> None:
            self.busy_changed.emit("")
            store, project, opened = read
            self.remember(self.settings.with_recent_project(store.folder))
            self.recent_changed.emit()
            self.session.open(store, project, opened)
            if opened.problem is not None:
                self.noticed.emit(opened.problem)

        def on_error(error: Exception) -> None:
            self.busy_changed.emit("")
            self.error_happened.emit(error)

        run_in_background(work, on_done, on_error, urgent=True)


def _disk_folders(store: ProjectStore | None, project: Project | None) -> dict[DiskUse, Path]:
    """Where runs, caches and the base model lie or will lie."""
    base = MINIATURE if project is None else project.settings.model.base
    is_local = base != MINIATURE and not is_hub_name(base)
    projects = default_projects_folder()
    return {
        DiskUse.RUNS: projects if store is None else store.runs_folder,
        DiskUse.CACHE: projects if store is None else store.cache_folder,
        DiskUse.MODELS: Path(base) if is_local else model_downloads_folder(),
    }
