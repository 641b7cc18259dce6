"""The project that is open: one place that holds it, tells of every change and saves it by itself."""

import logging
from collections.abc import Sequence

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QUndoCommand, QUndoStack

from wan_studio.bridge.background import run_in_background
from wan_studio.bridge.project_keeper import Kept, ProjectKeeper
from wan_studio.bridge.soon import SoonTimer
from wan_studio.bridge.step_journal import StepJournal
from wan_studio.domain.project import Project, ProjectClip
from wan_studio.services.project_store import ProjectStore
from wan_studio.services.undo_log import MOST_STEPS, KeptStep, OpenedLog, UndoLog

_log = logging.getLogger(__name__)
_SAVE_AFTER_MILLISECONDS = 300


class ProjectSession(QObject):
    """Holds the project and its store; edits come through commands on the one undo stack.

    Signals:
        project_opened: Another project, or none, is open.
        project_changed: The open project is another value now.
        clip_selected: Another clip is looked at on every page. arg: clip id, empty for none
        saved_changed: Whether everything is on disk. arg: bool
        save_failed: The project or its undo steps could not be written. arg: AppError or OSError
        step_failed: A step could not be done or taken back; what was to be undone is gone. arg: AppError
    """

    project_opened = Signal()
    project_changed = Signal()
    clip_selected = Signal(str)
    saved_changed = Signal(bool)
    save_failed = Signal(object)
    step_failed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.undo_stack = QUndoStack(self)
        self.undo_stack.setUndoLimit(MOST_STEPS)
        self.undo_stack.indexChanged.connect(self._on_stack_changed)
        self.journal = StepJournal(self.undo_stack)
        self.is_restoring = False
        self._keeper = ProjectKeeper()
        self._opened = OpenedLog(None)
        self._project: Project | None = None
        self._store: ProjectStore | None = None
        self._clip_id = ""
        self._is_saved = True
        self._is_dirty = False
        self._is_saving = False
        self._is_jumping = False
        self._timer = SoonTimer(_SAVE_AFTER_MILLISECONDS, self)
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

    @property
    def kept_steps(self) -> Sequence[KeptStep]:
        """The steps of earlier sittings that are to be on the stack: for who makes commands of them."""
        return self._opened.steps

    def open(self, store: ProjectStore, project: Project, opened: OpenedLog | None = None) -> None:
        """Take over a project that was loaded or just made.

        Args:
            store: Its files.
            project: Its value.
            opened: Its undo steps; without them, steps end with the window.
        """
        self.save_now()
        self.let_go()
        self._opened = opened or OpenedLog(None)
        self._store, self._project = store, project
        self._clip_id = project.clips[0].id if project.clips else ""
        self.journal.adopt((), 0, self._opened.base)
        self.project_opened.emit()
        if self._opened.steps and self._opened.log is not None:
            # Nobody made commands of them: they are left on the disk as they are.
            self._opened.log.close()
            self._opened = OpenedLog(None)
        self.project_changed.emit()
        self.clip_selected.emit(self._clip_id)

    def take_restored(self, commands: Sequence[QUndoCommand]) -> None:
        """Put the commands that were made of `kept_steps` on the stack; none of them is done by that."""
        self.is_restoring = True
        for command in commands:
            self.undo_stack.push(command)
        self.undo_stack.setIndex(self._opened.index)
        self.is_restoring = False
        serials = [step.serial for step in self._opened.steps]
        self.journal.adopt(serials, self._opened.index, self._opened.base)
        self._opened.steps = []

    def let_go(self) -> None:
        """Leave the undo steps of the open project to others; what was not saved stays so."""
        self._timer.stop()
        self.is_restoring = True
        self.undo_stack.clear()
        self.is_restoring = False
        self.journal.adopt((), 0, 0)
        if self._opened.log is not None:
            self._opened.log.close()
        self._opened = OpenedLog(None)
        self._is_dirty = False

    def set_project(self, project: Project) -> None:
        """Replace the project's value; only undo commands call this."""
        self._project = project
        self._is_dirty = True
        self._mark_saved(is_saved=False)
        self._timer.start()
        if not self._is_jumping:
            self._tell_changed()

    def go_to_step(self, index: int) -> None:
        """Undo or redo until so many steps are done; the pages hear of the outcome alone."""
        before = self._project
        self._is_jumping = True
        self.undo_stack.setIndex(index)
        self._is_jumping = False
        if self._project is not before:
            self._tell_changed()

    def give_up_steps(self, error: Exception) -> None:
        """A step cannot be done or taken back: no other one can, then."""
        _log.warning("The undo steps are given up: %s", error)
        # Written anew, so that the log knows the project as it is as the place to go on from.
        self._is_dirty = True
        self.undo_stack.clear()
        self.step_failed.emit(error)

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
        self.ask_to_keep()
        self.take_kept(self.keep())

    def ask_to_keep(self) -> None:
        """Let the next `keep` write the project and its steps as they are now."""
        self._timer.stop()
        if self._project is None or self._store is None:
            return
        change = self.journal.take()
        if self._is_dirty or change is not None:
            project = self._project if self._is_dirty else None
            self._keeper.wish(self._store, self._opened.log, project, change)
            self._is_dirty = False

    @property
    def log(self) -> UndoLog | None:
        """Where the steps are kept; None where they are not."""
        return self._opened.log

    def keep(self) -> list[Kept]:
        """Write what was asked for, on any thread; hand the outcome to `take_kept` on the GUI thread."""
        return self._keeper.work()

    def take_kept(self, kept: Sequence[Kept]) -> None:
        """Something was written, or was not."""
        for one in kept:
            if one.log_error is not None and one.error is None:
                self._on_save_failed(one.log_error)
            if one.project is None or one.project is not self._project:
                continue
            if one.error is None:
                self._mark_saved(is_saved=True)
            else:
                self._is_dirty = True
                self._on_save_failed(one.error)

    def _on_stack_changed(self) -> None:
        if not self.is_restoring:
            self.journal.follow()
            self._timer.start()

    def _tell_changed(self) -> None:
        ids = [clip.id for clip in self.project.clips]
        if self._clip_id not in ids:
            self._clip_id = ids[0] if ids else ""
            self.clip_selected.emit(self._clip_id)
        self.project_changed.emit()

    def _save_in_background(self) -> None:
        self.ask_to_keep()
        if not self._is_saving and self._keeper.has_work:
            self._is_saving = True
            run_in_background(self.keep, self._on_kept, saves=True)

    def _on_kept(self, kept: list[Kept]) -> None:
        self._is_saving = False
        self.take_kept(kept)
        if self._keeper.has_work:
            self._save_in_background()

    def _on_save_failed(self, error: Exception) -> None:
        _log.warning("The project could not be saved: %s", error)
        self.save_failed.emit(error)

    def _mark_saved(self, *, is_saved: bool) -> None:
        if is_saved != self._is_saved:
            self._is_saved = is_saved
            self.saved_changed.emit(is_saved)
