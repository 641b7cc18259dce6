"""The project that is open: one place that holds it, tells of every change and saves it by itself."""

import logging

from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtGui import QUndoStack

from wan_studio.bridge.background import run_in_background
from wan_studio.domain.project import Project, ProjectClip
from wan_studio.errors import AppError
from wan_studio.services.project_store import ProjectStore

_log = logging.getLogger(__name__)
_SAVE_AFTER_MILLISECONDS = 300


class ProjectSession(QObject):
    """Holds the project and its store; edits come through commands on the one undo stack.

    Signals:
        project_opened: Another project, or none, is open.
        project_changed: The open project is another value now.
        clip_selected: Another clip is looked at on every page. arg: clip id, empty for none
        saved_changed: Whether everything is on disk. arg: bool
        save_failed: The project could not be written. arg: AppError or OSError
    """

    project_opened = Signal()
    project_changed = Signal()
    clip_selected = Signal(str)
    saved_changed = Signal(bool)
    save_failed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.undo_stack = QUndoStack(self)
        self._project: Project | None = None
        self._store: ProjectStore | None = None
        self._clip_id = ""
        self._is_saved = True
        self._is_saving = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_SAVE_AFTER_MILLISECONDS)
        self._timer.timeout.connect(self._save_in_background)

    @property
    def is_open(self) -> bool:
        """Whether there is a project."""
        return self._project is not None

    @property
    def project(self) -> Project:
        """The open project; ask `is_open` first."""
        assert self._project is not None, "no project is open"
        return self._project

    @property
    def store(self) -> ProjectStore:
        """The open project's files; ask `is_open` first."""
        assert self._store is not None, "no project is open"
        return self._store

    @property
    def is_saved(self) -> bool:
        """Whether everything is on disk."""
        return self._is_saved

    @property
    def clip_id(self) -> str:
        """The clip that is looked at; empty for none."""
        return self._clip_id

    @property
    def clip(self) -> ProjectClip | None:
        """The same clip."""
        if self._project is None or not self._clip_id:
            return None
        return self._project.clip(self._clip_id)

    def open(self, store: ProjectStore, project: Project) -> None:
        """Take over a project that was loaded or just made."""
        self.save_now()
        self.undo_stack.clear()
        self._store, self._project = store, project
        self._clip_id = project.clips[0].id if project.clips else ""
        self.project_opened.emit()
        self.project_changed.emit()
        self.clip_selected.emit(self._clip_id)

    def set_project(self, project: Project) -> None:
        """Replace the project's value; only undo commands call this."""
        self._project = project
        ids = [clip.id for clip in project.clips]
        if self._clip_id not in ids:
            self._clip_id = ids[0] if ids else ""
            self.clip_selected.emit(self._clip_id)
        self._mark_saved(is_saved=False)
        self._timer.start()
        self.project_changed.emit()

    def select_clip(self, clip_id: str) -> None:
        """Look at this clip on every page."""
        if clip_id != self._clip_id:
            self._clip_id = clip_id
            self.clip_selected.emit(clip_id)

    def select_neighbour(self, step: int) -> bool:
        """Look at the next (1) or previous (-1) clip that is not rejected; False at the end."""
        if self._project is None:
            return False
        clips = self._project.clips
        ids = [clip.id for clip in clips]
        at = ids.index(self._clip_id) if self._clip_id in ids else -step
        at += step
        while 0 <= at < len(clips):
            if not clips[at].rejected:
                self.select_clip(clips[at].id)
                return True
            at += step
        return False

    def save_now(self) -> None:
        """Write at once what is not yet written: when the window closes or another project opens."""
        self._timer.stop()
        if self._project is None or self._store is None or self._is_saved:
            return
        try:
            self._store.save(self._project)
        except (AppError, OSError) as error:
            self._on_save_failed(error)
        else:
            self._mark_saved(is_saved=True)

    def _save_in_background(self) -> None:
        if self._is_saving:
            self._timer.start()
            return
        if self._project is None or self._store is None:
            return
        project, store = self._project, self._store
        self._is_saving = True

        def on_done(_: None) -> None:
            self._is_saving = False
            if self._project is project:
                self._mark_saved(is_saved=True)

        def on_error(error: Exception) -> None:
            self._is_saving = False
            self._on_save_failed(error)

        run_in_background(lambda: store.save(project), on_done, on_error, urgent=True)

    def _on_save_failed(self, error: Exception) -> None:
        _log.warning("The project could not be saved: %s", error)
        self.save_failed.emit(error)

    def _mark_saved(self, *, is_saved: bool) -> None:
        if is_saved != self._is_saved:
            self._is_saved = is_saved
            self.saved_changed.emit(is_saved)
