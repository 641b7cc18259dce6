"""What may change when a run goes on: where its numbers are kept and when they are computed, never which.

The job itself stays as it was written; these settings lie beside it, and every reader of the run's job
sees them in place.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from trainer.protocol.job import JobSpec

MEMORY_SETTINGS = (
    "model.low_vram",
    "model.layer_offloading",
    "model.resident_blocks",
    "model.checkpoint_offloading",
    "model.feed_forward_chunks",
    "model.compile",
    "training.gradient_checkpointing",
    "training.kept_activations",
    "training.kept_blocks",
    "sample.in_tiles",
)


class MemorySettingError(Exception):
    """A setting that a run cannot go on with; the message says why."""


def memory_settings(assignments: Iterable[str]) -> dict[str, str]:
    """`section.field=value` texts as a mapping.

    Raises:
        MemorySettingError: one has another shape, or is no setting of memory.
    """
    settings: dict[str, str] = {}
    for assignment in assignments:
        name, separator, value = assignment.partition("=")
        if not separator or name.strip() not in MEMORY_SETTINGS:
            raise MemorySettingError(
                f"{assignment} is no setting that a run can go on with; those of its memory are "
                f"{', '.join(MEMORY_SETTINGS)}. Others change the result: start a new run with them."
            )
        settings[name.strip()] = value.strip()
    return settings


def with_memory(job: JobSpec, settings: Mapping[str, str]) -> JobSpec:
    """The job with other settings of memory; "none" clears a value.

    Raises:
        MemorySettingError: a value is not one that the setting can take.
    """
    for name, value in settings.items():
        section_name, _, field = name.partition(".")
        section: Struct = getattr(job, section_name)
        data: dict[str, Any] = msgspec.structs.asdict(section)
        data[field] = None if value.lower() == "none" else value
        try:
            changed = msgspec.convert(data, type(section), strict=False)
        except msgspec.ValidationError as error:
            problem = str(error).split(" - at ")[0].replace("`", "")
            raise MemorySettingError(
                f"{name} cannot be {value!r}: {problem[:1].lower()}{problem[1:]}."
            ) from error
        job = msgspec.structs.replace(job, **{section_name: changed})
    return job
