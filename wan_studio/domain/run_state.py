"""What a run is doing, derived from its events alone; never stored, never guessed."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from trainer.protocol.events import (
    CheckpointRemoved,
    CheckpointSaved,
    CommandObeyed,
    Event,
    Hello,
    MemoryReport,
    Paused,
    Phase,
    PhaseFinished,
    PhaseProgress,
    PhaseStarted,
    PreviewSaved,
    RunFailed,
    RunFinished,
    StepDone,
    UnknownEvent,
    Unpaused,
    ValidationDone,
    Warned,
    WorkMeasured,
)
from trainer.protocol.job import PROTOCOL_VERSION, Expert


class Outcome(StrEnum):
    """Where a run stands."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    CRASHED = "crashed"


ENDED = frozenset({Outcome.COMPLETED, Outcome.STOPPED, Outcome.FAILED, Outcome.CRASHED})


@dataclass(frozen=True, slots=True)
class LossPoint:
    """Loss of one optimizer step.

    Attributes:
        timesteps: Where on the noise scale (0..1000) the step's samples lay.
        item_losses: The loss of each of them; empty when the trainer did not tell.
        preservation_loss: How far the LoRA moved what it should not; None where nothing was preserved.
    """

    step: int
    expert: Expert
    loss: float
    timesteps: tuple[float, ...] = ()
    item_losses: tuple[float, ...] = ()
    preservation_loss: float | None = None


@dataclass(frozen=True, slots=True)
class PhaseState:
    """How far a phase is; total 0 when its length is not known."""

    phase: Phase
    done: int = 0
    total: int = 0
    unit: str = ""
    seconds_left: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class RunState:
    """Everything that a screen shows of a run.

    Attributes:
        phases: Phases under way, outermost first (previews and saves happen inside training).
        finished_phases: Phases done, in order.
        measured: What each kind of work took, the latest of each, with the settings that the run has now.
        validations: Losses on the held-out clips, in order.
        answer: What the trainer said to the last command.
        summary: One sentence on how the run ended, or what stands in the way.
        hint: What to do about it.
        failure_kind: Stable name of why the run failed, e.g. "out_of_memory"; empty when it did not.
        remedy: The setting, `section.field=value`, that a resume is most worth a try with; empty for none.
        memory: Where GPU memory ran out, when the run failed for that; else None.
    """

    outcome: Outcome = Outcome.WAITING
    device: str = ""
    step: int = 0
    total_steps: int = 0
    expert: Expert | None = None
    learning_rate: float = 0.0
    seconds_per_step: float = 0.0
    seconds_left: float | None = None
    peak_vram_bytes: int = 0
    phases: tuple[PhaseState, ...] = ()
    finished_phases: tuple[Phase, ...] = ()
    losses: tuple[LossPoint, ...] = ()
    measured: tuple[WorkMeasured, ...] = ()
    validations: tuple[ValidationDone, ...] = ()
    checkpoints: tuple[CheckpointSaved, ...] = ()
    previews: tuple[PreviewSaved, ...] = ()
    warnings: tuple[Warned, ...] = ()
    answer: CommandObeyed | None = None
    summary: str = ""
    hint: str = ""
    failure_kind: str = ""
    remedy: str = ""
    memory: MemoryReport | None = None
    unknown_events: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come unless the run is resumed."""
        return self.outcome in ENDED

    def with_dead_trainer(self, log_tail: str) -> "RunState":
        """The state when the run's lock is free: without a last event, the trainer crashed."""
        if self.has_ended:
            # What came after the end, e.g. previews that were asked for later, ended with its process.
            return replace(self, phases=()) if self.phases else self
        if self.outcome is Outcome.WAITING and not log_tail:
            return self
        last_line = next((line for line in reversed(log_tail.splitlines()) if line.strip()), "")
        summary = f"The trainer ended without a word at step {self.step}."
        return replace(
            self,
            outcome=Outcome.CRASHED,
            phases=(),
            summary=f"{summary} Its last line was: {last_line.strip()}" if last_line else summary,
            hint="Resume goes on from the last checkpoint.",
        )


def apply_all(state: RunState, events: Iterable[Event | UnknownEvent]) -> RunState:
    """Apply events in order."""
    # Losses are joined at once: one by one, each of a long run's steps would copy all before it.
    losses: list[LossPoint] = []
    for event in events:
        if isinstance(event, StepDone):
            state = _stepped(state, event)
            losses.append(_loss_of(event))
            continue
        if losses and isinstance(event, Hello):
            state = replace(state, losses=(*state.losses, *losses))
            losses.clear()
        state = apply(state, event)
    return replace(state, losses=(*state.losses, *losses)) if losses else state


