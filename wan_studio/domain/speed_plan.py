"""How long a run takes and what each choice costs: seconds a step, and the hours of everything around the steps.

Computed from counted operations (`block_cost`) and the card's rates (`card_rates`) until the same machine was
measured; then measurements replace what was computed, or correct it (`calibration`).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from trainer.protocol.job import Expert
from wan_studio.domain.calibration import CalibrationRecord, Corrected, corrected_step
from wan_studio.domain.card_rates import Rates, rates_of
from wan_studio.domain.machine import Machine, PlannedGpu
from wan_studio.domain.project import Settings
from wan_studio.domain.run_overheads import (
    RunFacts,
    caching_seconds,
    compiling_seconds,
    loading_seconds,
    preview_round_seconds,
    preview_rounds,
    saving_seconds,
    validation_seconds,
)
from wan_studio.domain.step_plan import StepPlan, step_plan
from wan_studio.domain.step_time import StepTime, step_time
from wan_studio.domain.workload import BucketUse, ClipShape, Workload

Basis = Literal["measured", "scaled", "computed", "estimated"]
"""Measured on this machine; computed and corrected by other measurements on it; computed from the figures of the
card; or from those of another card."""

UNCERTAINTY: dict[Basis, float] = {"measured": 0.10, "scaled": 0.15, "computed": 0.25, "estimated": 0.50}
"""By how much the truth may be off, up and down, as a share."""

_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class BucketTime:
    """Steps of one clip size.

    Attributes:
        shape: Of the clips.
        share: Of all batches, 0..1.
        seconds: Of an optimizer step whose batches all have this size, switches of experts included.
        basis: Where they are from.
    """

    shape: ClipShape
    share: float
    seconds: float
    basis: Basis


@dataclass(frozen=True, slots=True)
class RunParts:
    """Seconds of a whole run, by what they are spent on; first the steps, then all that comes beside them.

    Attributes:
        training: All optimizer steps.
        previews: All rounds.
        validation: All measurements on held-out clips.
        saving: All checkpoints.
        caching: Latents and text, at the first start.
        loading: Reading the experts, and quantizing them at the first start.
        compiling: The first step of every size.
    """

    training: float = 0.0
    previews: float = 0.0
    validation: float = 0.0
    saving: float = 0.0
    caching: float = 0.0
    loading: float = 0.0
    compiling: float = 0.0

    @property
    def total(self) -> float:
        """All together."""
        beside = self.previews + self.validation + self.saving
        return self.training + beside + self.caching + self.loading + self.compiling


@dataclass(frozen=True, slots=True)
class TimeForecast:
    """How long a run takes.

    Attributes:
        why_not: Why it cannot run on this machine, a sentence; empty where it can.
        buckets: By clip size, the one with the most tokens first.
        parts: Seconds of the whole run.
        restart_seconds: To load at a later start, when the caches are there.
        basis: Where the seconds of a step are from: the least sure of its sizes.
        uncertainty: By how much the truth may be off, up and down, as a share of the whole.
        told: A sentence on where the figures are from.
    """

    why_not: str = ""
    buckets: tuple[BucketTime, ...] = ()
    parts: RunParts = field(default_factory=RunParts)
    restart_seconds: float = 0.0
    basis: Basis = "computed"
    uncertainty: float = UNCERTAINTY["computed"]
    told: str = ""

    @property
    def runs(self) -> bool:
        """Whether it can run at all."""
        return not self.why_not

    @property
    def step_seconds(self) -> float:
        """Mean of an optimizer step over all sizes, each as often as it comes."""
        return sum(use.share * use.seconds for use in self.buckets)

    @property
    def hours(self) -> float:
        """Of the whole run, from its first start."""
        return self.parts.total / _HOUR

    @property
    def hours_range(self) -> tuple[float, float]:
        """Between which hours the truth should lie."""
        return self.hours / (1 + self.uncertainty), self.hours * (1 + self.uncertainty)


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run as it is planned: its settings, and what they mean for its clips (`workload_of`)."""

    settings: Settings
    workload: Workload


