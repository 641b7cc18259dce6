"""What to go on with when memory ran out: the next plan that fits, by rungs, the least harm first."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from trainer.protocol.events import MemoryReport
from trainer.protocol.memory_settings import MEMORY_SETTINGS
from wan_studio.domain.ladder_rungs import Choice, Rung, choices_of
from wan_studio.domain.machine import GIB
from wan_studio.domain.memory_constants import CONTEXT_BYTES
from wan_studio.domain.plan_reasons import ways_out
from wan_studio.domain.plan_space import Changes, nested
from wan_studio.domain.project import Settings
from wan_studio.domain.recommend import Judgement, Planner
from wan_studio.domain.vram_plan import Phase

_TRAINING = tuple(rung for rung in Rung if rung not in (Rung.TEXT, Rung.VAE, Rung.PREVIEWS))
_RUNGS_FOR = {
    "caching_text": (Rung.TEXT,),
    "caching_latents": (Rung.VAE, Rung.BUCKET),
    "previewing": (Rung.PREVIEWS, Rung.VAE),
    "loading": (Rung.BLOCKS, Rung.EIGHT_BITS, Rung.FOUR_BITS),
}
"""By a report's `doing`; what is not named here is a lack in training."""
_PHASE_FOR = {
    "caching_text": Phase.TEXT,
    "caching_latents": Phase.LATENTS,
    "previewing": Phase.PREVIEW,
}


@dataclass(frozen=True, slots=True)
class NextPlan:
    """The plan to go on with.

    Attributes:
        rungs: That it takes.
        changes: New values by "section.field".
        words: What is changed, to follow "with".
        judgement: Of the settings with those values.
        forecast: What it is forecast to take, a clause; empty where that cannot be told.
    """

    rungs: tuple[Rung, ...]
    changes: Changes
    words: str
    judgement: Judgement
    forecast: str = ""

    @property
    def resumes(self) -> bool:
        """Whether the run can go on with it; else a new one has to start from its last LoRA."""
        return all(name in MEMORY_SETTINGS for name in self.changes)

    @property
    def assignments(self) -> tuple[str, ...]:
        """The changes as `section.field=value`."""
        return tuple(f"{name}={_as_text(value)}" for name, value in self.changes.items())

    @property
    def change(self) -> str:
        """What is changed and what it is forecast to take, a sentence."""
        forecast = f", forecast to take {self.forecast}" if self.forecast else ""
        return f"{self.words[:1].upper()}{self.words[1:]}{forecast}."

    @property
    def sentence(self) -> str:
        """The same, for a run that has begun."""
        way = "" if self.resumes else " A new run starts from the last checkpoint's LoRA."
        return f"{self.change}{way}"


def next_plan(
    settings: Settings, memory: MemoryReport, planner: Planner, tried: Collection[str] = ()
) -> NextPlan | None:
    """The next plan that should fit; None where no rung is left.

    First the rungs that the run can resume with, each alone and then together; then the others, alone and on
    top of them. On a machine whose memory is not known the first rung is taken.

    Args:
        settings: That did not fit.
        memory: What ran out.
        planner: For the machine as it is now, without the failed process; its measurements have the failure.
        tried: Rungs that this run has taken.
    """
    doing = memory.doing
    rungs = [rung for rung in _RUNGS_FOR.get(doing, _TRAINING) if rung not in tried]
    choices = {rung: tuple(choices_of(rung, settings, planner.machine)) for rung in rungs}
    chains = [made for made in choices.values() if made]
    resuming = [chain for chain in (_resuming(made) for made in chains) if chain]
    harder = [chain for chain in (_changing(made) for made in chains) if chain]
    test = _Test(settings, memory, _after(planner, memory))
    most = tuple(chain[-1] for chain in resuming)
    tries = [
        *_alone(resuming),
        *_together(resuming),
        *_alone(harder),
        *((*most, *more) for more in (*_alone(harder), *_together(harder)) if most),
    ]
    return next((plan for plan in map(test.plan_of, tries) if plan is not None), None)


def ways_left(settings: Settings, planner: Planner) -> tuple[str, ...]:
    """When no rung is left: what else helps, a sentence each."""
    if planner.machine.gpu is None:
        return ("Nothing is left to set against it: use a machine with more memory.",)
    plan = planner.recommend(settings)
    if plan.fits:
        return (
            "Close other programs that use the GPU, and start a new run with the plan that the Hardware page "
            "recommends.",
        )
    return ways_out(planner, plan)


