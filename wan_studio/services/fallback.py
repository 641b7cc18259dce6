"""Goes on with a run whose GPU memory ran out: what to offer, what was tried, and the taking of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct

from trainer.protocol.events import MemoryReport
from trainer.protocol.job import Expert, JobSpec
from trainer.protocol.run_folder import RunFolder, lora_file_name
from trainer.protocol.wire import WireError, read_json, write_json
from wan_studio.domain.fallback_ladder import NextPlan, next_plan, shortage_words, ways_left
from wan_studio.domain.hardware import HardwareSnapshot, machine_of
from wan_studio.domain.job_settings import continued, extents_of, settings_of
from wan_studio.domain.recommend import Planner
from wan_studio.domain.run_state import Outcome, RunState
from wan_studio.errors import AppError
from wan_studio.services.calibration_store import load_calibration
from wan_studio.services.run_calibration import look_at_gpus
from wan_studio.services.run_process import process_runs, resume_run, start_run
from wan_studio.services.run_store import RunStore

_PATIENCE_SECONDS = 5.0
"""A trainer that has said its last word still holds memory while it ends."""


class FallbackError(AppError):
    """A run cannot go on with another plan."""

    def __init__(self, run: RunFolder, problem: str) -> None:
        super().__init__(
            f"The run in {run.path} cannot go on with another plan: {problem}",
            "Check the folder's permissions and the free space.",
        )


class Attempt(Struct, frozen=True, kw_only=True):
    """A plan that a run went on with.

    Attributes:
        rungs: Of the ladder that it took; none of them is offered again.
        changes: New values by "section.field".
        words: What was changed, to follow "with".
        step: Optimizer steps that were saved then.
        time: When, seconds since the epoch.
        by_itself: Whether nobody was asked.
        from_run: Of a run that began so: name of the folder of the one before; empty where it was resumed.
        to_run: Of a run that ended so: name of the folder of the one that went on.
    """

    rungs: tuple[str, ...]
    changes: dict[str, Any]
    words: str
    step: int
    time: float
    by_itself: bool = False
    from_run: str = ""
    to_run: str = ""

    @property
    def sentence(self) -> str:
        """What was done."""
        how = " by itself" if self.by_itself else ""
        if self.to_run:
            return f"Went on{how} as {self.to_run}, with {self.words}."
        if self.from_run:
            begun = (
                f"from {self.from_run}'s LoRA at step {self.step}" if self.step else f"after {self.from_run}"
            )
            return f"Begun{how} {begun}, with {self.words}."
        begun = f"Resumed{how} from step {self.step}" if self.step else f"Started again{how}"
        return f"{begun} with {self.words}."


@dataclass(frozen=True, slots=True)
class Offer:
    """What a run that ran out of memory can go on with.

    Attributes:
        shortage: What ran out, in a sentence or two.
        plan: The next one; None where no rung of the ladder is left.
        ways_out: Then: what else helps, a sentence each.
        saved_step: Of the last checkpoint; 0 where there is none.
    """

    run: RunFolder
    shortage: str
    plan: NextPlan | None
    ways_out: tuple[str, ...] = ()
    saved_step: int = 0


def attempts_of(run: RunFolder) -> tuple[Attempt, ...]:
    """The plans that a run has gone on with, in order; none where that cannot be read."""
    try:
        return read_json(run.path / "ladder.json", tuple[Attempt, ...])
    except WireError:
        return ()


def ran_out(state: RunState) -> MemoryReport | None:
    """What memory did not suffice for, where a run ended for that."""
    is_over = state.outcome is Outcome.FAILED and state.failure_kind == "out_of_memory"
    return state.memory if is_over else None


def offer_for(
    run: RunFolder, state: RunState, look: Callable[[], HardwareSnapshot] | None = None
) -> Offer | None:
    """What a run can go on with; reads files, and waits for the run's process to let go of the GPU.

    Args:
        run: That has ended.
        state: Of it.
        look: At the machine; None looks at this one.

    Returns:
        None where it did not end for want of GPU memory.

    Raises:
        WireError: its job cannot be read.
    """
    memory = ran_out(state)
    if memory is None:
        return None
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while process_runs(run) and time.monotonic() < deadline:
        time.sleep(0.05)
    job = run.read_job()
    settings, planner = settings_of(job), planner_for(job, (look or look_at_gpus)())
    tried = [rung for attempt in attempts_of(run) for rung in attempt.rungs]
    plan = next_plan(settings, memory, planner, tried)
    ways = () if plan is not None else ways_left(settings, planner)
    saved = max(run.checkpoint_steps(), default=0)
    return Offer(run, shortage_words(memory), plan, ways, saved)


def planner_for(job: JobSpec, snapshot: HardwareSnapshot) -> Planner:
    """A planner for a job on this machine, with what was measured here."""
    machine = machine_of(snapshot, job.job.gpu)
    gpu = snapshot.gpu(job.job.gpu)
    known = () if gpu is None else load_calibration().calibration.of_gpu(gpu.name, gpu.uuid)
    return Planner(machine, clips=extents_of(job), measured=known)


def go_on(offer: Offer, state: RunState, *, by_itself: bool = False) -> RunFolder:
    """Go on with the offered plan: resume the run, or begin a new one from its last LoRA; returns at once.

    It is written down before, so that no rung is ever taken twice.

    Returns:
        The run that goes on: the same, or the new one.

    Raises:
        FallbackError: what is done cannot be written down, or the job cannot be read.
        AppError: the trainer does not start.
    """
    run, plan = offer.run, offer.plan
    assert plan is not None
    before = attempts_of(run)
    attempt = Attempt(
        rungs=tuple(rung.value for rung in plan.rungs),
        changes=plan.changes,
        words=plan.words,
        step=offer.saved_step,
        time=time.time(),
        by_itself=by_itself,
    )
    try:
        if plan.resumes:
            _write(run, (*before, attempt))
            try:
                resume_run(run, memory=plan.assignments)
            except AppError:
                _write(run, before)
                raise
            return run
        return _begun_anew(offer, state, before, attempt)
    except OSError as error:
        raise FallbackError(run, f"{error.strerror or error}.") from error
    except WireError as error:
        raise FallbackError(run, str(error)) from error


def _begun_anew(offer: Offer, state: RunState, before: tuple[Attempt, ...], attempt: Attempt) -> RunFolder:
    old, plan, step = offer.run, offer.plan, offer.saved_step
    assert plan is not None
    loras: dict[Expert, str] = {}
    if step:
        # The new run reads it at its start.
        old.pin(step)
        files = {expert: old.checkpoint(step) / lora_file_name(expert) for expert in Expert}
        loras = {expert: str(path) for expert, path in files.items() if path.is_file()}
    done = {
        expert: sum(point.expert is expert and point.step <= step for point in state.losses)
        for expert in Expert
    }
    job = continued(old.read_job(), plan.changes, loras, done)
    run = RunStore(old.path.parent).new_run(job.job.name)
    run.path.mkdir(parents=True)
    _write(run, (*before, msgspec.structs.replace(attempt, from_run=old.path.name)))
    start_run(run, job)
    _write(old, (*before, msgspec.structs.replace(attempt, to_run=run.path.name)))
    return run


def _write(run: RunFolder, attempts: tuple[Attempt, ...]) -> None:
    write_json(run.path / "ladder.json", attempts)
