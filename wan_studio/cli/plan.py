"""`plan`: the settings that suit a machine, why, and what they take; on a terminal or as JSON."""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from wan_studio.cli.console import EXIT_BAD_INPUT, EXIT_DONE, complain, say
from wan_studio.domain.cards import card_named
from wan_studio.domain.hardware import DiskUse, machine_of
from wan_studio.domain.machine import GIB, Machine, PlannedGpu
from wan_studio.domain.plan_reasons import notes, reasons, ways_out
from wan_studio.domain.plan_space import blocks_of
from wan_studio.domain.project import Project
from wan_studio.domain.recommend import Flavour, Planner, Recommendation
from wan_studio.domain.workload import ClipExtent, clip_extents
from wan_studio.errors import AppError
from wan_studio.paths import default_projects_folder
from wan_studio.services.calibration_store import load_calibration
from wan_studio.services.clip_import import import_clips
from wan_studio.services.hardware_probe import HardwareProbe
from wan_studio.services.job_preparation import probe_clips
from wan_studio.services.preset_store import settings_for

EXIT_NOTHING_FITS = 3
REAL_MODEL = "Wan-AI/Wan2.2-I2V-A14B-Diffusers"
"""Stands for any A14B: a plan does not depend on the file layout."""
DESKTOP_BYTES = round(0.6 * GIB)
"""Of a card that is not this machine's: what a driver and a desktop take of it."""
SYSTEM_BYTES = 3 * GIB
"""And of RAM what a system and its desktop take."""

_FIELDS = {
    "model.low_vram": "low_vram",
    "model.layer_offloading": "layer_offloading",
    "model.checkpoint_offloading": "checkpoint_offloading",
    "model.feed_forward_chunks": "feed_forward_chunks",
    "quantization.transformer": "transformer_quantization",
    "quantization.text_encoder": "text_encoder_quantization",
    "quantization.vae": "vae_quantization",
    "sample.in_tiles": "previews_in_tiles",
    "datasets.resolutions": "resolutions",
    "datasets.num_frames": "num_frames",
    "multistage.switch_every": "switch_every",
    "training.batch_size": "batch_size",
    "training.kept_activations": "kept_activations",
    "training.kept_blocks": "kept_blocks",
    "target.rank": "rank",
}
"""Names in the JSON."""


class CapabilityError(AppError):
    """A compute capability that is none."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text} is not a compute capability.", "Write it like --capability 8.9.")


def run_plan(arguments: argparse.Namespace) -> int:
    """Print the plan; returns 0 where one fits, 3 where none does.

    Raises:
        AppError: something that was given is wrong.
    """
    for name in ("vram", "ram", "free_vram"):
        size = getattr(arguments, name)
        if size is not None and not 0 < size <= 4096:
            complain(f"--{name.replace('_', '-')} {size:g} is no size of a memory in GiB.")
            return EXIT_BAD_INPUT
    capability = _capability(arguments.capability)
    machine = planned_machine(arguments, capability)
    settings = settings_for(arguments.goal, REAL_MODEL)
    is_here = machine.gpu is not None and not (arguments.vram or arguments.gpu)
    measured = load_calibration().calibration.of_gpu(machine.gpu.name) if is_here and machine.gpu else ()
    planner = Planner(machine, arguments.goal, _clips(arguments), measured)
    plan = planner.recommend(settings, Flavour(arguments.flavour))
    told = as_json(planner, plan)
    if arguments.json:
        say(json.dumps(told, indent=2))
    else:
        _say_plan(planner, plan, told)
    return EXIT_DONE if plan.fits else EXIT_NOTHING_FITS


def planned_machine(arguments: argparse.Namespace, capability: tuple[int, int] | None) -> Machine:
    """This machine, or the one that was described; what was left out is this machine's."""
    folder = default_projects_folder()
    here = machine_of(HardwareProbe().snapshot(dict.fromkeys(DiskUse, folder)))
    gpu = here.gpu
    if arguments.vram or arguments.gpu:
        card = card_named(arguments.gpu or "", round((arguments.vram or 0) * GIB))
        total = (
            round(arguments.vram * GIB) if arguments.vram else 0 if card is None else card.memory_gib * GIB
        )
        if not total:
            raise UnknownCardError(arguments.gpu)
        known = None if card is None else card.capability
        gpu = PlannedGpu(arguments.gpu or "", round(total), round(total) - DESKTOP_BYTES, capability or known)
    elif gpu is not None and capability is not None:
        gpu = replace(gpu, capability=capability)
    if gpu is not None and arguments.free_vram:
        gpu = replace(gpu, free_bytes=min(round(arguments.free_vram * GIB), gpu.total_bytes))
    here = replace(here, gpu=gpu)
    if arguments.ram:
        total = round(arguments.ram * GIB)
        here = replace(here, ram_total_bytes=total, ram_available_bytes=max(0, total - SYSTEM_BYTES))
    if arguments.vram or arguments.ram:
        # Another machine: nothing is known of its disk.
        here = replace(here, disk_free_bytes=None)
    return here


