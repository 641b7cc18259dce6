"""A job of the real model, made by hand, and what a process that runs it says."""

import msgspec

from trainer.protocol.events import Hello, MemoryReport, RunFailed, StepDone, WorkMeasured
from trainer.protocol.job import (
    BucketSize,
    ClipSpec,
    CropBox,
    DatasetSection,
    Expert,
    JobSection,
    JobSpec,
    ModelSection,
    QuantizationSection,
    SampleRow,
    SampleSection,
    TrainedSize,
)

GIB = 2**30
CARD = "NVIDIA GeForce RTX 4090"


def size(side: int) -> TrainedSize:
    return TrainedSize(width=side, height=side, crop=CropBox(left=0, top=0, width=1080, height=1080))


def a14b_job(sides=(512,), frames=41, **sections) -> JobSpec:
    """Twenty clips, cut to squares of 1080 pixels; `sections` overrides fields by section."""
    clip = ClipSpec(
        source="/clips/one.mp4",
        source_bytes=1,
        source_modified_ns=1,
        windows=(tuple(range(frames)),),
        sizes=tuple(size(side) for side in sides),
        caption="an orbit",
    )
    row = SampleRow(prompt="an orbit", size=BucketSize(width=512, height=512), num_frames=frames)
    job = JobSpec(
        job=JobSection(name="orbit"),
        model=ModelSection(base="/models/wan", low_vram=True, checkpoint_offloading=True),
        quantization=QuantizationSection(transformer="float8_compute"),
        datasets=(DatasetSection(name="main", clips=(clip,) * 20, num_frames=frames, resolutions=sides),),
        sample=SampleSection(rows=(row,)),
        cache_folder="/cache",
    )
    for name, fields in sections.items():
        job = msgspec.structs.replace(job, **{name: msgspec.structs.replace(getattr(job, name), **fields)})
    return job


def hello(time=1000.0, first_step=0) -> Hello:
    return Hello(
        protocol_version=1,
        trainer_version="0.1.0",
        pid=7,
        device=CARD,
        first_step=first_step,
        total_steps=2000,
        time=time,
    )


def step_measured(expert, seconds=7.1, reserved=18.4, side=512, frames=41, **fields) -> WorkMeasured:
    return WorkMeasured(
        work="step",
        expert=expert,
        width=side,
        height=side,
        frames=frames,
        seconds=seconds,
        first_seconds=30.0,
        reserved_bytes=round(reserved * GIB),
        allocated_bytes=round((reserved - 0.4) * GIB),
        **fields,
    )


def step_done(step, expert=Expert.HIGH) -> StepDone:
    return StepDone(
        step=step,
        expert=expert,
        loss=0.1,
        timesteps=(950.0,),
        learning_rate=1e-4,
        grad_norm=1.0,
        seconds=7.0,
    )


def report(doing="forward", reserved=21.0, needed=2.5, total=24.0, others=1.2, side=512, frames=41):
    return MemoryReport(
        doing=doing,
        expert=Expert.HIGH if doing in ("forward", "backward", "update") else None,
        width=side,
        height=side,
        frames=frames,
        needed_bytes=round(needed * GIB),
        allocated_bytes=round((reserved - 0.3) * GIB),
        reserved_bytes=round(reserved * GIB),
        total_bytes=round(total * GIB),
        others_bytes=round(others * GIB),
    )


def failed(memory, step=36, remedy="") -> RunFailed:
    return RunFailed(
        kind="out_of_memory",
        message="The memory of the card does not suffice.",
        hint="Do.",
        step=step,
        remedy=remedy,
        memory=memory,
    )
