"""How a plan's figures are put into words."""

from wan_studio.domain.machine import Machine
from wan_studio.domain.recommend import Flavour, Judgement, Shortfall
from wan_studio.domain.speed_plan import UNCERTAINTY
from wan_studio.domain.vram_plan import PhaseMemory
from wan_studio.views.wording import gib

FLAVOUR_NAMES: dict[Flavour, str] = {
    Flavour.BALANCED: "Balanced (recommended)",
    Flavour.FASTEST: "Fastest that fits",
    Flavour.SAFEST: "Safest",
}
NOT_KNOWN = "not known"


def when(phase: PhaseMemory) -> str:
    """In which phase, and at which size: "while training 512 x 512, 41 frames"."""
    words = {"training": "while training", "previews": "while previewing"}.get(
        phase.phase, f"while {phase.phase}"
    )
    return words if phase.shape is None else f"{words} {phase.shape}"


def vram_words(judgement: Judgement, machine: Machine) -> str:
    """The peak with its error, and what is free."""
    peak = judgement.memory.peak
    error = gib(judgement.memory.error * peak.total)
    free = "" if machine.gpu is None else f"; {gib(machine.gpu.free_bytes)} are free"
    return f"Peak {gib(peak.total, unit=False)} ± {error} {when(peak)}{free}"


def ram_words(judgement: Judgement, machine: Machine) -> str:
    """The same of RAM."""
    ram = judgement.memory.ram
    return f"Peak {gib(ram.total)} {when(ram)}; {gib(machine.ram_available_bytes)} are free"


def step_words(judgement: Judgement) -> str:
    """Seconds of a step, as a range."""
    time = judgement.time
    if not time.runs or not time.buckets:
        return NOT_KNOWN
    off = 1 + UNCERTAINTY[time.basis]
    return _range(time.step_seconds / off, time.step_seconds * off, "s")


def hours_words(judgement: Judgement) -> str:
    """Hours of the whole run, as a range; minutes below one hour."""
    time = judgement.time
    if not time.runs or not time.buckets:
        return NOT_KNOWN
    least, most = time.hours_range
    return _range(60 * least, 60 * most, "min") if most < 1.5 else _range(least, most, "h")


def told_words(judgement: Judgement) -> str:
    """Where the figures are from."""
    memory = (
        "Memory as measured on this machine."
        if judgement.memory.is_measured
        else "Memory computed from the shapes of all tensors."
    )
    time = judgement.time
    return f"{memory} {f'Time: {time.told[0].lower()}{time.told[1:]}' if time.told else time.why_not}".strip()


def missing_words(missing: Shortfall) -> str:
    """What is missing, a sentence; empty where nothing is."""
    if missing.why_not:
        return missing.why_not
    told = (("VRAM", missing.vram), ("RAM", missing.ram), ("disk space", missing.disk))
    sizes = [f"{gib(size)} of {name}" for name, size in told if size]
    return f"It does not fit: {' and '.join(sizes)} too little." if sizes else ""


def _range(least: float, most: float, unit: str) -> str:
    first, last = _figure(least), _figure(most)
    return f"{first} {unit}" if first == last else f"{first} to {last} {unit}"


def _figure(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