class UnknownCardError(AppError):
    """A card that is not in the table, without its memory."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f'The memory of "{name}" is not known.',
            "Say it with --vram, in GiB, or name the card as its driver does.",
        )


def _capability(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    major, _, minor = text.partition(".")
    if not (major.isdecimal() and (minor or "0").isdecimal()):
        raise CapabilityError(text)
    return int(major), int(minor or "0")


def _clips(arguments: argparse.Namespace) -> tuple[ClipExtent, ...]:
    if arguments.clips is None:
        return ()
    with tempfile.TemporaryDirectory() as captions:
        project = import_clips(
            Project(name="plan"), [arguments.clips.expanduser().absolute()], Path(captions)
        )
    return clip_extents(project, probe_clips(project).sources)


def as_json(planner: Planner, plan: Recommendation) -> dict[str, Any]:
    """The plan in plain values; memory in GiB, times in seconds and hours."""
    judged, settings = plan.judgement, plan.settings
    why = reasons(planner, plan)
    blocks = blocks_of(settings)
    gpu = planner.machine.gpu
    return {
        "fits": plan.fits,
        "flavour": plan.flavour.value,
        "gpu": None if gpu is None else gpu.name or f"{gpu.total_bytes / GIB:.0f} GiB",
        "low_vram": settings.model.low_vram,
        "layer_offloading": round(1.0 - settings.model.resident_of(blocks) / blocks, 3),
        "resident_blocks": settings.model.resident_of(blocks),
        "checkpoint_offloading": settings.model.checkpoint_offloading,
        "feed_forward_chunks": settings.model.feed_forward_chunks,
        "transformer_quantization": settings.quantization.transformer,
        "text_encoder_quantization": settings.quantization.text_encoder,
        "vae_quantization": settings.quantization.vae,
        "previews_in_tiles": settings.sample.in_tiles,
        "resolutions": list(settings.datasets.resolutions),
        "num_frames": settings.datasets.num_frames,
        "switch_every": settings.multistage.switch_every,
        "batch_size": settings.training.batch_size,
        "kept_activations": settings.training.kept_activations,
        "kept_blocks": settings.training.kept_blocks,
        "rank": settings.target.rank,
        "peak_vram_gib": round(judged.memory.peak.total / GIB, 2),
        "peak_phase": str(judged.memory.peak.phase),
        "peak_ram_gib": round(judged.memory.ram.total / GIB, 2),
        "disk_gib": round(judged.memory.disk.total / GIB, 2),
        "seconds_per_step": round(judged.time.step_seconds, 2),
        "hours": round(judged.time.hours, 2),
        "hours_uncertainty": round(judged.time.uncertainty, 2),
        "measured": judged.memory.is_measured,
        "reasons": {_FIELDS[name]: sentence for name, sentence in why.items() if name in _FIELDS},
        "notes": list(notes(planner, judged)),
        "missing_bytes": {"vram": plan.least.vram, "ram": plan.least.ram, "disk": plan.least.disk},
        "ways_out": list(ways_out(planner, plan)),
    }


def _say_plan(planner: Planner, plan: Recommendation, told: dict[str, Any]) -> None:
    gpu = planner.machine.gpu
    if gpu is not None:
        say(f"{gpu.name or 'GPU'}: {gpu.free_bytes / GIB:.1f} of {gpu.total_bytes / GIB:.1f} GiB VRAM free")
    ram = planner.machine
    say(f"RAM: {ram.ram_available_bytes / GIB:.1f} of {ram.ram_total_bytes / GIB:.1f} GiB free")
    if not plan.fits:
        say("No plan fits.")
        for way in told["ways_out"]:
            say(f"  {way}")
        return
    say()
    for name, value in told.items():
        if name in _FIELDS.values():
            words = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            say(f"{name:<26} {words}")
            if name in told["reasons"]:
                say(f"{'':<26} {told['reasons'][name]}")
    say()
    error = plan.judgement.memory.error
    say(
        f"Peak VRAM {told['peak_vram_gib']:.1f} GiB (within {error:.0%}), {told['peak_phase']}; "
        f"RAM {told['peak_ram_gib']:.1f} GiB; disk {told['disk_gib']:.0f} GiB"
    )
    least, most = plan.judgement.time.hours_range
    say(
        f"{told['seconds_per_step']:.1f} s a step; {least:.1f} to {most:.1f} hours. {plan.judgement.time.told}"
    )
    for note in told["notes"]:
        say(note)
