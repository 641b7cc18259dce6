"""A base as single files, in the folders that ComfyUI has: ``diffusion_models``, ``vae``, ``text_encoders``.

The base may be ComfyUI's models folder or any folder above or below it, or one of the experts' files.
"""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainer.model.base_errors import (
    AmbiguousPartError,
    BaseModelError,
    PartNotFoundError,
    UnknownExpertError,
    WrongModelError,
)
from trainer.model.base_parts import FoundParts, Part, PartFiles
from trainer.model.expert_names import expert_of, name_without_expert
from trainer.model.part_kinds import (
    LATENT_CHANNELS,
    check_expert,
    expert_prefix,
    is_text_encoder,
    is_vae,
    words_for,
)
from trainer.model.weight_files import WEIGHT_SUFFIXES, TensorFile, open_tensors

EXPERT_FOLDERS = ("diffusion_models", "unet")
FOLDERS = {Part.VAE: ("vae",), Part.TEXT: ("text_encoders", "clip")}
_ALL_FOLDERS = (*EXPERT_FOLDERS, *(name for names in FOLDERS.values() for name in names))
_MODELS_FOLDERS = ("", "models", "split_files")
_DEPTH = 3
"""Of folders within folders that are looked into, and of folders above that may be the models folder."""

_NAME_PARTS = {Part.VAE: ("wan", "vae"), Part.TEXT: ("t5",)}
"""What names of the part's files contain: the VAE of Qwen Image, for one, has the same weights by name."""


@dataclass(slots=True)
class _Experts:
    """Files among which the experts are looked for."""

    sound: list[Path] = field(default_factory=list)
    others: dict[Path, BaseModelError] = field(default_factory=dict)


def find_loose(base: Path, wanted: Collection[Part]) -> FoundParts:
    """Find the wanted parts among single files.

    Raises:
        BaseModelError: a part is not there, or damaged, or nothing tells which file it is.
    """
    parts: dict[Part, PartFiles] = {}
    experts = [part for part in (Part.HIGH, Part.LOW) if part in wanted]
    if experts:
        chosen = _pair_with(base, experts) if base.is_file() else _pair_in(base, experts)
        parts |= {part: PartFiles(file, (file,)) for part, file in chosen.items()}
    for part in (Part.VAE, Part.TEXT):
        if part in wanted:
            file = _single(base, part)
            parts[part] = PartFiles(file, (file,))
    return FoundParts(parts)


def models_folders(base: Path) -> list[Path]:
    """The base's own folder, and those around it that have ComfyUI's folders for parts."""
    start = base.parent if base.is_file() else base
    below = [start / name for name in _MODELS_FOLDERS]
    above = list(start.absolute().parents)[:_DEPTH]
    around = [folder for folder in (*below, *above) if any((folder / name).is_dir() for name in _ALL_FOLDERS)]
    return list(dict.fromkeys([start, *around]))


def _pair_with(base: Path, wanted: Sequence[Part]) -> dict[Part, Path]:
    """The experts of which the base is one file: the other is beside it."""
    tensors = open_tensors(base)
    problem = _problem_of(tensors)
    if problem is not None:
        raise problem
    own = expert_of(base) or (wanted[0] if len(wanted) == 1 else None)
    if own is None:
        raise UnknownExpertError(base)
    files = {own: base}
    other = Part.LOW if own is Part.HIGH else Part.HIGH
    if other in wanted:
        experts = _sorted_out(sorted(base.parent.iterdir()))
        beside = [file for file in experts.sound if expert_of(file) is other]
        twins = [file for file in beside if name_without_expert(file) == name_without_expert(base)]
        files[other] = _only(base.parent, other, twins or beside, experts)
    return {part: files[part] for part in wanted if part in files}


def _pair_in(base: Path, wanted: Sequence[Part]) -> dict[Part, Path]:
    """The experts among a folder's files."""
    experts = _sorted_out(_expert_candidates(base))
    if not experts.sound:
        if experts.others:
            raise next(iter(experts.others.values()))
        raise WrongModelError(base, "it holds no model_index.json, no high_noise_model and no expert's file")
    told = {
        part: [file for file in experts.sound if expert_of(file) is part] for part in (Part.HIGH, Part.LOW)
    }
    if len(wanted) == 2:
        twins = {name_without_expert(file) for file in told[Part.HIGH]} & {
            name_without_expert(file) for file in told[Part.LOW]
        }
        if len(twins) == 1:
            told = {
                part: [file for file in files if name_without_expert(file) in twins]
                for part, files in told.items()
            }
    return {part: _only(base, part, told[part], experts) for part in wanted}


