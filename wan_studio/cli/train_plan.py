"""`train` takes the settings that suit this machine, as the window does, but for those that were given."""

from collections.abc import Collection

import msgspec

from trainer.protocol.job import MINIATURE
from wan_studio.cli.console import say
from wan_studio.domain.hardware import DiskUse, machine_of
from wan_studio.domain.machine import GIB
from wan_studio.domain.plan_reasons import ways_out
from wan_studio.domain.plan_space import nested
from wan_studio.domain.project import Project
from wan_studio.domain.recommend import Flavour, Judgement, Planner
from wan_studio.domain.workload import clip_extents
from wan_studio.services.calibration_store import load_calibration
from wan_studio.services.hardware_probe import HardwareProbe
from wan_studio.services.job_preparation import probe_clips
from wan_studio.services.project_store import ProjectStore


def with_plan(project: Project, store: ProjectStore, flavour: Flavour, given: Collection[str]) -> Project:
    """The project with a plan's settings; as it is for the miniature and where there is no GPU.

    Says what was chosen, and what is missing where nothing fits or what was given does not.

    Args:
        project: With its clips.
        store: Where it will lie: the disk that has to hold it.
        flavour: Of the plan.
        given: Fields that were set by hand, as "section.field": they stay.
    """
    base = project.settings.model.base
    if base == MINIATURE:
        return project
    gpu_index = project.settings.job.gpu
    machine = machine_of(HardwareProbe().snapshot(dict.fromkeys(DiskUse, store.folder)), gpu_index)
    if machine.gpu is None:
        return project
    extents = clip_extents(project, probe_clips(project).sources)
    measured = load_calibration().calibration.of_gpu(machine.gpu.name)
    planner = Planner(machine, project.goal, extents, measured)
    plan = planner.recommend(project.settings, flavour)
    if not plan.fits:
        say("By the forecast no plan fits this machine. What helps, the cheapest first:")
        for way in ways_out(planner, plan):
            say(f"  {way}")
        return project
    changes = {name: value for name, value in plan.changes.items() if name not in given}
    settings = project.settings.with_values(nested(changes))
    judged = planner.judge(settings, flavour)
    gpu_name = machine.gpu.name or "this GPU"
    if judged.fits:
        say(f"Planned for {gpu_name}: {_words(judged)}. Explained by: wan-studio plan")
    else:
        say(
            f"The settings that were given do not fit {gpu_name} by the forecast: "
            f"{judged.missing.vram / GIB:.1f} GiB of VRAM and {judged.missing.ram / GIB:.1f} GiB of RAM are missing. "
            "Without them a plan fits."
        )
    return msgspec.structs.replace(project, settings=settings)


def _words(judged: Judgement) -> str:
    data, quantization = judged.settings.datasets, judged.settings.quantization
    sides = ", ".join(map(str, data.resolutions))
    least, most = judged.time.hours_range
    return (
        f"{data.num_frames} frames at {sides}, {quantization.transformer}, peak of {judged.memory.peak.total / GIB:.1f} GiB "
        f"of VRAM, {least:.1f} to {most:.1f} hours"
    )
