"""What the user should know of a machine at work: heat, throttling, VRAM that is taken, memory that spills."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from wan_studio.domain.hardware import (
    THERMAL_REASONS,
    GpuProcess,
    GpuSnapshot,
    GpuState,
    HardwareSnapshot,
    ThrottleReason,
)
from wan_studio.domain.machine import GIB

HOT_MARGIN_CELSIUS = 3
FULL_SHARE = 0.98
SLOW_FACTOR = 2.0
TAKEN_BYTES, TAKEN_SHARE = GIB, 0.08
"""Other programs' VRAM is told of from here on, whichever is more: a desktop alone takes less."""

HELD_SAMPLES = 10
"""Heat and throttling come and go within seconds; they are told of until they were gone for this many samples."""
LASTING_SAMPLES = 3
"""What a program that starts and ends at once does to the memory is not worth a word."""

PACE_STEPS, FEWEST_PACE_STEPS = 200, 5


class AlertKind(StrEnum):
    """What an alert is about."""

    GPU_UNUSABLE = "GPU unusable"
    HOT = "hot"
    THROTTLED = "throttled"
    VRAM_TAKEN = "VRAM taken"
    SPILLING = "spilling"


class AlertLevel(StrEnum):
    """A warning costs time or room; a problem ends or cripples a run."""

    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that the user should know.

    Attributes:
        short: A few words for the strip.
        text: One sentence.
        hint: What to do about it.
    """

    kind: AlertKind
    level: AlertLevel
    gpu_index: int
    short: str
    text: str
    hint: str


@dataclass(frozen=True, slots=True)
class TrainingNow:
    """What is known of our own training while the machine is looked at.

    Attributes:
        is_running: Whether a trainer of ours is at work, also one that renders previews.
        own_pids: Its processes.
        step_seconds: The last step's duration; None before there is one.
        usual_step_seconds: The median of this run's steps; None before there are enough.
    """

    is_running: bool = False
    own_pids: frozenset[int] = frozenset()
    step_seconds: float | None = None
    usual_step_seconds: float | None = None

    @property
    def is_slow(self) -> bool:
        """Whether the last step took twice the usual time or more."""
        if not self.step_seconds or not self.usual_step_seconds:
            return False
        return self.step_seconds >= SLOW_FACTOR * self.usual_step_seconds


class StepPace:
    """How long a run's steps take: the last one, and usually."""

    def __init__(self) -> None:
        self._step = 0
        self._seconds: deque[float] = deque(maxlen=PACE_STEPS)

    def add(self, step: int, seconds: float) -> None:
        """Take one step's duration; a step that was added already, or 0 seconds, counts for nothing."""
        if step != self._step and seconds > 0:
            self._step = step
            self._seconds.append(seconds)

    @property
    def last(self) -> float | None:
        """Of the last step, seconds; None before the first."""
        return self._seconds[-1] if self._seconds else None

    @property
    def usual(self) -> float | None:
        """The median of the last `PACE_STEPS`, seconds; None before there are `FEWEST_PACE_STEPS`."""
        return median(self._seconds) if len(self._seconds) >= FEWEST_PACE_STEPS else None


_NO_TRAINING = TrainingNow()


def alerts_of(
    snapshot: HardwareSnapshot,
    before: Sequence[HardwareSnapshot] = (),
    training: TrainingNow = _NO_TRAINING,
) -> tuple[Alert, ...]:
    """Everything worth a word, problems first.

    Args:
        snapshot: The machine now.
        before: Earlier snapshots, oldest first, a second apart; the last `HELD_SAMPLES` count.
        training: What our own trainer does meanwhile.
    """
    found: list[Alert] = []
    for gpu in snapshot.gpus:
        if not gpu.is_ready:
            # It tells little, and nothing trains on it.
            found += _unusable(gpu)
            continue
        earlier = [one for past in before[-HELD_SAMPLES:] for one in past.gpus if one.uuid == gpu.uuid]
        alerts = (
            _heat(gpu, earlier),
            _throttling(gpu, earlier),
            _taken(gpu, earlier, training),
            _spilling(gpu, earlier, training) if snapshot.is_windows or snapshot.is_wsl else None,
        )
        found += [alert for alert in alerts if alert is not None]
    return tuple(sorted(found, key=lambda alert: alert.level is not AlertLevel.PROBLEM))


def _unusable(gpu: GpuSnapshot) -> list[Alert]:
    # MIG and permissions are how somebody set the machine up; these happen to it.
    shorts = {
        GpuState.LOST: "GPU lost",
        GpuState.NEEDS_RESET: "GPU needs a restart",
        GpuState.NO_ANSWER: "GPU does not answer",
    }
    short = shorts.get(gpu.state)
    if short is None:
        return []
    return [Alert(AlertKind.GPU_UNUSABLE, AlertLevel.PROBLEM, gpu.index, short, *gpu.words)]


