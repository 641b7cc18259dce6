"""The frame around every page: rail, header banner, page, Back and primary action, hardware strip."""

import base64
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import get_args

import msgspec
from PySide6.QtCore import QByteArray, QSize, Qt, QTimer
from PySide6.QtGui import (
    QAction,
    QActionGroup,
    QCloseEvent,
    QDragEnterEvent,
    QDropEvent,
    QKeySequence,
    QResizeEvent,
)
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QMainWindow, QStackedWidget, QVBoxLayout, QWidget

from wan_studio.bridge.run_watcher import WatchedRun
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.checks import Progress, Step, StepState, step_states
from wan_studio.domain.run_state import Outcome
from wan_studio.paths import user_data_folder
from wan_studio.views.actions import ActionTable
from wan_studio.views.hardware_strip import HardwareStrip
from wan_studio.views.page import Page
from wan_studio.views.shortcut_overlay import ShortcutOverlay
from wan_studio.views.theme import GRID, Appearance, Theme, set_icon
from wan_studio.views.widgets import Banner, EmptyState, button, label, show_in_files
from wan_studio.views.wizard_rail import WizardRail
from wan_studio.views.wording import error_texts, percent_done

MINIMUM_WIDTH, MINIMUM_HEIGHT = 1024, 640
_NARROW_BELOW = 1200
LOG_FILE_NAME = "wan-studio.log"


