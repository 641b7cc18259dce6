"""What a run's events say about this machine: measurements, and what memory did not suffice for."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from trainer.protocol.events import MemoryReport, WorkMeasured
from trainer.protocol.job import MINIATURE, Expert, JobSpec
from wan_studio.domain.calibration import CalibrationRecord, WorkKind
from wan_studio.domain.hardware import GpuSnapshot, HardwareSnapshot
from wan_studio.domain.run_state import RunState
from wan_studio.domain.step_plan import step_plan

_KINDS: dict[str, WorkKind] = {"step": "step", "preview": "preview", "latents": "encode"}
_LACKING_KINDS: dict[str, WorkKind] = {
    "forward": "step",
    "backward": "step",
    "update": "step",
    "validating": "step",
    "previewing": "preview",
    "caching_latents": "encode",
}
"""By a report's `doing`; loading and captions have no size that could be learnt for."""
_SMALLEST_SIDE = 16


@dataclass(frozen=True, slots=True)
class MeasuredWhere:
    """Where and when a process measured; fields as in `CalibrationRecord`."""

    gpu_name: str
    gpu_uuid: str
    date: str
    trainer_version: str
    process_started: float


def records_of(job: JobSpec, state: RunState, where: MeasuredWhere) -> tuple[CalibrationRecord, ...]:
    """All that can be learnt from a run's process; of the miniature nothing, for no forecast counts on it.

    Args:
        job: As the process has it, with the settings of memory that it goes on with.
        state: By its events.
        where: It runs.
    """
    if job.model.base == MINIATURE:
        return ()
    return (*_of_works(job, state.measured, where), *_of_shortages(job, state.shortages, where))


def measured_gpu(snapshot: HardwareSnapshot, device: str, index: int) -> GpuSnapshot | None:
    """The GPU of this machine that a trainer means by its device's name.

    CUDA may count GPUs in another order than the driver: the name decides, and the number among equals.

    Args:
        snapshot: The machine.
        device: As the trainer's hello names it.
        index: As the job has it.
    """
    alike = [gpu for gpu in snapshot.gpus if gpu.name and _plain(gpu.name) == _plain(device)]
    return next((gpu for gpu in alike if gpu.index == index), alike[0] if len(alike) == 1 else None)


def _plain(name: str) -> str:
    return name.casefold().removeprefix("nvidia ").strip()


def _of_works(
    job: JobSpec, measured: Iterable[WorkMeasured], where: MeasuredWhere
) -> Iterator[CalibrationRecord]:
    for work in measured:
        kind = _KINDS.get(work.work)
        if kind is None or min(work.width, work.height) < _SMALLEST_SIDE or work.seconds <= 0:
            continue
        fields = {
            name: getattr(work, name)
            for name in ("width", "height", "frames", "batch", "seconds", "reserved_bytes", "allocated_bytes")
        }
        plan = step_plan(job, work.expert or Expert.HIGH)
        if kind == "step":
            # As it was: a rehearsal takes one batch a step, and a batch may have fewer prompts to preserve.
            plan = msgspec.structs.replace(plan, accumulation=work.passes, preserved=work.preserved)
            fields["expert"] = work.expert
        if kind == "preview":
            fields |= {"passes": work.passes, "decode_seconds": work.decode_seconds}
        yield _record(job, kind, where, {**fields, "plan": plan})


def _of_shortages(
    job: JobSpec, reports: Iterable[MemoryReport], where: MeasuredWhere
) -> Iterator[CalibrationRecord]:
    """That so much at least is needed as was held and asked for; of both experts where it is not said whose."""
    for report in reports:
        kind = _LACKING_KINDS.get(report.doing)
        if kind is None or min(report.width, report.height) < _SMALLEST_SIDE or not report.reserved_bytes:
            continue
        fields = {
            "width": report.width,
            "height": report.height,
            "frames": max(1, report.frames),
            "batch": report.batch,
            "reserved_bytes": report.reserved_bytes + (report.needed_bytes or 1),
            "allocated_bytes": report.allocated_bytes or 0,
            "ran_out": True,
        }
        of_experts = (report.expert,) if report.expert is not None else tuple(Expert)
        for expert in of_experts if kind == "step" else (None,):
            plan = step_plan(job, expert or Expert.HIGH)
            yield _record(job, kind, where, {**fields, "expert": expert, "plan": plan})


def _record(job: JobSpec, kind: WorkKind, where: MeasuredWhere, fields: dict[str, Any]) -> CalibrationRecord:
    vae = "none" if kind == "step" else job.quantization.vae
    return CalibrationRecord(
        gpu_uuid=where.gpu_uuid,
        gpu_name=where.gpu_name,
        date=where.date,
        trainer_version=where.trainer_version,
        process_started=where.process_started,
        kind=kind,
        vae=vae,
        in_tiles=kind == "preview" and job.sample.in_tiles,
        **fields,
    )
