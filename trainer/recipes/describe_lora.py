"""What a trained LoRA's file tells of its job: settings, data set, and what model managers show.

A LoRA file is made to be passed on. So nothing of it leads back to the user's machine or shows the
user's material: of clips and control images only numbers and sizes are told, of files and folders
only their names.
"""

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from trainer.objective.timesteps import expert_interval
from trainer.output.lora_metadata import DATASET_KEY, SETTINGS_KEY, LoraMetadata
from trainer.protocol.job import DatasetSection, Expert, JobSpec, TrainedSize

LEFT_OUT = (
    "cache_folder",
    "datasets.clips",
    "sample.rows.image",
    "folders of model.base, target.start_high, target.start_low",
)
"""Parts of the job that no file tells: they are paths of this machine, or the user's own captions."""


def lora_metadata(
    job: JobSpec,
    base_fingerprint: str,
    boundary: float,
    expert: Expert,
    steps_total: int,
    steps_of_expert: int,
) -> LoraMetadata:
    """What an expert's LoRA says about itself: a function of the job and the steps alone, without a date.

    Args:
        job: The run's job.
        base_fingerprint: Of the base model.
        boundary: The one in force (0..1): the job's, or the model's where the job has none.
        expert: Whose LoRA.
        steps_total: Optimizer steps done, both experts together.
        steps_of_expert: Those of them that were this expert's.
    """
    rank = rank_of(job, expert)
    interval = expert_interval(expert, boundary, job.multistage.boundary_overlap)
    return LoraMetadata(
        name=job.job.name,
        expert=expert,
        boundary=boundary,
        rank=rank,
        alpha=job.target.alpha or float(rank),
        steps=steps_total,
        trigger=job.job.trigger,
        base_fingerprint=base_fingerprint,
        # 0.9 + 0.05 is 0.9500000000000001 otherwise.
        interval=(round(interval.lower, 6), round(interval.upper, 6)),
        steps_of_expert=steps_of_expert,
        details={
            SETTINGS_KEY: _json(public_settings(job)),
            DATASET_KEY: _json(dataset_summary(job)),
            "modelspec.resolution": _resolution(job),
            **_kohya_words(job, expert),
        },
    )


def rank_of(job: JobSpec, expert: Expert) -> int:
    """The rank of an expert's LoRA: its own, or the common one."""
    return job.multistage.override(expert, "rank") or job.target.rank


def public_settings(job: JobSpec) -> dict[str, Any]:
    """The job as a file may tell it; `left_out` names what is missing (see `LEFT_OUT`)."""
    settings = msgspec.to_builtins(job)
    del settings["cache_folder"]
    for field in ("base", "high_noise", "low_noise", "vae", "text_encoder"):
        settings["model"][field] = _last_part(settings["model"][field])
    for field in ("start_high", "start_low"):
        settings["target"][field] = _last_part(settings["target"][field])
    for dataset, section in zip(settings["datasets"], job.datasets, strict=True):
        dataset["clips"] = len(section.clips)
    for row in settings["sample"]["rows"]:
        del row["image"]
    settings["left_out"] = list(LEFT_OUT)
    return settings


def dataset_summary(job: JobSpec) -> list[dict[str, Any]]:
    """By data set: how many clips and windows, of which lengths in frames and which sizes in pixels."""
    return [
        {
            "name": dataset.name,
            "role": dataset.role,
            "clips": len(dataset.clips),
            "windows": sum(len(clip.windows) for clip in dataset.clips),
            "repeats": dataset.repeats,
            "frames": sorted({len(window) for clip in dataset.clips for window in clip.windows}),
            "resolutions": list(dataset.resolutions),
            "sizes": [f"{size.width}x{size.height}" for size in _sizes([dataset])],
        }
        for dataset in job.datasets
    ]


def _kohya_words(job: JobSpec, expert: Expert) -> dict[str, str]:
    """Those of kohya's ``ss_*`` that have a meaning here; a clip counts as an image."""
    training = job.training
    trained = [dataset for dataset in job.datasets if dataset.role == "training"]
    regular = [dataset for dataset in job.datasets if dataset.role == "regularization"]
    words = {
        "ss_learning_rate": repr(job.multistage.override(expert, "learning_rate") or training.learning_rate),
        "ss_optimizer": training.optimizer,
        "ss_lr_scheduler": training.lr_schedule,
        "ss_lr_warmup_steps": str(training.warmup_steps),
        "ss_max_train_steps": str(training.steps),
        "ss_batch_size_per_device": str(training.batch_size),
        "ss_gradient_accumulation_steps": str(training.gradient_accumulation),
        "ss_gradient_checkpointing": str(training.gradient_checkpointing),
        "ss_max_grad_norm": repr(training.max_grad_norm),
        "ss_seed": str(training.seed),
        "ss_network_dropout": repr(job.target.dropout),
        "ss_num_train_images": str(_shown_clips(trained)),
        "ss_num_reg_images": str(_shown_clips(regular)),
        "ss_resolution": _resolution(job),
        "ss_dataset_dirs": _json(
            {
                dataset.name: {"n_repeats": dataset.repeats, "img_count": len(dataset.clips)}
                for dataset in trained
            }
        ),
    }
    if job.target.type != "lora":
        words["ss_network_args"] = _json({"algo": job.target.type})
    if frequency := _trigger_frequency(job, trained):
        words["ss_tag_frequency"] = _json(frequency)
    return words


def _shown_clips(datasets: Iterable[DatasetSection]) -> int:
    """Clips of one pass over the data, repeats counted."""
    return sum(len(dataset.clips) * dataset.repeats for dataset in datasets)


def _trigger_frequency(job: JobSpec, datasets: Iterable[DatasetSection]) -> dict[str, dict[str, int]]:
    """By data set, how many captions hold its trigger word: the only tag that is told."""
    frequency: dict[str, dict[str, int]] = {}
    for dataset in datasets:
        trigger = dataset.trigger or job.job.trigger
        holding = sum(bool(trigger) and trigger in clip.caption for clip in dataset.clips)
        if holding:
            frequency[dataset.name] = {trigger: holding}
    return frequency


def _sizes(datasets: Iterable[DatasetSection]) -> list[TrainedSize]:
    """The sizes that train, each once, the largest first."""
    sizes = {
        (size.width, size.height): size
        for dataset in datasets
        for clip in dataset.clips
        for size in clip.sizes
    }
    return sorted(sizes.values(), key=lambda size: (-size.width * size.height, size.width))


def _resolution(job: JobSpec) -> str:
    """The largest size that trains, as the standard writes it: ``832x480``."""
    largest = _sizes([dataset for dataset in job.datasets if dataset.role == "training"] or job.datasets)[0]
    return f"{largest.width}x{largest.height}"


def _last_part(path: str) -> str:
    """The name at the end of a path of either kind of system, so that a copied job hides it too."""
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
