"""The test of a minute or two before a run: the project's job, once through, at its largest sizes."""

import contextlib
import time

import msgspec
from PySide6.QtCore import QObject, QTimer, Signal

from trainer.protocol.commands import Stop
from trainer.protocol.events import Phase
from trainer.protocol.job import MINIATURE
from wan_studio.bridge.background import run_in_background
from wan_studio.bridge.calibration_keeper import CalibrationKeeper
from wan_studio.bridge.hardware_monitor import HardwareMonitor
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.bridge.run_desk import RunDesk
from wan_studio.bridge.run_watcher import RunWatcher, WatchedRun
from wan_studio.domain.calibration import CalibrationRecord
from wan_studio.domain.project import Project
from wan_studio.domain.rehearsal_verdict import Verdict
from wan_studio.domain.run_state import Outcome, RunState
from wan_studio.errors import AppError
from wan_studio.services.project_store import ProjectStore
from wan_studio.services.rehearsal import (
    Begun,
    begin_rehearsal,
    clear_rehearsal,
    judge_rehearsal,
    keep_verdict,
    last_verdict,
)
from wan_studio.services.run_calibration import look_at_gpus
from wan_studio.services.run_process import kill_run
from wan_studio.services.trainer_runtime import find_trainer_python

_STOP_MILLISECONDS = 8000
"""How long a stop may take before the process is ended."""
_SHARES = (
    (Phase.CACHING_TEXT, 0.15),
    (Phase.CACHING_LATENTS, 0.10),
    (Phase.LOADING, 0.35),
    (Phase.REHEARSING, 0.25),
    (Phase.PREVIEWING, 0.15),
)
"""Of the whole, by what each phase takes on a usual card; in their order."""


