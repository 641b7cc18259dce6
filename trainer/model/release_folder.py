"""A base as the original release has it: a folder of shards for each expert, VAE and text encoder beside them."""

from collections.abc import Collection
from pathlib import Path

from trainer.model.base_errors import MissingPartError
from trainer.model.base_parts import FoundParts, Part, PartFiles, part_at

EXPERT_FOLDERS = {Part.HIGH: "high_noise_model", Part.LOW: "low_noise_model"}
SINGLE_FILES = {Part.VAE: "Wan2.1_VAE.pth", Part.TEXT: "models_t5_umt5-xxl-enc-bf16.pth"}
TOKENIZER_FOLDER = "google/umt5-xxl"


def is_release_folder(folder: Path) -> bool:
    """Whether a folder looks like the release, even if something of it is missing."""
    return any((folder / name).is_dir() for name in EXPERT_FOLDERS.values())


def find_in_release_folder(folder: Path, wanted: Collection[Part]) -> FoundParts:
    """Find the wanted parts; of the experts' shards, that all are there and whole.

    Raises:
        BaseModelError: a part is missing or damaged.
    """
    parts: dict[Part, PartFiles] = {}
    for part in wanted:
        name = {**EXPERT_FOLDERS, **SINGLE_FILES}[part]
        if not (folder / name).exists():
            raise MissingPartError(folder / name)
        parts[part] = part_at(folder / name, part)
    return FoundParts(parts)
