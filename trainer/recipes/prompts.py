"""Which prompts a run needs: captions, what dropout and preservation make of them, and the previews'.

All of them are known before the first step, so all are cached and the text encoder leaves memory.
"""

from trainer.data.batches import TrainingItem
from trainer.data.prompts import class_prompt, dropped_prompt, is_no_op
from trainer.protocol.job import DatasetSection, JobSpec
from trainer.runtime.seeding import derived_seed

BLANK = ""


def prompts_to_cache(job: JobSpec) -> list[str]:
    """Every distinct final prompt of a run, in the order of first need."""
    prompts: list[str] = []
    for dataset in job.datasets:
        prompts += [clip.caption for clip in dataset.clips]
        if dataset.caption_dropout > 0:
            prompts.append(dropped_prompt(trigger_of(job, dataset), dataset.caption_dropout_to))
        if dataset.role == "training":
            prompts += [
                kept for clip in dataset.clips for kept in preservation_prompts(job, dataset, clip.caption)
            ]
    for row in job.sample.rows:
        prompts += [
            row.prompt,
            job.sample.negative_prompt if row.negative_prompt is None else row.negative_prompt,
        ]
    return list(dict.fromkeys(prompts))


def training_prompt(job: JobSpec, item: TrainingItem, draw: tuple[str | int, ...]) -> str:
    """The prompt that an item trains with: its caption, or what dropout leaves of it.

    Args:
        job: The run's job.
        item: What trains.
        draw: Names this draw, e.g. (step, micro-batch, place in the batch): the same draw gives the
            same prompt.
    """
    dataset = job.datasets[item.dataset_index]
    chance = derived_seed(job.training.seed, "caption_dropout", *draw) / 2**63
    if chance < dataset.caption_dropout:
        return dropped_prompt(trigger_of(job, dataset), dataset.caption_dropout_to)
    return job.clips[item.clip_index].caption


def preservation_prompts(job: JobSpec, dataset: DatasetSection, caption: str) -> list[str]:
    """The prompts whose output must stay the base's while this caption trains; often none.

    The class prompt of a caption without the trigger is the caption itself: preserving that would
    fight what is learnt, so it is left out.
    """
    training = job.training
    prompts: list[str] = []
    if training.diff_output_preservation:
        if training.preservation_prompt:
            prompts.append(training.preservation_prompt)
        else:
            trigger = trigger_of(job, dataset)
            if not is_no_op(caption, trigger):
                prompts.append(class_prompt(caption, trigger, training.diff_output_preservation_class))
    if training.blank_prompt_preservation:
        prompts.append(BLANK)
    return prompts


def captions_nothing_preserves(job: JobSpec) -> int:
    """How many training captions output preservation cannot help, for a warning before the first step."""
    training = job.training
    if not training.diff_output_preservation or training.preservation_prompt:
        return 0
    return sum(
        is_no_op(clip.caption, trigger_of(job, dataset))
        for dataset in job.datasets
        if dataset.role == "training"
        for clip in dataset.clips
    )


def trigger_of(job: JobSpec, dataset: DatasetSection) -> str:
    """The data set's own trigger word, or the job's; regularization data has none."""
    return dataset.trigger if dataset.role == "regularization" else dataset.trigger or job.job.trigger