class Rehearsal(QObject):
    """Rehearses the open project's job, one at a time; never waits.

    Signals:
        changed: Progress, the verdict, or whether it can be started is another one.
        calibrated: It has measured something. arg: tuple of CalibrationRecords; empty on a CPU
        ended: It is over, with a verdict, cancelled or failed.
    """

    changed = Signal()
    calibrated = Signal(object)
    ended = Signal()

    def __init__(
        self,
        session: ProjectSession,
        runs: RunDesk,
        hardware: HardwareMonitor,
        calibration: CalibrationKeeper,
    ) -> None:
        super().__init__(session)
        self._session = session
        self._runs = runs
        self._hardware = hardware
        self._calibration = calibration
        self._watcher = RunWatcher(self)
        self._watcher.state_changed.connect(self._on_state_changed)
        self._of: tuple[Project, ProjectStore] | None = None
        self._begun: Begun | None = None
        self._is_running = False
        self._is_cancelled = False
        self._is_ending = False
        self._began_at = 0.0
        self._share = 0.0
        self._state = RunState()
        self._verdict: Verdict | None = None
        self._problem = ("", "")
        self._no_trainer = ""
        self._was_blocked = ""
        session.project_opened.connect(self._on_project_opened)
        session.project_changed.connect(self.changed)
        runs.state_changed.connect(self._renew_block)
        hardware.snapshot_taken.connect(self._renew_block)

    @property
    def is_running(self) -> bool:
        """Whether one is under way."""
        return self._is_running

    @property
    def is_cancelled(self) -> bool:
        """Whether the one under way is about to end."""
        return self._is_running and self._is_cancelled

    @property
    def phase(self) -> Phase | None:
        """What it is busy with; None while the job is made and the trainer starts."""
        return self._state.phases[-1].phase if self._state.phases else None

    @property
    def detail(self) -> str:
        """What of that, e.g. which expert."""
        return self._state.phases[-1].message if self._state.phases else ""

    @property
    def share(self) -> float:
        """How far it is, 0..1; never falls."""
        return self._share

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._began_at if self._is_running else 0.0

    @property
    def verdict(self) -> Verdict | None:
        """What the last one has shown; None where there was none."""
        return self._verdict

    @property
    def problem(self) -> tuple[str, str]:
        """Why the last one could not be done, and what to do; empty where it could."""
        return self._problem

    @property
    def why_not(self) -> str:
        """Why none can be started now, a sentence; empty where one can."""
        if not self._session.is_open:
            return "Open a project first."
        project = self._session.project
        if all(clip.rejected for clip in project.clips):
            return "Add clips first: the test takes their sizes."
        if self._no_trainer:
            return self._no_trainer
        if self._runs.is_training:
            return "A run is training: the test would take its memory."
        latest = self._hardware.latest
        if project.settings.model.base != MINIATURE and latest is not None:
            gpu = latest.gpu(project.settings.job.gpu)
            if gpu is None or not gpu.is_ready:
                return "The A14B model needs an NVIDIA GPU; only the miniature can be tested without."
        return ""

    def start(self) -> None:
        """Begin, unless one is under way or none can be."""
        if self._is_running or self.why_not:
            return
        project, store = self._session.project, self._session.store
        self._is_running, self._is_cancelled, self._is_ending = True, False, False
        self._began_at, self._share, self._state = time.monotonic(), 0.0, RunState()
        self._problem = ("", "")
        self._of = project, store

        def on_begun(begun: Begun) -> None:
            self._begun = begun
            if self._is_cancelled:
                self._stop(begun)
            self._watcher.watch(begun.run)
            self._hardware.watch_rehearsal(begun.run)

        self.changed.emit()
        run_in_background(lambda: begin_rehearsal(project, store), on_begun, self._on_failed, urgent=True)

    def cancel(self) -> None:
        """Let the one under way end; its folder goes with it."""
        if not self._is_running or self._is_cancelled:
            return
        self._is_cancelled = True
        if self._begun is not None:
            self._stop(self._begun)
        self.changed.emit()

    def leave(self) -> None:
        """The window closes: what is under way ends by itself, and its folder goes before the next one."""
        self._watcher.stop()
        if self._begun is not None:
            with contextlib.suppress(OSError):
                self._begun.run.send(Stop())

    def _stop(self, begun: Begun) -> None:
        run_in_background(lambda: begun.run.send(Stop()), lambda _: None, self._on_failed, urgent=True)

        def end() -> None:
            if self._begun is begun:
                run_in_background(lambda: kill_run(begun.run), lambda _: None)

        QTimer.singleShot(_STOP_MILLISECONDS, self, end)

    def _on_state_changed(self, watched: WatchedRun | None) -> None:
        if watched is None or self._begun is None or self._of is None:
            return
        if self._is_ending or not watched.is_read:
            return
        self._state = watched.state
        self._share = max(self._share, _share_of(watched.state))
        if not watched.is_running:
            self._is_ending = True
            self._finish(self._begun, watched.state, self._of)
        self.changed.emit()

    def _finish(self, begun: Begun, state: RunState, of: tuple[Project, ProjectStore]) -> None:
        """It has said its last word: learn from it, judge it, and clear up."""
        project, store = of
        is_cancelled = self._is_cancelled or state.outcome is Outcome.STOPPED

        def on_taken(records: tuple[CalibrationRecord, ...]) -> None:
            self.calibrated.emit(records)
            run_in_background(work, on_judged, self._on_failed, urgent=True)

        def work() -> Verdict | None:
            clear_rehearsal(begun.run)
            if is_cancelled:
                return None
            verdict = judge_rehearsal(begun, project, state, look_at_gpus())
            verdict = msgspec.structs.replace(verdict, time=time.time())
            keep_verdict(store, verdict)
            return verdict

        def on_judged(verdict: Verdict | None) -> None:
            is_same = self._session.is_open and self._session.store.folder == store.folder
            if verdict is not None and is_same:
                self._verdict = verdict
            self._end()

        self._calibration.take_in(begun.run, state, on_taken)

    def _on_failed(self, error: Exception) -> None:
        if isinstance(error, AppError):
            self._problem = error.message, error.hint
        else:
            self._problem = (
                f"The test could not be done ({error}).",
                "Check the project's folder and its free space.",
            )
        begun = self._begun
        if begun is not None:
            run_in_background(lambda: clear_rehearsal(begun.run), lambda _: None)
        self._end()

    def _end(self) -> None:
        self._watcher.watch(None)
        self._hardware.watch_rehearsal(None)
        self._begun = None
        self._is_running = False
        self.changed.emit()
        self.ended.emit()

    def _on_project_opened(self) -> None:
        self.cancel()
        self._verdict, self._problem = None, ("", "")
        if not self._session.is_open:
            self.changed.emit()
            return
        store = self._session.store

        def look() -> tuple[Verdict | None, str]:
            try:
                find_trainer_python()
            except AppError as error:
                return last_verdict(store), f"{error.message} {error.hint}".strip()
            return last_verdict(store), ""

        def on_done(found: tuple[Verdict | None, str]) -> None:
            if self._session.is_open and self._session.store is store:
                self._verdict, self._no_trainer = found
                self.changed.emit()

        run_in_background(look, on_done)

    def _renew_block(self, _: object) -> None:
        """Tell of it when what stands in the way is another thing."""
        if self.why_not != self._was_blocked:
            self._was_blocked = self.why_not
            self.changed.emit()


def _share_of(state: RunState) -> float:
    """How far a rehearsal is, by its phases: those that are over, and of the one under way its part."""
    now = {phase.phase: phase for phase in state.phases}
    done = 0.0
    for phase, share in _SHARES:
        if phase in now:
            one = now[phase]
            return done + share * (one.done / one.total if one.total else 0.0)
        if phase in state.finished_phases:
            done += share
    return done
