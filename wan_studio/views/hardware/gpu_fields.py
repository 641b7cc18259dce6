"""JOB: which GPUs train, and how several of them share the work."""

from wan_studio.domain.project import Settings
from wan_studio.views.training.specs import WHOLE_OR_ZERO, FieldSpec


def _has_more(settings: Settings) -> bool:
    return bool(settings.job.more_gpus)


def _named_twice(settings: Settings) -> str:
    every = (settings.job.gpu, *settings.job.more_gpus)
    return "One GPU is named twice." if len(every) != len(set(every)) else ""


def _not_yet(settings: Settings) -> str:
    return "The trainer cannot do that yet." if settings.job.gpu_share == "experts" else ""


GPU_FIELDS = (
    FieldSpec(
        name="job.gpu",
        label="GPU",
        kind="integer",
        help="Number of the GPU that trains, from 0.",
        rule=WHOLE_OR_ZERO,
    ),
    FieldSpec(
        name="job.more_gpus",
        label="More GPUs",
        kind="numbers",
        help="Numbers of further GPUs that train along, with commas between; empty for none.",
        rule="It must be whole numbers of 0 or more, with commas between.",
        remark=_named_twice,
    ),
    FieldSpec(
        name="job.gpu_share",
        label="GPUs share",
        kind="choice",
        help="Each takes a part of every step's batches, or each of two trains one expert by itself.",
        choices=(("data", "The batches"), ("experts", "The experts")),
        applies=_has_more,
        remark=_not_yet,
    ),
)