@dataclass(frozen=True, slots=True)
class ChangeCost:
    """What one plan takes more or less than another."""

    before: TimeForecast
    after: TimeForecast

    @property
    def step_seconds(self) -> float:
        """Seconds that a step takes longer; below 0, shorter."""
        return self.after.step_seconds - self.before.step_seconds

    @property
    def hours(self) -> float:
        """Hours that the whole run takes longer; below 0, shorter."""
        return self.after.hours - self.before.hours

    @property
    def step_factor(self) -> float:
        """Times as long as before that a step takes; 1 where either cannot run."""
        comparable = self.before.step_seconds > 0 and self.after.step_seconds > 0
        return self.after.step_seconds / self.before.step_seconds if comparable else 1.0

    @property
    def words(self) -> str:
        """What it does to a step, for a sentence: "about doubles the step time"."""
        if self.after.why_not:
            return "cannot run on this machine"
        factor = self.step_factor
        if abs(factor - 1) < _UNNOTICED:
            return "leaves the step time as it is"
        for name, size in (("doubles", 2.0), ("triples", 3.0), ("halves", 0.5)):
            if abs(math.log(factor / size)) < _NEARLY:
                return f"about {name} the step time"
        if factor >= _MANY:
            return f"makes steps {factor:.0f} times as long"
        share = round(abs(factor - 1) * 100)
        return f"makes steps {share} % {'longer' if factor > 1 else 'shorter'}"


_UNNOTICED, _NEARLY, _MANY = 0.02, 0.12, 2.5


def why_mode_cannot_run(settings: Settings, gpu: PlannedGpu | None) -> str:
    """Why a card cannot compute what `quantization.transformer` asks for, a sentence; empty where it can."""
    if gpu is None:
        return "The A14B model needs an NVIDIA GPU to train."
    rates = rates_of(gpu)
    if settings.quantization.transformer == "float8_compute" and not rates.eighth:
        return (
            "Multiplying in 8 bits (float8_compute) needs a card of the RTX 40 series or newer; "
            "float8 stores in 8 bits and computes in 16."
        )
    return ""


def step_seconds(
    settings: Settings, shape: ClipShape, gpu: PlannedGpu, expert: Expert = Expert.HIGH
) -> StepTime | None:
    """An expert's optimizer step as it is computed, without measurements; None where the card cannot run it.

    Args:
        settings: Of the run.
        shape: Of all its clips.
        gpu: What it runs on.
        expert: Whose; the two differ where their ranks do.
    """
    if why_mode_cannot_run(settings, gpu):
        return None
    return step_time(step_plan(settings, expert), shape, settings.training.batch_size, rates_of(gpu))


def steps_by_expert(settings: Settings) -> dict[Expert, int]:
    """Optimizer steps of each expert: its share of the turns, and no more than its own limit."""
    stages, steps = settings.multistage, settings.training.steps
    most_high = steps if stages.high_steps is None else stages.high_steps
    most_low = steps if stages.low_steps is None else stages.low_steps
    if stages.stages == "high":
        return {Expert.HIGH: min(steps, most_high), Expert.LOW: 0}
    if stages.stages == "low":
        return {Expert.HIGH: 0, Expert.LOW: min(steps, most_low)}
    high = min(round(steps * stages.high_share), most_high)
    low = min(steps - high, most_low)
    # When one has all its steps, the turns that are left are the other's.
    return {Expert.HIGH: min(steps - low, most_high), Expert.LOW: low}


def forecast_time(
    run: PlannedRun, machine: Machine, measured: Sequence[CalibrationRecord] = ()
) -> TimeForecast:
    """Forecast a run of the A14B model, from its first start to its last checkpoint.

    Args:
        run: What is planned.
        machine: What it runs on.
        measured: Measurements on the same GPU (`Calibration.of_gpu`).
    """
    settings, gpu = run.settings, machine.gpu
    why_not = why_mode_cannot_run(settings, gpu)
    if gpu is None or why_not:
        return TimeForecast(why_not=why_not)
    steps = _Steps(run, rates_of(gpu), tuple(measured))
    buckets = tuple(steps.bucket(use) for use in run.workload.buckets)
    beside = RunFacts(
        settings, run.workload, steps.rates, steps.plans, steps.counts, steps.measured_factor(buckets)
    )
    parts = RunParts(
        training=steps.training_seconds(buckets),
        previews=preview_rounds(beside) * preview_round_seconds(beside),
        validation=validation_seconds(beside),
        saving=saving_seconds(beside),
        caching=caching_seconds(beside),
        loading=loading_seconds(beside, is_first=True),
        compiling=compiling_seconds(beside),
    )
    basis = _least_sure(use.basis for use in buckets)
    return TimeForecast(
        buckets=buckets,
        parts=parts,
        restart_seconds=loading_seconds(beside, is_first=False),
        basis=basis,
        uncertainty=_uncertainty(parts, basis, steps.rates),
        told=_told(basis, steps.rates),
    )


