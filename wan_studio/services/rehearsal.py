"""A project's job, rehearsed by the trainer in a folder of its own that is gone afterwards."""

import contextlib
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from trainer.protocol.job import JobSpec
from trainer.protocol.run_folder import RunFolder
from trainer.protocol.wire import WireError, read_json, write_json
from wan_studio.domain.fallback_ladder import next_plan
from wan_studio.domain.hardware import HardwareSnapshot
from wan_studio.domain.project import Project
from wan_studio.domain.rehearsal_verdict import Verdict, verdict_of
from wan_studio.domain.run_state import RunState
from wan_studio.errors import AppError
from wan_studio.services.fallback import planner_for
from wan_studio.services.project_store import ProjectStore
from wan_studio.services.run_process import kill_run, process_runs, start_run
from wan_studio.services.run_store import RunStore
from wan_studio.services.trainer_runtime import trainer_command

_PATIENCE_SECONDS = 10.0
"""How long a rehearsal may take to end after its last word."""


class RehearsalBusyError(AppError):
    """A run of the project is at work."""

    def __init__(self, run: RunFolder) -> None:
        super().__init__(
            f"{run.path.name} is training, and the test would take its memory.",
            "Stop the run, or wait until it is done.",
        )


@dataclass(frozen=True, slots=True)
class Begun:
    """A rehearsal under way."""

    run: RunFolder
    job: JobSpec


def begin_rehearsal(project: Project, store: ProjectStore) -> Begun:
    """Make the project's job and start to rehearse it; returns when the trainer is started.

    Raises:
        AppError: there is no job to make, a run is at work, or the trainer does not start.
    """
    # Here: the decoder behind it need not be there for the first window.
    from wan_studio.services.job_preparation import prepare_job

    live = next((run for run in RunStore(store.runs_folder).runs() if run.is_alive()), None)
    if live is not None:
        raise RehearsalBusyError(live)
    folder = _folder(store)
    for old in folder.iterdir() if folder.is_dir() else ():
        clear_rehearsal(RunFolder(old))
    job = prepare_job(project, store).job
    run = RunFolder(folder / f"{time.time_ns():020d}")
    start_run(run, job, trainer_command("rehearse", str(run.path)))
    return Begun(run, job)


def judge_rehearsal(begun: Begun, project: Project, state: RunState, snapshot: HardwareSnapshot) -> Verdict:
    """What a rehearsal that has ended has shown, with the next plan where memory ran out.

    Args:
        begun: The rehearsal.
        project: That it was of.
        state: By its events.
        snapshot: The machine, without the rehearsal's process.
    """
    job = begun.job
    planner = planner_for(job, snapshot)
    gpu = planner.machine.gpu
    shortages = state.shortages
    plan = next_plan(project.settings, shortages[-1], planner) if shortages else None
    return verdict_of(job, state, None if gpu is None else gpu.free_bytes, plan)


def clear_rehearsal(run: RunFolder) -> None:
    """Wait until a rehearsal's process has ended, end it when it does not, and remove its folder."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while process_runs(run) and time.monotonic() < deadline:
        time.sleep(0.05)
    kill_run(run)
    # What Windows still holds open goes before the next one.
    shutil.rmtree(run.path, ignore_errors=True)
    with contextlib.suppress(OSError):
        run.path.parent.rmdir()


def last_verdict(store: ProjectStore) -> Verdict | None:
    """What the last rehearsal of a project has shown; None where there was none, or it cannot be read."""
    try:
        return read_json(_verdict_file(store), Verdict)
    except WireError:
        return None


def keep_verdict(store: ProjectStore, verdict: Verdict) -> None:
    """Remember what the last rehearsal has shown; where that cannot be written it is forgotten."""
    with contextlib.suppress(OSError):
        store.cache_folder.mkdir(parents=True, exist_ok=True)
        write_json(_verdict_file(store), verdict)


def _folder(store: ProjectStore) -> Path:
    return store.cache_folder / "rehearsal"


def _verdict_file(store: ProjectStore) -> Path:
    return store.cache_folder / "rehearsal.json"
