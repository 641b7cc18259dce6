"""The parts of a base model as files, and the files that say what is in them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from trainer.model.base_errors import AmbiguousPartError, DamagedFileError, MissingPartError
from trainer.model.weight_files import WEIGHT_SUFFIXES, check_safetensors
from trainer.protocol.job import Expert

OFFICIAL_BOUNDARY_RATIO = 0.9
"""Of Wan 2.2 I2V; for bases that name none. (0.875 is the T2V value.)"""

DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"
TRANSFORMERS_WEIGHTS = "model.safetensors"
TOKENIZER_VOCABULARIES = ("tokenizer.json", "spiece.model")
_TOKENIZER_FILES = (*TOKENIZER_VOCABULARIES, "tokenizer_config.json", "special_tokens_map.json")


class Part(StrEnum):
    """What a base is made of, under the names that the job's settings have."""

    HIGH = "high_noise"
    LOW = "low_noise"
    VAE = "vae"
    TEXT = "text_encoder"

    @property
    def words(self) -> str:
        """The part as a sentence calls it."""
        return _WORDS[self]


_WORDS = {
    Part.HIGH: "high-noise expert",
    Part.LOW: "low-noise expert",
    Part.VAE: "VAE of Wan 2.1",
    Part.TEXT: "text encoder UMT5-XXL",
}
EXPERT_PARTS = {Expert.HIGH: Part.HIGH, Expert.LOW: Part.LOW}


@dataclass(frozen=True, slots=True)
class PartFiles:
    """The files of one part.

    Attributes:
        place: The file or folder that errors name.
        weights: One file, or all shards.
        config: The part's ``config.json``, if it brings one.
        folder: Names relative to it belong to the fingerprint; None for single files, whose name may be any.
    """

    place: Path
    weights: tuple[Path, ...]
    config: Path | None = None
    folder: Path | None = None

    @property
    def all_files(self) -> tuple[Path, ...]:
        """Everything that makes the part what it is."""
        return (*(() if self.config is None else (self.config,)), *self.weights)


@dataclass(frozen=True, slots=True)
class FoundParts:
    """What a base has of its own.

    Attributes:
        tokenizer: A folder with a tokenizer, or a file that contains its sentencepiece model.
        scheduler: A folder with the config of diffusers' scheduler.
    """

    parts: Mapping[Part, PartFiles] = field(default_factory=dict)
    boundary_ratio: float = OFFICIAL_BOUNDARY_RATIO
    tokenizer: Path | None = None
    scheduler: Path | None = None


def part_at(place: Path, part: Part) -> PartFiles:
    """The part in a file or folder that was named for it.

    Raises:
        BaseModelError: there is nothing there, a shard is missing, or there are several files to choose from.
    """
    if place.is_file():
        return PartFiles(place, (place,))
    if not place.is_dir():
        raise MissingPartError(place)
    config = place / "config.json"
    for name in (DIFFUSERS_WEIGHTS, TRANSFORMERS_WEIGHTS):
        if (place / name).is_file() or (place / f"{name}.index.json").is_file():
            weights = tuple(checked_weights(place, name))
            return PartFiles(place, weights, config if config.is_file() else None)
    files = sorted(file for file in place.iterdir() if file.suffix.lower() in WEIGHT_SUFFIXES)
    if not files:
        raise MissingPartError(place / DIFFUSERS_WEIGHTS)
    if len(files) > 1:
        raise AmbiguousPartError(place, part.words, files, f"Set model.{part.value} to one of the files.")
    return PartFiles(place, (files[0],), config if config.is_file() else None)


def checked_weights(part: Path, name: str) -> list[Path]:
    """The weight files in a part's folder, one or several, each with a sound header and its full length.

    Args:
        part: The folder.
        name: Of the weight file when it is a single one.

    Raises:
        BaseModelError: a file is missing or damaged.
    """
    single, index = part / name, part / f"{name}.index.json"
    if single.is_file():
        files = [single]
    elif index.is_file():
        weight_map = read_object(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise DamagedFileError(index, "names no weight files")
        files = [part / str(shard) for shard in sorted(set(weight_map.values()))]
    else:
        raise MissingPartError(single)
    for file in files:
        check_safetensors(existing(file))
    return files


def tokenizer_files(folder: Path) -> list[Path]:
    """The files of a tokenizer's folder that say how it works; none if it holds no tokenizer."""
    if not any((folder / name).is_file() for name in TOKENIZER_VOCABULARIES):
        return []
    return [folder / name for name in _TOKENIZER_FILES if (folder / name).is_file()]


def existing(path: Path) -> Path:
    """The path again.

    Raises:
        MissingPartError: there is no such file.
    """
    if not path.is_file():
        raise MissingPartError(path)
    return path


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        DamagedFileError: the file cannot be read, or holds no object.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DamagedFileError(path, f"cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise DamagedFileError(path, f"is no JSON file ({error})") from error
    if not isinstance(content, dict):
        raise DamagedFileError(path, "holds no JSON object")
    return content
