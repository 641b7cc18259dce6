"""What a rehearsal has shown, in words: what trained, what it took, or what there was no memory for."""

import statistics
from typing import Any

from msgspec import Struct

from trainer.protocol.events import WorkMeasured
from trainer.protocol.job import Expert, JobSpec
from wan_studio.domain.fallback_ladder import NextPlan, shortage_words
from wan_studio.domain.machine import GIB
from wan_studio.domain.memory_constants import CONTEXT_BYTES
from wan_studio.domain.run_state import Outcome, RunState


class Verdict(Struct, frozen=True, kw_only=True):
    """The outcome of a rehearsal.

    Attributes:
        words: One or two sentences.
        hint: What to do; empty where nothing is to be done.
        fits: Whether everything went through.
        changes: The next plan's values by "section.field", where memory ran out and there is one.
        time: When it ended, seconds since the epoch.
    """

    words: str
    hint: str = ""
    fits: bool = False
    changes: dict[str, Any] = {}
    time: float = 0.0


def verdict_of(job: JobSpec, state: RunState, free_bytes: int | None, plan: NextPlan | None) -> Verdict:
    """The verdict on a job by its rehearsal's events.

    Args:
        job: That was rehearsed.
        state: By its events; it has ended.
        free_bytes: Of the GPU, when nothing of ours was on it; None where there is none.
        plan: What to change, where memory ran out.
    """
    if state.outcome is not Outcome.COMPLETED:
        if state.outcome is Outcome.CRASHED:
            hint = "Where it happens again, RAM may not suffice: choose a plan that keeps less there."
            return Verdict(words=state.summary, hint=hint)
        if state.memory is None:
            return Verdict(words=state.summary, hint=state.hint)
        return _short(shortage_words(state.memory), plan)
    told = _steps(job, state, free_bytes)
    if state.shortages:
        told = f"{told} " if told else ""
        return _short(
            f"{told}{shortage_words(state.shortages[-1])} Training would go on without previews.", plan
        )
    return Verdict(words=told, fits=True)


def _short(words: str, plan: NextPlan | None) -> Verdict:
    if plan is None:
        return Verdict(
            words=words, hint="No single change would let it fit: choose smaller clips or fewer frames."
        )
    return Verdict(words=words, hint=f"Next plan: {plan.change}", changes=plan.changes)


def _steps(job: JobSpec, state: RunState, free_bytes: int | None) -> str:
    steps = [work for work in state.measured if work.work == "step"]
    previews = [work for work in state.measured if work.work == "preview"]
    if not steps:
        return "Everything went through."
    experts = {work.expert for work in steps if work.expert is not None}
    who = "Both experts" if len(experts) == len(Expert) else f"The {_named(experts)} expert"
    largest = max(steps, key=lambda work: work.width * work.height * work.frames)
    batch = f"{largest.batch} clips of " if largest.batch > 1 else ""
    # A rehearsal takes one batch a step.
    batches = job.training.gradient_accumulation
    seconds = statistics.mean(work.seconds for work in steps) * batches
    memory = f"{_memory(steps, free_bytes)}, " if _peak(steps) else ""
    told = (
        f"{who} trained at {batch}{largest.width} x {largest.height}, {largest.frames} frames: "
        f"{memory}{_paced(seconds)} a step"
    )
    if previews:
        peak = _peak(previews)
        took = f"{(peak + CONTEXT_BYTES) / GIB:.1f} GiB" if peak else "went through"
        told += f"; a preview {took}"
    return f"{told}."


def _memory(steps: list[WorkMeasured], free_bytes: int | None) -> str:
    """The peak with CUDA's own share, as what is free has to hold both."""
    whole = "" if free_bytes is None else f" of {free_bytes / GIB:.1f}"
    return f"{(_peak(steps) + CONTEXT_BYTES) / GIB:.1f}{whole} GiB"


def _peak(works: list[WorkMeasured]) -> int:
    return max(work.reserved_bytes for work in works)


def _named(experts: set[Expert]) -> str:
    return " and ".join(sorted(expert.value.replace("_", "-") for expert in experts))


def _paced(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
