"""From project to job: every decision made here, so that the trainer only executes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from trainer.protocol.job import (
    BucketSize,
    ClipSpec,
    JobSection,
    JobSpec,
    SampleRow,
    SampleSection,
    TrainingSection,
)
from wan_studio.domain.caption import with_trigger
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.dataset_builder import (
    FEWEST_FRAMES,
    BuiltDataset,
    ClipFiles,
    DatasetPlan,
    Notes,
    build_datasets,
)
from wan_studio.domain.frame_sampling import valid_frame_count
from wan_studio.domain.project import MAIN, Project
from wan_studio.errors import AppError

__all__ = ["FEWEST_FRAMES", "BuiltJob", "NothingToTrainError", "build_job", "dataset_plans"]


class NothingToTrainError(AppError):
    """No clip of the project can train."""

    def __init__(self, problems: Sequence[str]) -> None:
        listed = " ".join(problems)
        super().__init__(
            f"No clip can train. {listed}".strip(), "Add video clips that are at least 0.3 seconds long."
        )


@dataclass(frozen=True, slots=True)
class BuiltJob:
    """A job, and what was decided on the way that the user should know, a sentence each."""

    job: JobSpec
    notes: tuple[str, ...]


def build_job(
    project: Project,
    sources: Mapping[str, SourceVideo],
    captions: Mapping[str, str],
    cache_folder: str,
    problems: Mapping[str, str] | None = None,
) -> BuiltJob:
    """Resolve frames, buckets and prompts of every clip that is not rejected.

    Args:
        project: What to train.
        sources: The probed video of each clip id; clips without one are left out with a note.
        captions: Text of each clip id's caption; a missing one counts as empty.
        cache_folder: Where latents and text embeddings are cached.
        problems: Why a clip id has no source, a sentence each; words the note.

    Raises:
        NothingToTrainError: no clip is left.
    """
    notes = Notes()
    files = ClipFiles(sources, captions, problems or {})
    built: list[BuiltDataset] = []
    for number, plan in enumerate(dataset_plans(project)):
        made = build_datasets(plan, files, notes)
        if not made and number:
            notes.add(f"The data set {plan.name} has no clip that can be used; it is left out.")
        built += made
    # What trains comes first, so that the job's first clip is one that the previews can continue.
    built.sort(key=lambda dataset: dataset.section.role != "training")
    if not built or built[0].section.role != "training":
        raise NothingToTrainError(notes.sentences)
    settings = project.settings
    datasets = tuple(dataset.section for dataset in built)
    job = JobSpec(
        job=JobSection(name=project.name, trigger=project.trigger, **msgspec.structs.asdict(settings.job)),
        model=settings.model,
        quantization=settings.quantization,
        multistage=settings.multistage,
        target=settings.target,
        save=settings.save,
        training=_training(project, notes),
        advanced=settings.advanced,
        datasets=datasets,
        sample=_sample(project, built, notes),
        cache_folder=cache_folder,
    )
    return BuiltJob(job, tuple(notes.sentences))


def dataset_plans(project: Project) -> list[DatasetPlan]:
    """What is wished for of each data set, the main one first."""
    return [
        DatasetPlan(
            name=dataset.name if dataset else project.name,
            role=dataset.role if dataset else "training",
            settings=project.dataset_settings(dataset.name if dataset else MAIN),
            trigger=project.dataset_trigger(dataset.name if dataset else MAIN),
            clips=project.clips_of(dataset.name if dataset else MAIN),
            seed=project.settings.training.seed,
        )
        for dataset in (None, *project.extra_datasets)
    ]


def _training(project: Project, notes: Notes) -> TrainingSection:
    """The section; without a trigger word to replace, output preservation would fight the learning."""
    training = project.settings.training
    names = (MAIN, *(dataset.name for dataset in project.extra_datasets if dataset.role == "training"))
    if (
        not training.diff_output_preservation
        or training.preservation_prompt.strip()
        or any(project.dataset_trigger(name) for name in names)
    ):
        return training
    notes.add(
        "Differential output preservation is off: there is no trigger word that "
        f'"{training.diff_output_preservation_class}" could stand for. Set a trigger word, or a '
        "preservation prompt."
    )
    return msgspec.structs.replace(training, diff_output_preservation=False)


def _sample(project: Project, built: Sequence[BuiltDataset], notes: Notes) -> SampleSection:
    """The previews: rows without a picture continue the job's clip that is the project's one they name."""
    sample = project.settings.sample
    places: dict[str, int] = {}
    clips: list[ClipSpec] = []
    for dataset in built:
        places |= {clip_id: len(clips) + at for at, clip_id in enumerate(dataset.clip_ids)}
        clips += dataset.section.clips
    if sample.every and not sample.rows:
        return msgspec.structs.replace(sample, rows=(_automatic_row(clips[0], project),))
    rows: list[SampleRow] = []
    for number, row in enumerate(sample.rows, start=1):
        clip_id = project.clips[row.clip].id if row.clip < len(project.clips) else ""
        if not row.image and row.clip and clip_id not in places:
            notes.add(f"Preview {number} continues the first clip: the one that it names does not train.")
        rows.append(
            msgspec.structs.replace(
                row,
                prompt=with_trigger(row.prompt, project.trigger),
                clip=0 if row.image else places.get(clip_id, 0),
            )
        )
    return msgspec.structs.replace(sample, rows=tuple(rows))


def _automatic_row(clip: ClipSpec, project: Project) -> SampleRow:
    size = clip.sizes[0]
    return SampleRow(
        prompt=clip.caption,
        clip=0,
        size=BucketSize(width=size.width, height=size.height),
        num_frames=valid_frame_count(min(project.settings.datasets.num_frames, 41)),
    )