class MainWindow(QMainWindow):
    """The window: it holds the pages and passes the user's wishes between them."""

    def __init__(self, bench: Workbench, theme: Theme) -> None:
        super().__init__()
        self.bench = bench
        self.theme = theme
        self._pages: dict[Step, Page] = {}
        self._step = Step.PROJECTS
        self._landed_on: Step | None = None
        self._hears_of_plans = False
        self.setWindowTitle("Wan Studio")
        self.setMinimumSize(MINIMUM_WIDTH, MINIMUM_HEIGHT)
        # No larger than the screen: on a small one the primary action would lie beyond its edge.
        self.resize(QSize(1360, 860).boundedTo(self.screen().availableSize()))
        self.setAcceptDrops(True)
        self.actions_table = ActionTable(self)
        self._build_frame()
        self._build_menus()
        self._connect()
        self._restore_geometry()
        self.go_to(Step.PROJECTS)

    @property
    def step(self) -> Step:
        """The step that is shown."""
        return self._step

    def page(self, step: Step) -> Page:
        """The page of a step, made when it is first wanted: the window comes up sooner."""
        if step not in self._pages:
            page: Page = import_module(f"wan_studio.views.{step}.page").make_page(self.bench)
            page.primary_changed.connect(self._renew_bottom)
            page.step_wanted.connect(self.go_to)
            self._pages[step] = page
            self._stack.addWidget(page)
            handlers: dict[str, Callable[[], object]] = getattr(page, "handlers", dict)()
            self.actions_table.connect_page(step, handlers)
        return self._pages[step]

    def go_to(self, step: Step) -> None:
        """Show a step."""
        page = self.page(step)
        if self._stack.currentWidget() is not page and self._step in self._pages:
            self._pages[self._step].leave()
        self._step = step
        self._rail.set_current(step)
        has_project = self.bench.session.is_open
        self._stack.setCurrentWidget(page if has_project or not page.needs_project else self._no_project)
        self.actions_table.set_context(step, has_project=has_project)
        if has_project or not page.needs_project:
            page.enter()
        self._renew_bottom()

    def show_error(self, error: Exception) -> None:
        """Say inline what happened and what to do."""
        message, hint = error_texts(error)
        self.banner.show_message(message, hint, tone_name="bad")

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Below a width the rail shows icons alone."""
        super().resizeEvent(event)
        self._rail.set_narrow(self.width() < _NARROW_BELOW)

    def closeEvent(self, event: QCloseEvent) -> None:
        """Closing is always safe: all is saved, and a trainer goes on without the window."""
        for page in self._pages.values():
            page.leave()
            page.shut_down()
        geometry = base64.b64encode(self.saveGeometry().data()).decode()
        self.bench.remember(msgspec.structs.replace(self.bench.settings, window_geometry=geometry))
        self.bench.close()
        event.accept()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Files may be dropped anywhere."""
        if event.mimeData().hasUrls() and self.bench.session.is_open:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Dropped files and folders become clips."""
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        if paths and self.bench.session.is_open:
            self.go_to(Step.CLIPS)
            self.bench.import_clips(paths)

    def _build_frame(self) -> None:
        self._rail = WizardRail()
        self._stack = QStackedWidget()
        self.banner = Banner()
        self._no_project = EmptyState(
            "folder-open",
            "No project is open",
            "Start a new project or open one; every step belongs to a project.",
            button("Go to projects", lambda: self.go_to(Step.PROJECTS), role="primary"),
        )
        self._stack.addWidget(self._no_project)
        self._back = button("Back", self._on_back, icon_name="arrow-left")
        self._saved = label("", "muted")
        self._hint = label("", "muted")
        self._primary = button("", self._on_primary, role="primary")
        bottom = QHBoxLayout()
        bottom.setContentsMargins(3 * GRID, GRID, 3 * GRID, 2 * GRID)
        bottom.setSpacing(2 * GRID)
        for part in (self._back, self._saved):
            bottom.addWidget(part)
        bottom.addStretch(1)
        for part in (self._hint, self._primary):
            bottom.addWidget(part)
        banner_row = QHBoxLayout()
        banner_row.setContentsMargins(3 * GRID, GRID, 3 * GRID, 0)
        banner_row.addWidget(self.banner)
        self._right = QVBoxLayout()
        self._right.setContentsMargins(0, 0, 0, 0)
        self._right.setSpacing(0)
        self._right.addLayout(banner_row)
        self._right.addWidget(self._stack, 1)
        self._right.addLayout(bottom)
        upper = QHBoxLayout()
        upper.setContentsMargins(0, 0, 0, 0)
        upper.setSpacing(0)
        upper.addWidget(self._rail)
        upper.addLayout(self._right, 1)
        self._strip = HardwareStrip()
        self._central = QWidget()
        layout = QVBoxLayout(self._central)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(upper, 1)
        layout.addWidget(self._strip)
        self.setCentralWidget(self._central)

    def _build_menus(self) -> None:
        table, stack = self.actions_table, self.bench.session.undo_stack
        edit = table.menus["Edit"]
        undo, redo = stack.createUndoAction(self, "Undo"), stack.createRedoAction(self, "Redo")
        undo.setShortcuts([QKeySequence("Ctrl+Z")])
        redo.setShortcuts([QKeySequence("Ctrl+Shift+Z"), QKeySequence("Ctrl+Y")])
        for action, name in ((undo, "arrow-u-up-left"), (redo, "arrow-u-up-right")):
            set_icon(action, name)
            edit.addAction(action)
        view = table.menus["View"]
        view.addSeparator()
        group = QActionGroup(self)
        words = {"system": "As the system", "light": "Light", "dark": "Dark"}
        for appearance in get_args(Appearance):
            action = QAction(words[appearance], self, checkable=True)
            action.setChecked(self.theme.appearance == appearance)
            action.triggered.connect(lambda _=False, wanted=appearance: self._set_appearance(wanted))
            group.addAction(action)
            view.addAction(action)
        table.connect("file.new", lambda: self._on_projects("new_project"))
        table.connect("file.open", lambda: self._on_projects("choose_project"))
        table.connect("file.folder", self._show_project_folder)
        table.connect("file.close", self.close)
        table.connect("clip.add_files", self._add_files)
        table.connect("clip.add_folder", self._add_folder)
        table.connect("clip.next", lambda: self.bench.session.select_neighbour(1))
        table.connect("clip.previous", lambda: self.bench.session.select_neighbour(-1))
        table.connect("view.primary", self._on_primary)
        table.connect("help.keys", lambda: ShortcutOverlay(self._central))
        table.connect("help.log", lambda: show_in_files(user_data_folder() / LOG_FILE_NAME))
        for step in Step:
            table.connect(f"view.{step}", lambda step=step: self.go_to(step))

    def _connect(self) -> None:
        bench = self.bench
        self._rail.step_chosen.connect(self.go_to)
        self._strip.run_clicked.connect(lambda: self.go_to(Step.MONITOR))
        self._strip.hardware_clicked.connect(lambda: self.go_to(Step.HARDWARE))
        bench.hardware.snapshot_taken.connect(self._strip.show_snapshot)
        bench.hardware.alerts_changed.connect(self._strip.show_alerts)
        bench.error_happened.connect(self.show_error)
        bench.session.project_opened.connect(self._on_project_opened)
        bench.session.saved_changed.connect(self._renew_saved)
        bench.runs.state_changed.connect(self._on_run_changed)
        # States of the rail are worked out once for a burst of changes.
        self._rail_timer = QTimer(self)
        self._rail_timer.setSingleShot(True)
        self._rail_timer.setInterval(50)
        self._rail_timer.timeout.connect(self._renew_rail)
        bench.session.project_changed.connect(self._rail_timer.start)
        bench.index.records_changed.connect(self._on_records_changed)

    def _on_project_opened(self) -> None:
        self.banner.dismiss()
        self.setWindowTitle(f"{self.bench.session.project.name} - Wan Studio")
        self._renew_saved()
        self._rail_timer.start()
        if not self._hears_of_plans:
            # Only now: the planner is made with the first project.
            from wan_studio.undo.first_plan import FirstPlan

            self._hears_of_plans = True
            self.bench.plans.judged.connect(self._rail_timer.start)
            self._first_plan = FirstPlan(self.bench.session, self.bench.plans)
        next_step = Step.CLIPS if self.bench.session.project.clips else Step.GOAL
        self.go_to(next_step)
        self._landed_on = next_step

    def _on_records_changed(self) -> None:
        self._rail_timer.start()

    def _on_run_changed(self, watched: WatchedRun | None) -> None:
        self._strip.show_run(watched)
        self._renew_rail()
        if watched is not None and watched.is_read and self._landed_on is not None:
            # A project opens on its run where one is at work, unless the user went elsewhere meanwhile.
            if watched.is_running and self._step is self._landed_on:
                self.go_to(Step.MONITOR)
            self._landed_on = None

    def _renew_rail(self) -> None:
        session = self.bench.session
        if session.is_open:
            self._strip.set_gpu_index(session.project.settings.job.gpu)
            for step, state in self._step_states().items():
                self._rail.set_state(step, state)
        watched = self.bench.runs.watched
        monitor, results, review = StepState(), StepState(), StepState()
        if watched is not None:
            review = StepState(Progress.DONE)
            if watched.is_running:
                monitor = StepState(Progress.RUNNING, percent_done(watched.state))
            elif watched.state.outcome in (Outcome.CRASHED, Outcome.FAILED):
                monitor = StepState(Progress.ATTENTION)
            elif watched.state.has_ended:
                monitor = StepState(Progress.DONE)
            if watched.state.checkpoints:
                results = StepState(Progress.DONE, str(len(watched.state.checkpoints)))
        self._rail.set_state(Step.REVIEW, review)
        self._rail.set_state(Step.MONITOR, monitor)
        self._rail.set_state(Step.RESULTS, results)

    def _step_states(self) -> dict[Step, StepState]:
        bench = self.bench
        judgement = bench.plans.judgement
        fits = judgement is None or judgement.fits
        return step_states(bench.session.project, bench.library.facts, bench.index.problems, fits=fits)

    def _renew_bottom(self) -> None:
        page = self._pages.get(self._step)
        is_usable = page is not None and (self.bench.session.is_open or not page.needs_project)
        primary = page.primary() if page is not None and is_usable else None
        self._back.setVisible(self._step is not Step.PROJECTS)
        self._primary.setVisible(primary is not None)
        self._hint.setText(primary.hint if primary else "")
        if primary is not None:
            self._primary.setText(primary.text)
            self._primary.setAccessibleName(primary.text)
            self._primary.setEnabled(primary.is_enabled)
            self._primary.setToolTip(f"{primary.text} (Ctrl+Return)")
            # An arrow points on: it stands behind the words.
            points_on = primary.icon_name == "arrow-right"
            self._primary.setLayoutDirection(
                Qt.LayoutDirection.RightToLeft if points_on else Qt.LayoutDirection.LeftToRight
            )
            if primary.icon_name:
                set_icon(self._primary, primary.icon_name, "on_accent" if primary.is_enabled else "muted")
            else:
                self._primary.setProperty("icon_name", None)
                self._primary.setIcon(type(self._primary.icon())())

    def _renew_saved(self) -> None:
        session = self.bench.session
        if session.is_open:
            self._saved.setText("Saved" if session.is_saved else "Saving")

    def _on_primary(self) -> None:
        page = self._pages.get(self._step)
        primary = page.primary() if page is not None else None
        if page is not None and primary is not None and primary.is_enabled:
            page.run_primary()

    def _on_back(self) -> None:
        steps = list(Step)
        self.go_to(steps[max(0, steps.index(self._step) - 1)])

    def _on_projects(self, method: str) -> None:
        self.go_to(Step.PROJECTS)
        getattr(self.page(Step.PROJECTS), method)()

    def _set_appearance(self, appearance: Appearance) -> None:
        self.theme.set_appearance(appearance)
        self.bench.remember(msgspec.structs.replace(self.bench.settings, theme=appearance))

    def _show_project_folder(self) -> None:
        if self.bench.session.is_open:
            show_in_files(self.bench.session.store.folder)

    def _add_files(self) -> None:
        names, _ = QFileDialog.getOpenFileNames(self, "Add clips")
        if names:
            self.go_to(Step.CLIPS)
            self.bench.import_clips([Path(name) for name in names])

    def _add_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Add a folder of clips")
        if name:
            self.go_to(Step.CLIPS)
            self.bench.import_clips([Path(name)])

    def _restore_geometry(self) -> None:
        saved = self.bench.settings.window_geometry
        if saved:
            self.restoreGeometry(QByteArray(base64.b64decode(saved)))