def cost_of(
    before: PlannedRun, after: PlannedRun, machine: Machine, measured: Sequence[CalibrationRecord] = ()
) -> ChangeCost:
    """What a change of plan costs, in seconds a step and hours."""
    return ChangeCost(forecast_time(before, machine, measured), forecast_time(after, machine, measured))


class _Steps:
    """The optimizer steps of a run on a card.

    Attributes:
        rates: Of the card.
        plans: How each expert computes.
        counts: Steps of each.
    """

    def __init__(self, run: PlannedRun, rates: Rates, measured: tuple[CalibrationRecord, ...]) -> None:
        self.rates = rates
        self.plans = {expert: step_plan(run.settings, expert) for expert in Expert}
        self.counts = steps_by_expert(run.settings)
        self._measured = measured
        self._settings = run.settings
        self._batch = run.settings.training.batch_size
        self._total = sum(self.counts.values())

    def bucket(self, use: BucketUse) -> BucketTime:
        """Steps of one size: the mean over both experts, and what switching between them adds."""
        found = {expert: self._corrected(expert, use.shape) for expert in self._trained}
        seconds = sum(self._part(expert) * found[expert].seconds for expert in found)
        bases: list[Basis] = [one.basis for one in found.values()]
        if self.rates.is_estimate and "computed" in bases:
            bases.append("estimated")
        return BucketTime(use.shape, use.share, seconds + self._switch_seconds(use.shape), _least_sure(bases))

    def measured_factor(self, buckets: Sequence[BucketTime]) -> float:
        """Times as long as computed that steps take, by the measurements; 1 without any."""
        computed = sum(
            use.share
            * (
                sum(
                    self._part(expert) * self._computed(expert, use.shape).seconds for expert in self._trained
                )
                + self._switch_seconds(use.shape)
            )
            for use in buckets
        )
        return sum(use.share * use.seconds for use in buckets) / computed if computed else 1.0

    def training_seconds(self, buckets: Sequence[BucketTime]) -> float:
        """All steps; with an expert on each of two GPUs, those of the expert that takes longer."""
        if not self._are_apart:
            return self._total * sum(use.share * use.seconds for use in buckets)
        return max(
            self.counts[expert]
            * sum(use.share * self._corrected(expert, use.shape).seconds for use in buckets)
            for expert in self._trained
        )

    @property
    def _trained(self) -> list[Expert]:
        return [expert for expert, count in self.counts.items() if count]

    @property
    def _are_apart(self) -> bool:
        job = self._settings.job
        return job.gpu_share == "experts" and bool(job.more_gpus) and len(self._trained) > 1

    def _part(self, expert: Expert) -> float:
        return self.counts[expert] / self._total

    def _computed(self, expert: Expert, shape: ClipShape) -> StepTime:
        return step_time(self.plans[expert], shape, self._batch, self.rates)

    def _corrected(self, expert: Expert, shape: ClipShape) -> Corrected:
        plan = self.plans[expert]
        return corrected_step(self._measured, plan, shape, self._batch, self._compute)

    def _compute(self, plan: StepPlan, shape: ClipShape, batch: int) -> float:
        return step_time(plan, shape, batch, self.rates).seconds

    def _switch_seconds(self, shape: ClipShape) -> float:
        """What switches add to a step on average: to each turn of the rarer expert, and back."""
        if self._are_apart or len(self._trained) < 2:
            return 0.0
        rarer = min(self._part(expert) for expert in self._trained)
        switches = 2 * rarer / self._settings.multistage.switch_every
        return switches * self._computed(Expert.HIGH, shape).switch


def _least_sure(bases: Iterable[Basis]) -> Basis:
    return max(bases, key=lambda one: UNCERTAINTY[one])


def _uncertainty(parts: RunParts, basis: Basis, rates: Rates) -> float:
    """That of the steps and of all that follows from them; the rest is never more than computed."""
    beside = UNCERTAINTY["estimated" if rates.is_estimate else "computed"]
    training = parts.training + parts.previews + parts.validation
    return (UNCERTAINTY[basis] * training + beside * (parts.total - training)) / parts.total


def _told(basis: Basis, rates: Rates) -> str:
    slow = "" if rates.has_bfloat16 else " It has no bf16 and computes in 32 bits, several times as long."
    if basis == "measured":
        return "Measured on this machine."
    if basis == "scaled":
        return "Computed, and corrected by what was measured on this machine."
    return rates.told + slow
