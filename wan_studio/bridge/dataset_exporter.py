"""Exports the open project's clips in the background: a thread of its own, which a process writes for."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from wan_studio.bridge.background import Task, run_in_background
from wan_studio.bridge.clip_library import ClipLibrary
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.export_plan import ExportOptions, ExportPlan, plan_export

if TYPE_CHECKING:
    from wan_studio.services.dataset_export import ExportForecast, ExportProgress, ExportReport

_SECONDS_TO_END = 5.0


class DatasetExporter(QObject):
    """One export at a time, and forecasts of the next.

    Signals:
        forecast_made: What an export would do is known. arg: ExportForecast
        forecast_failed: It cannot be worked out. arg: Exception
        started: An export begins.
        progressed: How far it is. arg: ExportProgress
        exported: It is done. arg: ExportReport
        failed: It ended before that, perhaps because it was cancelled. arg: Exception
    """

    forecast_made = Signal(object)
    forecast_failed = Signal(object)
    started = Signal()
    progressed = Signal(object)
    exported = Signal(object)
    failed = Signal(object)
    _ended = Signal(object)

    def __init__(self, session: ProjectSession, library: ClipLibrary) -> None:
        super().__init__(session)
        self._session = session
        self._library = library
        self._thread: threading.Thread | None = None
        self._wish = threading.Event()
        self._forecast: Task[ExportForecast] | None = None
        self._ended.connect(self._on_ended)

    @property
    def is_busy(self) -> bool:
        """Whether an export is at work."""
        return self._thread is not None

    def forecast(self, options: ExportOptions, folder: Path) -> None:
        """Work out what an export would do; another wish forgets this one."""
        if self._forecast is not None:
            self._forecast.cancel()
        plan = self._planner(options)

        def work() -> "ExportForecast":
            # Imported by the threads that need it: the window is there before.
            from wan_studio.services.dataset_export import forecast_export

            return forecast_export(plan(), folder)

        self._forecast = run_in_background(work, self.forecast_made.emit, self.forecast_failed.emit)

    def start(self, options: ExportOptions, folder: Path) -> None:
        """Export the project as it is now; nothing while an export is at work."""
        if self._thread is not None:
            return
        plan, wish = self._planner(options), threading.Event()
        self._wish = wish

        def on_progress(progress: "ExportProgress") -> None:
            if not wish.is_set():
                self.progressed.emit(progress)

        def work() -> None:
            from wan_studio.services.dataset_export import export_dataset

            end: ExportReport | Exception
            try:
                end = export_dataset(plan(), folder, on_progress, wish.is_set)
            except Exception as error:  # noqa: BLE001 - every failure is shown where the export was started
                end = error
            self._ended.emit(end)

        # A thread of its own: the pool's few are for short work.
        self._thread = threading.Thread(target=work, name="export", daemon=True)
        self._thread.start()
        self.started.emit()

    def cancel(self) -> None:
        """End the export; what was written stays, and the next one goes on."""
        self._wish.set()

    def end(self) -> None:
        """Cancel, and wait until the process is gone: the window closes."""
        if self._forecast is not None:
            self._forecast.cancel()
        self._wish.set()
        thread = self._thread
        if thread is not None:
            thread.join(_SECONDS_TO_END)

    def _planner(self, options: ExportOptions) -> Callable[[], ExportPlan]:
        """Makes the plan, on any thread, of the project as it is now."""
        project, facts = self._session.project, dict(self._library.facts)
        captions = self._session.store.captions_folder

        def plan() -> ExportPlan:
            from wan_studio.services.dataset_export import clip_files

            sources = {clip_id: one.source for clip_id, one in facts.items() if one.source is not None}
            problems = {clip_id: one.unreadable for clip_id, one in facts.items() if one.unreadable}
            return plan_export(project, clip_files(project, sources, problems, captions), options)

        return plan

    def _on_ended(self, end: "ExportReport | Exception") -> None:
        self._thread = None
        if isinstance(end, Exception):
            self.failed.emit(end)
        else:
            self.exported.emit(end)
