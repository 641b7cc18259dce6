"""What was measured on this machine, and how it corrects what is computed; files are services' business."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from trainer.protocol.job import Expert
from wan_studio.domain.step_plan import StepPlan
from wan_studio.domain.workload import ClipShape

FORMAT_VERSION = 1
KEPT_OF_A_KEY = 3
"""Newest records of the same work that are kept; their median counts."""
_NEAREST = 3
"""Records of other sizes whose ratios are averaged."""

WorkKind = Literal["step", "preview", "encode"]


class CalibrationRecord(Struct, frozen=True, kw_only=True):
    """One measurement.

    Attributes:
        gpu_uuid: Of the GPU, as its driver has it; empty where it has none.
        gpu_name: As the driver calls it.
        date: Day, ISO (2026-11-24).
        trainer_version: Of the trainer that ran.
        kind: An optimizer step, one preview, or the encoding of one clip.
        plan: How it was computed.
        expert: Whose steps; None of other work.
        width: Of the clips in pixels, as `height`.
        frames: 4n+1.
        batch: Clips of a micro-batch.
        passes: Of a preview: predictions, of which a guided denoising step takes two.
        vae: As `quantization.vae`; of steps always the default, as the next.
        in_tiles: As `sample.in_tiles`, of previews.
        seconds: Median of the work, its first time left out; 0 where memory ran out.
        decode_seconds: Of a preview's, what decoding took.
        reserved_bytes: Most that torch reserved meanwhile; 0 where it was not looked at. Where memory ran out,
            what it held and what it asked for in vain: so much at least is needed.
        allocated_bytes: Most that was allocated; likewise.
        ran_out: Whether GPU memory ran out.
        process_started: When the process that measured it began, seconds since the epoch; 0 where not known.
            What a process measures later takes the place of what it has measured of the same work.
    """

    gpu_uuid: str
    gpu_name: str
    date: str
    trainer_version: str
    kind: WorkKind = "step"
    plan: StepPlan = StepPlan()
    expert: Expert | None = None
    width: Annotated[int, Meta(ge=16)]
    height: Annotated[int, Meta(ge=16)]
    frames: Annotated[int, Meta(ge=1)]
    batch: Annotated[int, Meta(ge=1)] = 1
    passes: Annotated[int, Meta(ge=1)] = 1
    vae: Literal["none", "bf16"] = "none"
    in_tiles: bool = False
    seconds: Annotated[float, Meta(ge=0.0)] = 0.0
    decode_seconds: Annotated[float, Meta(ge=0.0)] = 0.0
    reserved_bytes: Annotated[int, Meta(ge=0)] = 0
    allocated_bytes: Annotated[int, Meta(ge=0)] = 0
    ran_out: bool = False
    process_started: float = 0.0

    @property
    def shape(self) -> ClipShape:
        """Of the clips."""
        return ClipShape(self.width, self.height, self.frames)

    def is_same_work(self, other: "CalibrationRecord") -> bool:
        """Whether both measured the same thing on the same GPU."""
        return _work_of(self) == _work_of(other)


def _work_of(record: CalibrationRecord) -> tuple[object, ...]:
    gpu = record.gpu_uuid, record.gpu_name
    how = record.plan, record.expert, record.passes, record.vae, record.in_tiles, record.ran_out
    return *gpu, record.kind, record.shape, record.batch, *how


class Calibration(Struct, frozen=True, kw_only=True):
    """All measurements, oldest first; what `calibration.json` holds."""

    records: tuple[CalibrationRecord, ...] = ()
    format_version: Annotated[int, Meta(ge=FORMAT_VERSION, le=FORMAT_VERSION)] = FORMAT_VERSION

    def with_record(self, record: CalibrationRecord) -> "Calibration":
        """A copy with a new record; of the same work only the newest few stay, and one of each process.

        Telling the same once more, or something older than what is kept, changes nothing.
        """
        if record in self.records:
            return self
        started = record.process_started
        same = [one for one in self.records if one.is_same_work(record)]
        replaced = [one for one in same if started and one.process_started == started]
        stays = [one for one in same if one not in replaced]
        # Equal times keep their order: those of records that do not know theirs.
        newest = sorted((*stays, record), key=lambda one: one.process_started)[-KEPT_OF_A_KEY:]
        dropped = {id(one) for one in same if not any(one is kept for kept in newest)}
        kept = tuple(one for one in self.records if id(one) not in dropped)
        return msgspec.structs.replace(self, records=(*kept, record) if record in newest else kept)

    def of_gpu(self, name: str, uuid: str = "") -> tuple[CalibrationRecord, ...]:
        """The records of a GPU; without its UUID, those of all GPUs of that name."""
        return tuple(one for one in self.records if (one.gpu_uuid == uuid if uuid else one.gpu_name == name))


@dataclass(frozen=True, slots=True)
class Corrected:
    """Seconds, and where they are from: measured, computed and scaled by other measurements, or computed."""

    seconds: float
    basis: Literal["measured", "scaled", "computed"]


def corrected_step(
    records: Sequence[CalibrationRecord],
    plan: StepPlan,
    shape: ClipShape,
    batch: int,
    compute: Callable[[StepPlan, ClipShape, int], float],
) -> Corrected:
    """Seconds of a step: as measured, or as computed times what measurements of the same mode were off.

    The factor is the geometric mean of measured / computed over the records whose numbers of tokens are
    nearest, so that one record corrects all sizes and three around a size correct it best.

    Args:
        records: Of the GPU in question alone.
        plan: Of the step.
        shape: Of its clips.
        batch: Clips of a micro-batch.
        compute: Seconds that the same three arguments give without measurements.
    """
    steps = [one for one in records if one.kind == "step" and one.seconds]
    exact = [one.seconds for one in steps if (one.plan, one.shape, one.batch) == (plan, shape, batch)]
    if exact:
        return Corrected(statistics.median(exact[-KEPT_OF_A_KEY:]), "measured")
    computed = compute(plan, shape, batch)
    alike = [one for one in steps if one.plan.mode == plan.mode]
    if not alike:
        return Corrected(computed, "computed")
    tokens = shape.tokens * batch
    nearest = sorted(alike, key=lambda one: abs(math.log(one.shape.tokens * one.batch / tokens)))[:_NEAREST]
    ratios = [one.seconds / compute(one.plan, one.shape, one.batch) for one in nearest]
    return Corrected(computed * statistics.geometric_mean(ratios), "scaled")
