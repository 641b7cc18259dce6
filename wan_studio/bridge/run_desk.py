"""The runs of the open project: which there are, which one is shown, and what is asked of it."""

from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from trainer.protocol.commands import Command
from trainer.protocol.job import JobSpec
from trainer.protocol.run_folder import RunFolder
from wan_studio.bridge.background import run_in_background
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.bridge.run_watcher import RunWatcher, WatchedRun
from wan_studio.services.fallback import Offer, go_on
from wan_studio.services.run_process import (
    ExportForm,
    PreviewRequest,
    export_run,
    preview_run,
    resume_run,
    start_run,
)
from wan_studio.services.run_store import RunStore


class RunDesk(QObject):
    """Lists the runs, watches the one that is shown, starts and commands it; never waits.

    Signals:
        runs_changed: The list of runs is another one.
        state_changed: The shown run has news. arg: WatchedRun, or None for no run
        failed: What was asked could not be done. arg: Exception
        busy_changed: A start, resume or export began or ended. arg: bool
    """

    runs_changed = Signal()
    state_changed = Signal(object)
    failed = Signal(object)
    busy_changed = Signal(bool)

    def __init__(self, session: ProjectSession) -> None:
        super().__init__(session)
        self._session = session
        self._watcher = RunWatcher(self)
        self._runs: tuple[RunFolder, ...] = ()
        self._busy = 0
        self._watcher.state_changed.connect(self._on_state_changed)
        session.project_opened.connect(self._on_project_opened)

    @property
    def runs(self) -> tuple[RunFolder, ...]:
        """The project's runs, newest first."""
        return self._runs

    @property
    def watched(self) -> WatchedRun | None:
        """The shown run."""
        return self._watcher.watched

    @property
    def is_busy(self) -> bool:
        """Whether a start, resume or export is under way."""
        return self._busy > 0

    @property
    def is_training(self) -> bool:
        """Whether the shown run's trainer is at work."""
        return self.watched is not None and self.watched.is_running

    def show(self, run: RunFolder) -> None:
        """Watch another run."""
        if self.watched is None or self.watched.run.path != run.path:
            self._watcher.watch(run)

    def rescan(self, then_show_newest: bool = True) -> None:  # noqa: FBT001, FBT002 - read at one place
        """Look for runs in the project's folder."""
        if not self._session.is_open:
            return
        store = RunStore(self._session.store.runs_folder)

        def work() -> tuple[list[RunFolder], RunFolder | None]:
            runs = store.runs()
            # The one at work, though another may be newer: a stopped run that was resumed since.
            live = next((run for run in runs if run.is_alive()), None)
            return runs, live or (runs[0] if runs else None)

        def on_done(found: tuple[list[RunFolder], RunFolder | None]) -> None:
            runs, shown = found
            self._runs = tuple(runs)
            self.runs_changed.emit()
            if then_show_newest and self.watched is None and shown is not None:
                self._watcher.watch(shown)

        run_in_background(work, on_done, self.failed.emit)

    def start(self, job: JobSpec, on_started: Callable[[], object]) -> None:
        """Make a run of this job and start its trainer."""
        store = RunStore(self._session.store.runs_folder)

        def work() -> RunFolder:
            run = store.new_run(job.job.name)
            start_run(run, job)
            return run

        def on_done(run: RunFolder) -> None:
            self._set_busy(-1)
            self._runs = (run, *self._runs)
            self.runs_changed.emit()
            self._watcher.watch(run)
            on_started()

        self._set_busy(1)
        run_in_background(work, on_done, self._on_failed, urgent=True)

    def resume(self, memory: Sequence[str] = ()) -> None:
        """Start a trainer on the shown run, from its last checkpoint.

        Args:
            memory: Settings of memory to go on with, each `section.field=value`.
        """
        if self.watched is None:
            return
        run = self.watched.run

        def on_done(_: object) -> None:
            self._set_busy(-1)
            self._watcher.watch(run)

        self._set_busy(1)
        run_in_background(lambda: resume_run(run, memory=memory), on_done, self._on_failed, urgent=True)

    def go_on(self, offer: Offer, *, by_itself: bool = False) -> None:
        """Let the shown run, whose GPU memory ran out, go on with a plan; a new run is shown instead of it."""
        if self.watched is None or self.watched.run.path != offer.run.path:
            return
        state = self.watched.state

        def on_done(run: RunFolder) -> None:
            self._set_busy(-1)
            if run.path != offer.run.path:
                self._runs = (run, *self._runs)
                self.runs_changed.emit()
            self._watcher.watch(run)

        self._set_busy(1)
        run_in_background(
            lambda: go_on(offer, state, by_itself=by_itself), on_done, self._on_failed, urgent=True
        )

    def export(
        self,
        step: int | None,
        out: Path | None,
        on_done: Callable[[list[Path]], object],
        form: ExportForm | None = None,
    ) -> None:
        """Make the LoRA pair's files of a checkpoint of the shown run, verified.

        Args:
            step: The checkpoint; None takes the last one.
            out: Folder for the files; None takes the run's own.
            on_done: Called with the files.
            form: Format, number type and strength; None leaves them to the trainer.
        """
        if self.watched is None:
            return
        run = self.watched.run

        def finish(paths: list[Path]) -> None:
            self._set_busy(-1)
            on_done(paths)

        self._set_busy(1)
        run_in_background(
            lambda: export_run(run, step=step, out=out, form=form), finish, self._on_failed, urgent=True
        )

    def preview(self, request: PreviewRequest) -> None:
        """Render previews of a checkpoint of the shown run, which does not train; its state tells the rest."""
        if self.watched is None:
            return
        run = self.watched.run

        def on_done(_: object) -> None:
            self._set_busy(-1)
            self._watcher.look()

        self._set_busy(1)
        run_in_background(lambda: preview_run(run, request), on_done, self._on_failed, urgent=True)

    def set_pinned(self, step: int, *, is_pinned: bool) -> None:
        """Keep a checkpoint of the shown run for ever, or let it be pruned again."""
        if self.watched is None:
            return
        run = self.watched.run
        work = run.pin if is_pinned else run.unpin
        run_in_background(lambda: work(step), lambda _: self._watcher.look(), self.failed.emit, urgent=True)

    def send(self, command: Command) -> None:
        """Leave a command for the shown run's trainer."""
        if self.watched is not None:
            run = self.watched.run
            run_in_background(lambda: run.send(command), lambda _: None, self.failed.emit, urgent=True)

    def stop_watching(self) -> None:
        """Look no more, e.g. when the window closes; trainers go on."""
        self._watcher.stop()

    def _on_project_opened(self) -> None:
        self._runs = ()
        self._watcher.watch(None)
        self.runs_changed.emit()
        self.rescan()

    def _on_state_changed(self, watched: WatchedRun | None) -> None:
        self.state_changed.emit(watched)

    def _on_failed(self, error: Exception) -> None:
        self._set_busy(-1)
        self.failed.emit(error)

    def _set_busy(self, change: int) -> None:
        self._busy += change
        self.busy_changed.emit(self.is_busy)