def _heat(gpu: GpuSnapshot, earlier: Sequence[GpuSnapshot]) -> Alert | None:
    shots = (*earlier, gpu)
    is_slowed = any(_reasons(one) & THERMAL_REASONS for one in shots)
    if not is_slowed and not any(_is_near_limit(one) for one in shots):
        return None
    told = [one.temperature_celsius for one in shots if one.temperature_celsius is not None]
    heat = f" {told[-1]} °C" if told else ""
    limit = "" if gpu.slowdown_celsius is None else f", and slows itself down at {gpu.slowdown_celsius} °C"
    is_severe = any(ThrottleReason.HARDWARE_THERMAL in _reasons(one) for one in shots)
    if is_slowed:
        short, text = f"GPU slowed by heat{heat}", f"{gpu.label} slows down because of heat"
        text += f": it has{heat}{limit}." if heat else "."
    else:
        short, text = f"GPU hot{heat}", f"{gpu.label} has{heat}{limit}."
    return Alert(
        AlertKind.HOT,
        AlertLevel.PROBLEM if is_severe else AlertLevel.WARNING,
        gpu.index,
        short,
        text,
        "Let air reach the case and clean the fans. A lower power limit (nvidia-smi -pl WATTS) keeps it cooler.",
    )


def _throttling(gpu: GpuSnapshot, earlier: Sequence[GpuSnapshot]) -> Alert | None:
    shots = (*earlier, gpu)
    # Hardware slowdown is also set together with heat, which has an alert of its own.
    is_braked = any(ThrottleReason.POWER_BRAKE in _reasons(one) for one in shots)
    is_slowed = any(
        ThrottleReason.HARDWARE_SLOWDOWN in _reasons(one) and not _reasons(one) & THERMAL_REASONS
        for one in shots
    )
    if not is_braked and not is_slowed:
        return None
    cause = "the power supply asks for it" if is_braked else "it draws too much power or its supply falters"
    return Alert(
        AlertKind.THROTTLED,
        AlertLevel.PROBLEM,
        gpu.index,
        "GPU slowed by its power",
        f"{gpu.label} runs at half its clock or less because {cause}.",
        "Check the GPU's power cables and the power supply; a lower power limit (nvidia-smi -pl WATTS) helps meanwhile.",
    )


def _taken(gpu: GpuSnapshot, earlier: Sequence[GpuSnapshot], training: TrainingNow) -> Alert | None:
    shots = (*earlier[-(LASTING_SAMPLES - 1) :], gpu)
    if not all(_taken_bytes(one, training) >= _threshold(one) for one in shots):
        return None
    size = f"{_taken_bytes(gpu, training) / GIB:.1f} GB"
    others = _others(gpu, training)
    known = [one for one in others if one.vram_bytes]
    hint = "Close what is not needed, or choose settings for the memory that is left."
    if known:
        largest = max(known, key=lambda one: one.vram_bytes or 0)
        more = "" if len(known) == 1 else f" and {len(known) - 1} more"
        verb = "holds" if len(known) == 1 else "hold"
        text = f"{largest.words}{more} {verb} {size} of the VRAM of {gpu.label}."
        return _vram_alert(gpu, f"{largest.name or 'Another program'} holds {size} VRAM", text, hint)
    names = ", ".join(dict.fromkeys(one.name for one in others if one.name))
    who = f" Programs on it: {names}." if names else ""
    why = "Windows does not tell by which" if gpu.is_wddm else "the driver does not tell by which"
    text = f"{size} of the VRAM of {gpu.label} are taken by other programs; {why}.{who}"
    return _vram_alert(gpu, f"{size} VRAM taken", text, hint)


def _vram_alert(gpu: GpuSnapshot, short: str, text: str, hint: str) -> Alert:
    return Alert(AlertKind.VRAM_TAKEN, AlertLevel.WARNING, gpu.index, short, text, hint)


def _spilling(gpu: GpuSnapshot, earlier: Sequence[GpuSnapshot], training: TrainingNow) -> Alert | None:
    shots = (*earlier[-(LASTING_SAMPLES - 1) :], gpu)
    if not training.is_slow or not all(one.vram_share >= FULL_SHARE for one in shots):
        return None
    return Alert(
        AlertKind.SPILLING,
        AlertLevel.PROBLEM,
        gpu.index,
        "VRAM spills into RAM",
        f"The VRAM of {gpu.label} is full, and a step takes {training.step_seconds:.1f} s instead of "
        f"{training.usual_step_seconds:.1f} s: Windows has moved a part of it into shared memory, which is RAM.",
        "Close other programs, or resume with more layer offloading. In NVIDIA's control panel, CUDA - Sysmem Fallback "
        "Policy can forbid it for Python.",
    )


def _reasons(gpu: GpuSnapshot) -> frozenset[ThrottleReason]:
    return gpu.throttle_reasons or frozenset()


def _is_near_limit(gpu: GpuSnapshot) -> bool:
    if gpu.temperature_celsius is None or gpu.slowdown_celsius is None:
        return False
    return gpu.temperature_celsius >= gpu.slowdown_celsius - HOT_MARGIN_CELSIUS


def _others(gpu: GpuSnapshot, training: TrainingNow) -> list[GpuProcess]:
    others = [one for one in gpu.processes or () if one.pid not in training.own_pids]
    # In a container the driver gives the host's numbers of processes, our trainer's too, and no names with them.
    return [one for one in others if one.name] if training.is_running else others


def _taken_bytes(gpu: GpuSnapshot, training: TrainingNow) -> int:
    """What others hold; where the driver does not list them, all that is used while nothing of ours runs."""
    known = sum(one.vram_bytes or 0 for one in _others(gpu, training))
    return known if known or training.is_running else gpu.vram_used_bytes or 0


def _threshold(gpu: GpuSnapshot) -> float:
    return max(TAKEN_BYTES, TAKEN_SHARE * (gpu.vram_total_bytes or 0))
