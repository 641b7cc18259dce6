"""Which settings suit a machine and a data set, why, and what is missing when none do.

The order of what is wanted, as the guides have it: that the run fits with head-room; then the sizes and
frames that the goal wants; then speed. Three flavours weigh them differently.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, cast

from trainer.protocol.job import MINIATURE
from wan_studio.domain.calibration import CalibrationRecord
from wan_studio.domain.machine import GIB, Machine
from wan_studio.domain.memory_calibration import corrected_memory
from wan_studio.domain.model_sizes import base_sizes
from wan_studio.domain.plan_space import (
    BASE_RESOLUTION,
    ENOUGH_FRAMES,
    Changes,
    Layout,
    Limits,
    Wish,
    blocks_of,
    holds,
    layouts,
    limits,
    nested,
    quantizations,
    usable_resolutions,
    usual_frames,
    wishes,
)
from wan_studio.domain.project import Goal, Settings
from wan_studio.domain.speed_plan import PlannedRun, TimeForecast, forecast_time
from wan_studio.domain.vram_plan import MemoryForecast, MemoryModel, Part, Phase
from wan_studio.domain.workload import ClipExtent, ClipShape, Workload, workload_of

SLOW_STEP_SECONDS = 24.0
"""A run of 2000 steps that each take longer is not done overnight: then fewer frames are better."""
WANTED_FRAMES: Mapping[Goal, int] = {"motion": 41, "style": 33, "character": 41}
"""By goal, as the guides have it."""
_LAYOUTS_COMPARED = 3
"""Of the layouts that fit, the first ones are compared by time."""
_SWITCH_EVERY = (10, 20, 50)
_SWITCH_SHARE = 0.03
"""Of a step's time that switching between the experts may take."""
_PENALTY: Mapping[str, float] = {"nf4_recovered": 1.05, "nf4": 2.0}
"""Times faster that 4 bits must be to be worth their error: with recovery a fifth above that of 8 bits, without
three times as much."""


class Flavour(StrEnum):
    """What matters most."""

    BALANCED = "balanced"
    FASTEST = "fastest"
    SAFEST = "safest"


HEADROOM: Mapping[Flavour, float] = {Flavour.BALANCED: 0.05, Flavour.FASTEST: 0.03, Flavour.SAFEST: 0.12}
"""Share of the GPU's free memory that each leaves free."""


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What is missing for a plan, in bytes; 0 where enough is there.

    Attributes:
        vram: Of the GPU's memory.
        ram: Of RAM.
        disk: On the disk.
        why_not: Why the machine cannot run it whatever its size; else empty.
    """

    vram: int = 0
    ram: int = 0
    disk: int = 0
    why_not: str = ""

    @property
    def is_none(self) -> bool:
        """Whether the plan fits."""
        return not (self.vram or self.ram or self.disk or self.why_not)

    @property
    def total(self) -> int:
        """All that is missing."""
        return self.vram + self.ram + self.disk


@dataclass(frozen=True, slots=True)
class Judgement:
    """What settings take on a machine, and whether that fits.

    Attributes:
        settings: Those judged.
        workload: What they make of the clips.
        memory: Forecast.
        time: Forecast.
        limits: What they were held against; None without a GPU.
        missing: What is missing.
    """

    settings: Settings
    workload: Workload
    memory: MemoryForecast
    time: TimeForecast
    limits: Limits | None
    missing: Shortfall

    @property
    def fits(self) -> bool:
        """Whether it can run, with head-room."""
        return self.missing.is_none


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A plan.

    Attributes:
        flavour: What mattered.
        changes: Values of all planned fields by "section.field", whether or not the project has them.
        judgement: Of the project's settings with those values.
        least: What even the smallest plan lacks; none where the plan fits.
        also: Larger wishes that fit too, and what they take: not chosen, but possible.
    """

    flavour: Flavour
    changes: Changes
    judgement: Judgement
    least: Shortfall = field(default_factory=Shortfall)
    also: tuple[tuple[Wish, Judgement], ...] = ()

    @property
    def fits(self) -> bool:
        """Whether there is a plan that fits."""
        return self.judgement.fits

    @property
    def settings(self) -> Settings:
        """The project's settings with the plan's values."""
        return self.judgement.settings


