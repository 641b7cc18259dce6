"""When memory runs out anywhere in a run: an error that says what to change in this very job."""

from collections.abc import Generator
from contextlib import contextmanager

from trainer.data.batches import TrainingItem
from trainer.protocol.events import Work, WorkMeasured
from trainer.protocol.job import Expert, JobSpec
from trainer.protocol.run_folder import RunFolder
from trainer.runtime.memory_levers import MemorySettings, advice, levers
from trainer.runtime.out_of_memory import (
    ClipSize,
    Doing,
    MemoryRanOutError,
    MemoryWork,
    OutOfMemoryError,
    watching_memory,
)


@contextmanager
def advised(run: RunFolder, job: JobSpec, *, has_begun: bool = True) -> Generator[None]:
    """Turn a lack of memory inside into advice.

    Args:
        run: Where it is done.
        job: What it is.
        has_begun: Whether there is a run that could go on, rather than one that is planned.

    Raises:
        OutOfMemoryError: with the step that is saved, and what to change.
    """
    try:
        with watching_memory(MemoryWork(Doing.OTHER)):
            yield
    except MemoryRanOutError as ran_out:
        left = levers(ran_out.work.doing, settings_of(job))
        remedy = next((lever.setting for lever in left if lever.resumes), "")
        saved = max(run.checkpoint_steps(), default=0)
        raise OutOfMemoryError(ran_out, saved, advice(left, has_begun=has_begun), remedy) from ran_out


def settings_of(job: JobSpec) -> MemorySettings:
    """What of the job decides how much memory it takes."""
    windows = (window for clip in job.clips for window in clip.windows)
    return MemorySettings(
        model=job.model,
        quantization=job.quantization,
        training=job.training,
        frames=max(len(window) for window in windows),
        resolution=max(side for dataset in job.datasets for side in dataset.resolutions),
    )


def work_on(
    doing: Doing, items: list[TrainingItem], expert: Expert | None = None, step: int = 0
) -> MemoryWork:
    """Work on a batch of items, or on one.

    Args:
        doing: What is done with them.
        items: Of one bucket, at least one.
        expert: Which expert does it.
        step: Number of the optimizer step, from 1; 0 outside of training.
    """
    bucket = items[0].bucket
    size = ClipSize(bucket.width, bucket.height, bucket.frames)
    return MemoryWork(doing, step, expert, size, len(items))


def measured_work(
    work: Work,
    items: list[TrainingItem],
    expert: Expert | None = None,
    *,
    passes: int = 1,
    preserved: int = 0,
) -> WorkMeasured:
    """How a measurement names work on a batch of items, or on one; arguments as for `work_on`."""
    bucket = items[0].bucket
    return WorkMeasured(
        work=work,
        expert=expert,
        width=bucket.width,
        height=bucket.height,
        frames=bucket.frames,
        batch=len(items),
        passes=passes,
        preserved=preserved,
    )