def apply(state: RunState, event: Event | UnknownEvent) -> RunState:
    """The state after one event."""
    match event:
        case Hello():
            return _greeted(state, event)
        case PhaseStarted():
            phase = PhaseState(event.phase, total=event.total, unit=event.unit)
            return replace(state, phases=(*_without(state.phases, event.phase), phase))
        case PhaseProgress():
            return replace(state, phases=_progressed(state.phases, event))
        case PhaseFinished():
            return replace(
                state,
                phases=_without(state.phases, event.phase),
                finished_phases=(*(p for p in state.finished_phases if p is not event.phase), event.phase),
            )
        case StepDone():
            return apply_all(state, [event])
        case CheckpointSaved() | CheckpointRemoved():
            return _with_checkpoint(state, event)
        case PreviewSaved() | Warned() | ValidationDone() | WorkMeasured() | CommandObeyed():
            return _noted(state, event)
        case Paused() | Unpaused() | RunFinished() | RunFailed():
            return _turned(state, event)
        case UnknownEvent():
            return replace(state, unknown_events=state.unknown_events + 1)
        case _:
            return state


def _greeted(state: RunState, event: Hello) -> RunState:
    """A trainer begins: at the start, or from a checkpoint, whose later steps are then undone."""
    hint = ""
    if event.protocol_version != PROTOCOL_VERSION:
        hint = (
            f"This run speaks protocol {event.protocol_version}, this app {PROTOCOL_VERSION}: "
            "some of it may not be shown. Use the version of Wan Studio that started it."
        )
    return replace(
        state,
        outcome=Outcome.RUNNING,
        device=event.device,
        step=event.first_step,
        total_steps=event.total_steps,
        seconds_left=None,
        phases=(),
        finished_phases=(),
        # A resumed run may have other settings of memory.
        measured=(),
        losses=tuple(point for point in state.losses if point.step <= event.first_step),
        validations=tuple(done for done in state.validations if done.step <= event.first_step),
        answer=None,
        summary="",
        hint=hint,
        failure_kind="",
        remedy="",
        memory=None,
    )


def _stepped(state: RunState, event: StepDone) -> RunState:
    return replace(
        state,
        step=event.step,
        expert=event.expert,
        learning_rate=event.learning_rate,
        seconds_per_step=event.seconds,
        seconds_left=event.seconds_left,
        peak_vram_bytes=event.peak_vram_bytes,
        phases=_progressed(
            state.phases,
            PhaseProgress(
                phase=Phase.TRAINING,
                done=event.step,
                total=state.total_steps,
                seconds_left=event.seconds_left,
            ),
        ),
    )


def _loss_of(event: StepDone) -> LossPoint:
    return LossPoint(
        event.step, event.expert, event.loss, event.timesteps, event.item_losses, event.preservation_loss
    )


def _with_checkpoint(state: RunState, event: CheckpointSaved | CheckpointRemoved) -> RunState:
    others = tuple(c for c in state.checkpoints if c.step != event.step)
    added = (event,) if isinstance(event, CheckpointSaved) else ()
    return replace(state, checkpoints=tuple(sorted((*others, *added), key=lambda c: c.step)))


def _noted(
    state: RunState, event: PreviewSaved | Warned | ValidationDone | WorkMeasured | CommandObeyed
) -> RunState:
    match event:
        case WorkMeasured():
            earlier = tuple(one for one in state.measured if one.subject != event.subject)
            return replace(state, measured=(*earlier, event))
        case PreviewSaved():
            others = tuple(p for p in state.previews if (p.step, p.row) != (event.step, event.row))
            return replace(state, previews=(*others, event))
        case Warned():
            return replace(state, warnings=(*state.warnings, event))
        case ValidationDone():
            return replace(state, validations=(*state.validations, event))
        case CommandObeyed():
            return replace(state, answer=event)


def _turned(state: RunState, event: Paused | Unpaused | RunFinished | RunFailed) -> RunState:
    match event:
        case Paused():
            return replace(state, outcome=Outcome.PAUSED, summary=event.reason or "Paused.")
        case Unpaused():
            return replace(state, outcome=Outcome.RUNNING, summary="", hint="")
        case RunFinished(reason="completed"):
            return replace(
                state, outcome=Outcome.COMPLETED, phases=(), seconds_left=0.0, summary="All steps are done."
            )
        case RunFinished():
            return replace(
                state,
                outcome=Outcome.STOPPED,
                phases=(),
                seconds_left=None,
                summary=f"Stopped at step {event.step}; its state is saved.",
                hint="Resume goes on from there.",
            )
        case RunFailed():
            return replace(
                state,
                outcome=Outcome.FAILED,
                phases=(),
                seconds_left=None,
                summary=event.message,
                hint=event.hint,
                failure_kind=event.kind,
                remedy=event.remedy,
                memory=event.memory,
            )


def _progressed(phases: tuple[PhaseState, ...], event: PhaseProgress) -> tuple[PhaseState, ...]:
    return tuple(
        replace(
            phase,
            done=event.done,
            total=event.total or phase.total,
            seconds_left=event.seconds_left,
            message=event.message,
        )
        if phase.phase is event.phase
        else phase
        for phase in phases
    )


def _without(phases: tuple[PhaseState, ...], phase: Phase) -> tuple[PhaseState, ...]:
    return tuple(state for state in phases if state.phase is not phase)