@dataclass(frozen=True, slots=True)
class Planner:
    """Judges and recommends for one machine, goal and data set.

    Attributes:
        machine: What the run has to fit.
        goal: Of the project.
        clips: Those that train; empty where they are not known yet.
        measured: What was measured on the same GPU.
    """

    machine: Machine
    goal: Goal = "motion"
    clips: tuple[ClipExtent, ...] = ()
    measured: tuple[CalibrationRecord, ...] = ()

    def judge(
        self, settings: Settings, flavour: Flavour = Flavour.BALANCED, *, only_memory: bool = False
    ) -> Judgement:
        """What settings take here; a few tenths of a millisecond.

        Args:
            settings: To judge.
            flavour: Says how much head-room there must be.
            only_memory: Leave the time out where the memory does not suffice.
        """
        work = workload_of(settings, self.clips)
        memory = corrected_memory(self._model.forecast(settings, work), settings, self.measured)
        # The miniature is not what the time model counts; it takes minutes anywhere.
        is_small = settings.model.base == MINIATURE
        allowed = None if self.machine.gpu is None else limits(self.machine, HEADROOM[flavour])
        missing = Shortfall() if allowed is None else _shortfall(memory, allowed)
        if is_small or (only_memory and not missing.is_none):
            return Judgement(settings, work, memory, TimeForecast(), allowed, missing)
        time = forecast_time(PlannedRun(settings, work), self.machine, self.measured)
        return Judgement(settings, work, memory, time, allowed, replace(missing, why_not=time.why_not))

    def recommend(self, settings: Settings, flavour: Flavour = Flavour.BALANCED) -> Recommendation:
        """The best plan of a flavour, for a project with these settings; where none fits, the least one."""
        if settings.model.base == MINIATURE or self.machine.gpu is None:
            return Recommendation(flavour, {}, self.judge(settings, flavour))
        best: tuple[Changes, Judgement] | None = None
        least: Judgement | None = None
        for wish in self._wishes(settings, flavour):
            if best is not None and not self._is_better(wish, best[1]):
                continue
            found, closest = self._best_layout(settings, wish, flavour)
            if found is not None:
                best = found
            elif closest is not None and (least is None or closest.missing.total < least.missing.total):
                least = closest
        if best is None:
            assert least is not None
            return Recommendation(flavour, {}, least, least.missing)
        changes, judgement = self._finished(settings, best[0], flavour)
        also = () if flavour is Flavour.FASTEST else self._also(settings, changes, flavour)
        return Recommendation(flavour, changes, judgement, also=tuple(also))

    # ---- Search -------------------------------------------------------------------------------

    @property
    def _model(self) -> MemoryModel:
        gpu = self.machine.gpu
        return MemoryModel(2 if gpu is None or gpu.has_bfloat16 else 4, self.machine.is_windows)

    def _wishes(self, settings: Settings, flavour: Flavour) -> tuple[Wish, ...]:
        usable = usable_resolutions(settings, self.clips)
        chosen = [BASE_RESOLUTION]
        if flavour is Flavour.BALANCED:
            chosen += [side for side in usable[1:] if self._suits(settings, side)]
        return tuple(wishes(settings, self.clips, WANTED_FRAMES[self.goal], chosen))

    def _suits(self, settings: Settings, side: int) -> bool:
        """Whether a larger resolution is worth recommending: its activations fit beside one expert in 4 bits.

        Where they do not they can wait in RAM, and the size trains all the same; but a card of that memory
        takes long for it, so that is a choice and no advice.
        """
        frames = usual_frames(settings, self.clips, WANTED_FRAMES[self.goal])
        blocks = blocks_of(settings)
        plan: Changes = {
            **Layout(low_vram=True, resident=blocks).changes(blocks, blocks),
            "quantization.transformer": "nf4",
        }
        tried = settings.with_values(nested(plan))
        sizes = base_sizes(settings.model.base)
        needed = self._model.training(tried, sizes, ClipShape(side, side, frames)).total
        return needed <= limits(self.machine, HEADROOM[Flavour.BALANCED]).vram

    def _best_layout(
        self, settings: Settings, wish: Wish, flavour: Flavour
    ) -> tuple[tuple[Changes, Judgement] | None, Judgement | None]:
        """The fastest way to hold a wish; and the way that lacks least, where none fits."""
        candidates: list[tuple[float, Changes, Judgement]] = []
        closest: Judgement | None = None
        blocks, encoder = blocks_of(settings), self._text_encoder(settings, flavour)
        for mode in quantizations(self.machine):
            fitting = 0
            for layout in layouts(blocks, spend=flavour is Flavour.FASTEST):
                if not holds(mode, layout, blocks):
                    continue
                changes, judged = self._laid_out(settings, wish, layout, (mode, encoder), flavour)
                if not judged.fits:
                    if closest is None or judged.missing.total < closest.missing.total:
                        closest = judged
                    continue
                penalty = _PENALTY.get(mode, 1.0)
                # Of plans that take equally long the earlier one.
                order = 1.0 + 0.004 * fitting
                candidates.append((judged.time.step_seconds * penalty * order, changes, judged))
                fitting += 1
                if fitting == _LAYOUTS_COMPARED:
                    break
        if not candidates:
            return None, closest
        _, changes, judged = min(candidates, key=lambda one: one[0])
        return (changes, judged), closest

    def _laid_out(
        self, settings: Settings, wish: Wish, layout: Layout, modes: tuple[str, str], flavour: Flavour
    ) -> tuple[Changes, Judgement]:
        """A wish held in a way; `modes` store the experts and the text encoder."""
        blocks = blocks_of(settings)
        mode, encoder = modes
        resident = 0 if layout.resident is None else layout.resident
        changes: Changes = {
            **wish.changes,
            "quantization.transformer": mode,
            "quantization.text_encoder": encoder,
            "quantization.vae": "none",
            "sample.in_tiles": False,
            **layout.changes(blocks, resident),
        }
        judged = self.judge(settings.with_values(nested(changes)), flavour, only_memory=True)
        judged = self._with_smaller_pictures(settings, changes, judged, flavour)
        if layout.resident is None and judged.fits:
            # As many blocks as the rest of the memory holds, in whole twentieths of an expert.
            assert judged.limits is not None
            block = self._model.block_bytes(judged.settings, base_sizes(settings.model.base))
            spare = judged.limits.vram - judged.memory.training.total
            more = min(blocks - 2, int(spare // block)) // 2 * 2
            if more > 0:
                changes |= layout.changes(blocks, more)
                fuller = self.judge(settings.with_values(nested(changes)), flavour)
                if fuller.fits:
                    return changes, fuller
                changes |= layout.changes(blocks, 0)
        return changes, judged

    def _with_smaller_pictures(
        self, settings: Settings, changes: Changes, judged: Judgement, flavour: Flavour
    ) -> Judgement:
        """The same with a VAE of half the memory, and previews in tiles, where those alone do not fit."""
        room = limits(self.machine, HEADROOM[flavour]).vram

        def is_over(phase: Phase) -> bool:
            return any(one.total > room for one in judged.memory.of(phase))

        smaller: Changes = {}
        if is_over(Phase.LATENTS):
            smaller["quantization.vae"] = "bf16"
        if is_over(Phase.PREVIEW) and not is_over(Phase.TRAINING):
            smaller["sample.in_tiles"] = True
        if not smaller or is_over(Phase.TRAINING):
            return judged
        changes |= smaller
        return self.judge(settings.with_values(nested(changes)), flavour, only_memory=True)

    def _text_encoder(self, settings: Settings, flavour: Flavour) -> str:
        """Where captions are encoded: the most exact way that fits, on the GPU before the CPU."""
        room = limits(self.machine, HEADROOM[flavour])
        for mode in ("none", "float8"):
            tried = settings.with_values({"quantization": {"text_encoder": mode}})
            phases = self._model.forecast(tried, workload_of(tried, ())).of(Phase.TEXT)
            if all(one.total <= room.vram for one in phases):
                return mode
        return "cpu"

    def _finished(self, settings: Settings, changes: Changes, flavour: Flavour) -> tuple[Changes, Judgement]:
        """The rest of the plan: what does not decide whether it fits."""
        changes = {
            **changes,
            "training.batch_size": 1,
            "training.gradient_accumulation": 1,
            "target.rank": settings.target.rank,
            "model.compile": True,
        }

        def turning(every: int) -> Judgement:
            turns = changes | {"multistage.switch_every": every}
            return self.judge(settings.with_values(nested(turns)), flavour)

        allowed = (1.0 + _SWITCH_SHARE) * turning(1000).time.step_seconds
        cheap = (every for every in _SWITCH_EVERY if turning(every).time.step_seconds <= allowed)
        changes["multistage.switch_every"] = next(cheap, _SWITCH_EVERY[-1])
        return changes, turning(changes["multistage.switch_every"])

    def _also(
        self, settings: Settings, changes: Changes, flavour: Flavour
    ) -> Sequence[tuple[Wish, Judgement]]:
        """The next larger size, more frames, and a larger batch, each where it fits as well."""
        found: list[tuple[Wish, Judgement]] = []
        resolutions = tuple(changes["datasets.resolutions"])
        usable = usable_resolutions(settings, self.clips)
        larger = [side for side in usable if side > resolutions[-1]]
        frames = int(changes["datasets.num_frames"])
        tries: list[Wish] = []
        if larger:
            tries.append(Wish((*resolutions, larger[0]), frames))
        tries += [Wish(resolutions, more) for more in (41, 81) if more > frames]
        for wish in tries:
            if wish.frames > usual_frames(settings, self.clips, wish.frames):
                continue
            got, _ = self._best_layout(settings, wish, flavour)
            if got is not None:
                found.append((wish, got[1]))
        return found

    def _is_better(self, wish: Wish, best: Judgement) -> bool:
        """Whether a smaller wish is better than one that fits: where that takes too long for a night.

        Then sizes go first, and frames last: no further than what still teaches motion. Only plain steps are
        looked at; what preservation adds to them is the goal's own wish.
        """
        data, training = best.settings.datasets, best.settings.training
        preserved = int(training.diff_output_preservation) + int(training.blank_prompt_preservation)
        # A preserved prompt costs a forward pass more than the step itself, or about one and a quarter steps.
        if best.time.step_seconds / (1.0 + 1.25 * preserved) <= SLOW_STEP_SECONDS:
            return False
        if len(data.resolutions) > 1:
            return wish.frames == data.num_frames and len(wish.resolutions) < len(data.resolutions)
        is_enough = wish.frames == ENOUGH_FRAMES and wish.resolutions == data.resolutions
        return is_enough and data.num_frames > ENOUGH_FRAMES


def _shortfall(memory: MemoryForecast, allowed: Limits) -> Shortfall:
    pinned = memory.ram.of(Part.MASTERS) + memory.ram.of(Part.KEPT)
    over_ram = max(memory.ram.total - allowed.ram, pinned - allowed.pinned, 0)
    disk = 0 if allowed.disk is None else max(0, memory.disk.total + GIB - allowed.disk)
    return Shortfall(max(0, memory.peak.total - allowed.vram), over_ram, disk)


def values_of(settings: Settings, names: Sequence[str]) -> dict[str, Any]:
    """What settings have in the named fields."""
    found: dict[str, Any] = {}
    for name in names:
        section, _, field_name = name.partition(".")
        value = getattr(getattr(settings, section), field_name)
        found[name] = list(cast("tuple[Any, ...]", value)) if isinstance(value, tuple) else value
    return found


def applied(settings: Settings, recommendation: Recommendation) -> Settings:
    """The settings with a plan's values."""
    return settings.with_values(nested(recommendation.changes))
