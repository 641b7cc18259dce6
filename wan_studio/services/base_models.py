"""A first look at the base model that a project names: is it there, and is it of a kind that can train.

Light on purpose: names and file lengths. The trainer looks into the files and has the last word.
"""

import json
import os
from pathlib import Path

import msgspec

from trainer.protocol.base_names import NAMED_PARTS, is_hub_name
from trainer.protocol.job import MINIATURE, ModelSection
from wan_studio.errors import AppError
from wan_studio.services.shipped_files import shipped_file

BASE_HINT = (
    "Choose Wan 2.2 I2V A14B: a folder in the diffusers layout, the original release, ComfyUI's models folder or one "
    "of its two expert files, or a repository of the Hugging Face Hub such as Wan-AI/Wan2.2-I2V-A14B-Diffusers."
)
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
_DIFFUSERS_INDEX = "model_index.json"
_DIFFUSERS = {
    "high_noise": "transformer",
    "low_noise": "transformer_2",
    "text_encoder": "text_encoder",
    "vae": "vae",
}
_RELEASE = {
    "high_noise": "high_noise_model",
    "low_noise": "low_noise_model",
    "vae": "Wan2.1_VAE.pth",
    "text_encoder": "models_t5_umt5-xxl-enc-bf16.pth",
}
_DEPTH = 4
_PART_WORDS = {
    "high_noise": "high-noise expert",
    "low_noise": "low-noise expert",
    "vae": "VAE",
    "text_encoder": "text encoder",
}


class UnusableBaseError(AppError):
    """The base model, or a part that was named beside it, cannot be used."""

    def __init__(self, message: str, hint: str = BASE_HINT) -> None:
        super().__init__(message, hint)


def check_base_model(model: ModelSection) -> str:
    """Look at the base and the parts named beside it; returns where they are, as a sentence.

    Raises:
        UnusableBaseError: something is not there, or of no known kind.
        ShippedFileError: the miniature is wanted and the installation is not whole.
    """
    named = {part for part in NAMED_PARTS if getattr(model, part)}
    for part in NAMED_PARTS:
        if part in named:
            _check_named(part, Path(getattr(model, part)).expanduser())
    if len(named) == len(NAMED_PARTS):
        return "The base model's four parts are named one by one."
    if model.base == MINIATURE:
        if named:
            raise UnusableBaseError(
                "The miniature's parts do not fit those of the real model that are named."
            )
        shipped_file(f"miniature/{_DIFFUSERS_INDEX}")
        return "The base model is the miniature that ships with the app."
    return _check_base(model.base, named)


def absolute_model(model: ModelSection) -> ModelSection:
    """The same with absolute paths: the trainer may run in another folder."""
    paths = {part: _absolute(place) for part in NAMED_PARTS if (place := getattr(model, part))}
    return msgspec.structs.replace(model, base=absolute_base(model.base), **paths)


def absolute_base(base: str) -> str:
    """A base as the job names it: an absolute path, or a name that is none."""
    if base in ("", MINIATURE) or (is_hub_name(base) and not Path(base).exists()):
        return base
    return _absolute(base)


def _absolute(place: str) -> str:
    return str(Path(place).expanduser().absolute())


def _check_base(base: str, named: set[str]) -> str:
    if not base:
        raise UnusableBaseError("No base model is chosen.")
    path = Path(base).expanduser()
    try:
        if path.is_file():
            _check_file(path, base)
            return f"The base model is {base}, with the files around it."
        if path.is_dir():
            _check_folder(path, named)
            return f"The base model is in {base}."
    except OSError as error:
        raise UnusableBaseError(
            f"The base model {base} cannot be read: {error.strerror or error}."
        ) from error
    if is_hub_name(base):
        return f"The base model is {base} on the Hugging Face Hub; what is not on this machine yet is downloaded."
    raise UnusableBaseError(f"The base model {base} does not exist.")


def _check_folder(folder: Path, named: set[str]) -> None:
    if (folder / _DIFFUSERS_INDEX).is_file() or (folder / _DIFFUSERS["high_noise"]).is_dir():
        wanted = [_DIFFUSERS_INDEX, *(name for part, name in _DIFFUSERS.items() if part not in named)]
    elif any((folder / name).is_dir() for name in (_RELEASE["high_noise"], _RELEASE["low_noise"])):
        wanted = [name for part, name in _RELEASE.items() if part not in named]
    elif _has_weights(folder):
        return
    else:
        raise UnusableBaseError(
            f"The folder {folder} holds no model: no {_DIFFUSERS_INDEX} and no .safetensors files."
        )
    if missing := [name for name in wanted if not (folder / name).exists()]:
        raise UnusableBaseError(f"The model folder {folder} lacks {', '.join(missing)}.")


def _check_named(part: str, place: Path) -> None:
    words = f"{_PART_WORDS[part]} {place}"
    if place.is_file():
        _check_file(place, words)
    elif not place.is_dir():
        raise UnusableBaseError(f"The {words} does not exist.", "Choose another file, or clear the setting.")


def _check_file(path: Path, words: str) -> None:
    if path.suffix.lower() not in WEIGHT_SUFFIXES:
        raise UnusableBaseError(f"{words} is no file of weights that can be read.")
    if path.suffix.lower() == ".safetensors" and not _is_whole(path):
        raise UnusableBaseError(
            f"{words} is no safetensors file, or was cut off.", "Download it again, or choose another."
        )


def _is_whole(path: Path) -> bool:
    """Whether the file is as long as its header says."""
    length = path.stat().st_size
    with path.open("rb") as file:
        header_length = int.from_bytes(file.read(8), "little")
        if not 2 <= header_length <= length - 8:
            return False
        header = file.read(header_length)
    try:
        entries = json.loads(header)
        ends = [int(entry["data_offsets"][1]) for name, entry in entries.items() if name != "__metadata__"]
    except (ValueError, LookupError, TypeError, AttributeError):
        return False
    return length == 8 + header_length + max(ends, default=0)


def _has_weights(folder: Path) -> bool:
    top = len(folder.parts)
    for current, below, names in os.walk(folder):
        if len(Path(current).parts) - top >= _DEPTH:
            below.clear()
        if any(name.lower().endswith(".safetensors") for name in names):
            return True
    return False