def shortage_words(memory: MemoryReport) -> str:
    """What ran out, in a sentence: in which work, at which size, and how many bytes."""
    work = _DOING_WORDS.get(memory.doing, "in this run")
    expert = f" of the {memory.expert.value.replace('_', '-')} expert" if memory.expert else ""
    many = f"{memory.batch} clips of " if memory.batch > 1 else ""
    frames = f", {memory.frames} frames" if memory.frames else ""
    size = f" at {many}{memory.width} x {memory.height}{frames}" if memory.width else ""
    wanted = f"{_size(memory.needed_bytes)} more" if memory.needed_bytes else "more"
    held = f" beside {_size(memory.reserved_bytes)} held" if memory.reserved_bytes else ""
    total = f" of {_size(memory.total_bytes)}" if memory.total_bytes else ""
    own = f" Other programs and the driver hold {_size(memory.others_bytes)}." if memory.others_bytes else ""
    return f"GPU memory ran out {work}{expert}{size}: {wanted} was wanted{held}{total}.{own}"


_DOING_WORDS = {
    "loading": "while the model was loaded",
    "caching_text": "while captions were cached",
    "caching_latents": "while clips were cached",
    "forward": "in the forward pass",
    "backward": "in the backward pass",
    "update": "while the optimizer took its step",
    "validating": "in the validation",
    "previewing": "while a preview was rendered",
}


class _Test:
    """Whether a choice should fit where the settings did not."""

    def __init__(self, settings: Settings, memory: MemoryReport, planner: Planner) -> None:
        self._settings = settings
        self._planner = planner
        self._phase = _PHASE_FOR.get(memory.doing, Phase.TRAINING)
        self._surplus = self._missed_by(memory)

    def plan_of(self, choices: Sequence[Choice]) -> NextPlan | None:
        """The plan of these choices together; None where it does not fit."""
        changes: Changes = {}
        for choice in choices:
            changes |= choice.changes
        judged = self._planner.judge(self._settings.with_values(nested(changes)))
        gpu = self._planner.machine.gpu
        if judged.missing.ram or (gpu is not None and judged.missing.why_not):
            return None
        forecast = ""
        if judged.limits is not None and gpu is not None:
            peak = max((one.total for one in judged.memory.of(self._phase)), default=0) + self._surplus
            if peak > judged.limits.vram:
                return None
            pace = f" and {judged.time.step_seconds:.1f} s a step" if judged.time.buckets else ""
            forecast = f"{peak / GIB:.1f} of {gpu.free_bytes / GIB:.1f} GiB{pace}"
        rungs = tuple(dict.fromkeys(choice.rung for choice in choices))
        return NextPlan(rungs, changes, _listed([choice.words for choice in choices]), judged, forecast)

    def _missed_by(self, memory: MemoryReport) -> int:
        """By how many bytes the forecast was too low: what was overlooked there may be missing elsewhere."""
        if not memory.reserved_bytes:
            return 0
        computed = replace(self._planner, measured=()).judge(self._settings, only_memory=True).memory
        size = (memory.width, memory.height, memory.frames)
        phases = computed.of(self._phase)
        own = [
            one
            for one in phases
            if one.shape and (one.shape.width, one.shape.height, one.shape.frames) == size
        ]
        expected = max((one.reserved for one in own or phases), default=0)
        return max(0, memory.reserved_bytes + (memory.needed_bytes or 0) - expected) if expected else 0


def _after(planner: Planner, memory: MemoryReport) -> Planner:
    """The planner, for a GPU of which no more is free than was when memory ran out."""
    gpu = planner.machine.gpu
    if gpu is None or memory.total_bytes is None or memory.others_bytes is None:
        return planner
    # What is others' has our own CUDA context in it, which forecasts count as ours.
    free = memory.total_bytes - max(0, memory.others_bytes - CONTEXT_BYTES)
    gpu = replace(gpu, free_bytes=min(gpu.free_bytes, free))
    return replace(planner, machine=replace(planner.machine, gpu=gpu))


def _resuming(chain: Sequence[Choice]) -> tuple[Choice, ...]:
    return tuple(choice for choice in chain if all(name in MEMORY_SETTINGS for name in choice.changes))


def _changing(chain: Sequence[Choice]) -> tuple[Choice, ...]:
    return tuple(choice for choice in chain if not all(name in MEMORY_SETTINGS for name in choice.changes))


def _alone(chains: Sequence[Sequence[Choice]]) -> list[tuple[Choice, ...]]:
    return [(choice,) for chain in chains for choice in chain]


def _together(chains: Sequence[Sequence[Choice]]) -> list[tuple[Choice, ...]]:
    """Two of them, three and so on, from the first: all but the last as far as they go."""
    return [
        (*(before[-1] for before in chains[:at]), choice)
        for at, chain in enumerate(chains)
        if at
        for choice in chain
    ]


def _as_text(value: object) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _size(size: int) -> str:
    return f"{size / GIB:.2f} GiB" if size >= GIB // 100 else f"{size:,} bytes"