def _only(base: Path, part: Part, files: Sequence[Path], experts: _Experts) -> Path:
    if len(files) == 1:
        return files[0]
    if files:
        hint = f"Choose one of the files as the base, or set model.{part.value}."
        raise AmbiguousPartError(base, part.words, files, hint)
    if untold := [file for file in experts.sound if expert_of(file) is None]:
        raise UnknownExpertError(untold[0])
    if broken := [error for file, error in experts.others.items() if expert_of(file) is part]:
        raise broken[0]
    raise PartNotFoundError(base, part.words, f"Put it beside the other expert, or set model.{part.value}.")


def _sorted_out(files: Sequence[Path]) -> _Experts:
    """Files of Wan's transformers, sound ones of the right model apart from others."""
    experts = _Experts()
    for file in files:
        if file.suffix.lower() != ".safetensors" or not file.is_file():
            continue
        try:
            tensors = open_tensors(file)
        except BaseModelError as error:
            # Of all that a folder may hold, only a file that looks like an expert is worth a complaint.
            if expert_of(file) is not None:
                experts.others[file] = error
            continue
        if expert_prefix(tensors.entries) is None:
            continue
        problem = _problem_of(tensors)
        if problem is None:
            experts.sound.append(file)
        else:
            experts.others[file] = problem
    return experts


def _problem_of(tensors: TensorFile) -> BaseModelError | None:
    """What keeps a file from being one of the experts."""
    prefix = expert_prefix(tensors.entries)
    if prefix is None:
        return WrongModelError(tensors.path, words_for(tensors.entries))
    try:
        patch_shape = tensors.entries[f"{prefix}patch_embedding.weight"].shape
        check_expert(tensors.path, tensors.entries, patch_shape)
    except BaseModelError as error:
        return error
    return None


def _expert_candidates(base: Path) -> list[Path]:
    folders = [
        base / models / name
        for models in _MODELS_FOLDERS
        for name in EXPERT_FOLDERS
        if (base / models / name).is_dir()
    ]
    return [file for folder in folders or [base] for file in _files_in(folder)]


def _single(base: Path, part: Part) -> Path:
    """The VAE or the text encoder among the files around the base."""
    folders = models_folders(base)
    places = [folder / name for folder in folders for name in FOLDERS[part]]
    # Files beside the experts come last: a folder made for the part says more.
    candidates = dict.fromkeys(
        file
        for place in (*places, folders[0])
        if place.is_dir()
        for file in _files_in(place)
        if all(word in file.name.lower() for word in _NAME_PARTS[part])
    )
    found: list[Path] = []
    broken: list[BaseModelError] = []
    for file in candidates:
        try:
            tensors = open_tensors(file)
        except BaseModelError as error:
            broken.append(error)
            continue
        if _IS_PART[part](tensors):
            found.append(file)
    where = f"{_models_folder(base, folders) / FOLDERS[part][0]}"
    if not found and broken:
        raise broken[0]
    if not found:
        raise PartNotFoundError(base, part.words, f"Put its file into {where}, or set model.{part.value}.")
    exact = [file for file in found if "fp8" not in file.name.lower()] or found
    if len(exact) > 1:
        raise AmbiguousPartError(base, part.words, exact, f"Set model.{part.value} to one of them.")
    return exact[0]


def _is_this_vae(tensors: TensorFile) -> bool:
    shape = tensors.entries.get("conv2.weight") or tensors.entries.get("post_quant_conv.weight")
    return is_vae(tensors.entries) and shape is not None and shape.shape[0] == LATENT_CHANNELS


def _is_this_text_encoder(tensors: TensorFile) -> bool:
    names: Mapping[str, object] = tensors.entries
    return is_text_encoder(names) and (
        "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight" in names
        or "blocks.1.pos_embedding.embedding.weight" in names
    )


_IS_PART = {Part.VAE: _is_this_vae, Part.TEXT: _is_this_text_encoder}


def _models_folder(base: Path, folders: Sequence[Path]) -> Path:
    own = base.parent if base.is_file() else base
    return next((folder for folder in folders if folder != own), own)


def _files_in(folder: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """Weight files in a folder and those within it, not endlessly deep; by name."""
    top = len(folder.parts)
    for current, below, names in os.walk(folder):
        if len(Path(current).parts) - top >= depth:
            below.clear()
        below.sort()
        for name in sorted(names):
            if Path(name).suffix.lower() in WEIGHT_SUFFIXES:
                yield Path(current) / name
