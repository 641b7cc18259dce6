"""A job read backwards, as settings and clips that can be planned with; and a job that goes on from another's LoRA."""

from collections.abc import Mapping
from typing import Any

import msgspec

from trainer.protocol.job import ClipSpec, DatasetSection, Expert, GpuSection, JobSpec
from wan_studio.domain.project import DatasetSettings, Settings, with_fields
from wan_studio.domain.workload import ClipExtent

_FRAMES_PER_SECOND = 16
_NOTABLY = 1.05
_LARGER = 1.2
"""Of two sizes' pixels, the ratio from which on they are not of one resolution: 768 has 2.25 times those of 512."""


def settings_of(job: JobSpec) -> Settings:
    """The settings of which a project's job would take as much memory and time."""
    trained = [dataset for dataset in job.datasets if dataset.role != "validation"]
    sides = {side for dataset in trained for side in dataset.resolutions}
    enlarged = any(
        size.width * size.height > _NOTABLY * size.crop.width * size.crop.height
        for clip in _trained_clips(job)
        for size in clip.sizes
    )
    return Settings(
        job=GpuSection(gpu=job.job.gpu, more_gpus=job.job.more_gpus, gpu_share=job.job.gpu_share),
        model=job.model,
        quantization=job.quantization,
        multistage=job.multistage,
        target=job.target,
        save=job.save,
        training=job.training,
        advanced=job.advanced,
        datasets=DatasetSettings(
            num_frames=max(dataset.num_frames for dataset in trained),
            resolutions=tuple(sorted(sides)),
            allow_upscale=enlarged,
        ),
        sample=job.sample,
    )


def extents_of(job: JobSpec) -> tuple[ClipExtent, ...]:
    """The clips that train, as far as the job has them: no longer than its windows."""
    return tuple(_extent(clip) for clip in _trained_clips(job))


def continued(
    job: JobSpec, changes: Mapping[str, Any], loras: Mapping[Expert, str], done: Mapping[Expert, int]
) -> JobSpec:
    """The job of a run that goes on where another ended, with other settings.

    Args:
        job: Of the run that ended.
        changes: Values by "section.field"; of data sets, `num_frames` and `resolutions` alone.
        loras: File of each expert's LoRA to start from; none for an expert that starts anew.
        done: Steps of each expert that are in them.

    Raises:
        AppError: a value is not one that the setting can take.
    """
    for name, value in changes.items():
        section, _, field = name.partition(".")
        if section == "datasets":
            datasets = tuple(_changed(dataset, field, value) for dataset in job.datasets)
            job = msgspec.structs.replace(job, datasets=datasets)
        else:
            changed = with_fields(getattr(job, section), section, {field: value})
            job = msgspec.structs.replace(job, **{section: changed})
    start = {"start_high": loras.get(Expert.HIGH), "start_low": loras.get(Expert.LOW)}
    target = msgspec.structs.replace(job.target, **{name: path for name, path in start.items() if path})
    if not loras:
        return msgspec.structs.replace(job, target=target)
    steps = max(1, job.training.steps - sum(done.values()))
    stages = job.multistage
    most = {
        "high_steps": _left(stages.high_steps, done.get(Expert.HIGH, 0)),
        "low_steps": _left(stages.low_steps, done.get(Expert.LOW, 0)),
    }
    return msgspec.structs.replace(
        job,
        target=target,
        training=msgspec.structs.replace(job.training, steps=steps),
        multistage=msgspec.structs.replace(stages, **most),
    )


def _left(most: int | None, done: int) -> int | None:
    return None if most is None else max(1, most - done)


def _trained_clips(job: JobSpec) -> list[ClipSpec]:
    return [clip for dataset in job.datasets if dataset.role != "validation" for clip in dataset.clips]


def _extent(clip: ClipSpec) -> ClipExtent:
    crop = max(clip.sizes, key=lambda one: one.width * one.height).crop
    longest = max(len(window) for window in clip.windows)
    seconds = longest / _FRAMES_PER_SECOND if longest > 1 else 0.0
    return ClipExtent(crop.width, crop.height, seconds, longest, len(clip.windows))


def _changed(dataset: DatasetSection, field: str, value: Any) -> DatasetSection:
    if field == "num_frames":
        frames = min(int(value), dataset.num_frames)
        clips = tuple(_shorter(clip, frames) for clip in dataset.clips)
        return msgspec.structs.replace(dataset, num_frames=frames, clips=clips)
    kept = tuple(side for side in dataset.resolutions if side in value) or (min(dataset.resolutions),)
    clips = tuple(_smaller(clip, max(kept)) for clip in dataset.clips)
    return msgspec.structs.replace(dataset, resolutions=kept, clips=clips)


def _shorter(clip: ClipSpec, frames: int) -> ClipSpec:
    """The beginning of each window, at the same speed."""
    return msgspec.structs.replace(clip, windows=tuple(window[:frames] for window in clip.windows))


def _smaller(clip: ClipSpec, side: int) -> ClipSpec:
    """Without the sizes of larger resolutions; the smallest stays in any case."""
    sizes = tuple(size for size in clip.sizes if size.width * size.height <= _LARGER * side * side)
    smallest = min(clip.sizes, key=lambda one: one.width * one.height)
    return msgspec.structs.replace(clip, sizes=sizes or (smallest,))
