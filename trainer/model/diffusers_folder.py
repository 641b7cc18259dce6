"""A base in the diffusers layout: ``model_index.json`` and a folder for each part."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from trainer.model.base_errors import DamagedFileError, MissingPartError, WrongModelError
from trainer.model.base_parts import (
    DIFFUSERS_WEIGHTS,
    OFFICIAL_BOUNDARY_RATIO,
    TOKENIZER_VOCABULARIES,
    TRANSFORMERS_WEIGHTS,
    FoundParts,
    Part,
    PartFiles,
    checked_weights,
    existing,
    read_object,
    tokenizer_files,
)
from trainer.model.part_kinds import INPUT_CHANNELS, LATENT_CHANNELS

INDEX_FILE = "model_index.json"
EXPERT_FOLDERS = {Part.HIGH: "transformer", Part.LOW: "transformer_2"}
_PIPELINE_CLASS = "WanImageToVideoPipeline"


def find_in_diffusers_folder(folder: Path, wanted: Collection[Part]) -> FoundParts:
    """Find the wanted parts and check by configs and headers that they are whole and the right ones.

    Raises:
        BaseModelError: a part is missing, damaged, or of another model.
    """
    index = _checked_index(folder)
    parts: dict[Part, PartFiles] = {}
    for part in (Part.HIGH, Part.LOW):
        if part in wanted:
            parts[part] = _checked_expert(folder, folder / EXPERT_FOLDERS[part])
    if Part.VAE in wanted:
        parts[Part.VAE] = _checked_vae(folder)
    if Part.TEXT in wanted:
        parts[Part.TEXT] = _checked_text(folder)
    existing(folder / "scheduler" / "scheduler_config.json")
    return FoundParts(
        parts, _boundary_ratio(folder, index), folder / "tokenizer", scheduler=folder / "scheduler"
    )


def _checked_index(folder: Path) -> dict[str, Any]:
    index = read_object(folder / INDEX_FILE)
    class_name = index.get("_class_name")
    if class_name != _PIPELINE_CLASS:
        raise WrongModelError(folder, f"{INDEX_FILE} names a {class_name} instead of {_PIPELINE_CLASS}")
    if not _is_component(index.get("transformer_2")):
        raise WrongModelError(folder, "it has one transformer (as Wan 2.1 has) instead of two")
    return index


def _is_component(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and all(entry)


def _boundary_ratio(folder: Path, index: dict[str, Any]) -> float:
    ratio = index.get("boundary_ratio")
    if ratio is None:
        return OFFICIAL_BOUNDARY_RATIO
    if not isinstance(ratio, (int, float)) or not 0.0 < ratio < 1.0:
        raise DamagedFileError(
            folder / INDEX_FILE, f"has the boundary_ratio {ratio!r} instead of a number between 0 and 1"
        )
    return float(ratio)


def _checked_expert(folder: Path, part: Path) -> PartFiles:
    config = read_object(existing(part / "config.json"))
    channels = config.get("in_channels")
    if channels == LATENT_CHANNELS:
        raise WrongModelError(folder, f"{part.name} takes {channels} channels: a text-to-video model")
    if channels != INPUT_CHANNELS:
        raise WrongModelError(folder, f"{part.name} takes {channels} channels instead of {INPUT_CHANNELS}")
    if config.get("image_dim") is not None or config.get("added_kv_proj_dim") is not None:
        raise WrongModelError(folder, f"{part.name} wants an image encoder, as Wan 2.1 does")
    return _part_files(folder, part, DIFFUSERS_WEIGHTS)


def _checked_vae(folder: Path) -> PartFiles:
    part = folder / "vae"
    config = read_object(existing(part / "config.json"))
    # The class has defaults for both, so an old config without them is fine.
    channels = config.get("z_dim", LATENT_CHANNELS)
    if channels != LATENT_CHANNELS:
        raise WrongModelError(
            folder, f"its VAE has {channels} latent channels (as Wan 2.2 5B has) instead of {LATENT_CHANNELS}"
        )
    return _part_files(folder, part, DIFFUSERS_WEIGHTS)


def _checked_text(folder: Path) -> PartFiles:
    existing(folder / "text_encoder" / "config.json")
    files = _part_files(folder, folder / "text_encoder", TRANSFORMERS_WEIGHTS)
    if not tokenizer_files(folder / "tokenizer"):
        raise MissingPartError(folder / "tokenizer" / TOKENIZER_VOCABULARIES[0])
    return files


def _part_files(folder: Path, part: Path, name: str) -> PartFiles:
    return PartFiles(part, tuple(checked_weights(part, name)), part / "config.json", folder)
