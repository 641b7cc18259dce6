"""Opens a base model: where its parts are, and whether they are all there and the right ones.

Only configs and headers are read: opening a base of 100 GB takes well under a second.
"""

import os
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.model.base_errors import (
    BaseFolderError,
    BaseModelError,
    MiniatureMixedError,
    NoBaseError,
    PartNotLoadedError,
    SameExpertError,
)
from trainer.model.base_parts import (
    EXPERT_PARTS,
    FoundParts,
    Part,
    PartFiles,
    part_at,
    read_object,
    tokenizer_files,
)
from trainer.model.diffusers_folder import INDEX_FILE, find_in_diffusers_folder
from trainer.model.fingerprints import digest, fingerprint_of
from trainer.model.hub import cached_folder, downloaded_folder
from trainer.model.loose_files import find_loose
from trainer.model.prompt_tokenizer import find_tokenizer, load_tokenizer
from trainer.model.release_folder import find_in_release_folder, is_release_folder
from trainer.model.text import Tokenize
from trainer.model.weight_source import WeightSource, open_expert, open_text_encoder, open_vae
from trainer.protocol.base_names import is_hub_name
from trainer.protocol.job import MINIATURE, Expert, ModelSection


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model whose parts were found complete.

    Attributes:
        folder: That holds it, or the single file that was named for it.
        boundary_ratio: Noise level (0..1) from which on the high-noise expert denoises.
        fingerprint: Of the whole model; equal for copies of it, whatever their place and age.
        vae_fingerprint: Of the VAE alone, for keys of cached latents.
        text_fingerprint: Of text encoder and tokenizer, for keys of cached text.
        parts: The files of each part.
        tokenizer: A folder with a tokenizer, or a file that contains its sentencepiece model.
        scheduler: A folder with the config of diffusers' scheduler, if there is one.
    """

    folder: Path
    boundary_ratio: float
    fingerprint: str
    vae_fingerprint: str
    text_fingerprint: str
    parts: Mapping[Part, PartFiles]
    tokenizer: Path
    scheduler: Path | None

    def expert_source(self, expert: Expert) -> WeightSource:
        """An expert's weights under the names of `WanTransformer3DModel`, read when asked for.

        Raises:
            BaseModelError: a file is damaged or of another model.
        """
        return _expert_source(self.parts[EXPERT_PARTS[expert]])

    def vae_source(self) -> WeightSource:
        """The VAE's weights under the names of `AutoencoderKLWan`; raises as `expert_source`."""
        return _vae_source(self.parts[Part.VAE])

    def text_source(self) -> WeightSource:
        """The text encoder's weights under the names of `UMT5EncoderModel`; raises as `expert_source`."""
        return _text_source(self.parts[Part.TEXT])

    def open_tokenizer(self) -> Tokenize:
        """The text encoder's tokenizer; raises as `expert_source`."""
        return load_tokenizer(self.tokenizer)


def open_base(model: ModelSection | str) -> BaseModel:
    """Find a base model and check that all of it is there.

    Args:
        model: A base with the parts that are named beside it, or a base alone: a folder in the diffusers
            layout or of the original release, a folder or file as ComfyUI has them, a repository of the
            Hugging Face Hub, or "miniature" for the model shipped with the program.

    Raises:
        BaseModelError: a part is missing, damaged, of another model, or cannot be told; the message says
            which.
    """
    section = ModelSection(base=model) if isinstance(model, str) else model
    base = resources_folder() / MINIATURE if section.base == MINIATURE else Path(section.base).expanduser()
    try:
        named = {
            part: part_at(Path(place).expanduser(), part)
            for part in Part
            if (place := getattr(section, part.value))
        }
        wanted = [part for part in Part if part not in named]
        if wanted and not section.base:
            # As a path, it would be the folder in which the program happens to run.
            raise NoBaseError
        if named and wanted and section.base == MINIATURE:
            raise MiniatureMixedError(wanted[0].words)
        base, found = _find(section.base, base, wanted) if wanted else (base, FoundParts())
        return _base_model(base, found, named)
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error})"
        raise BaseFolderError(base, problem) from error


def expert_config(base: BaseModel, expert: Expert) -> dict[str, Any]:
    """The config of an expert, as `WanTransformer3DModel` takes it.

    Raises:
        BaseModelError: its files are missing or damaged.
    """
    return dict(base.expert_source(expert).config)


def resources_folder() -> Path:
    """The program's data files, wherever this installation keeps them."""
    if named := os.environ.get("WAN_STUDIO_RESOURCES"):
        return Path(named)
    if frozen := getattr(sys, "_MEIPASS", None):
        return Path(frozen) / "resources"
    root = Path(__file__).resolve().parents[2]
    source_layout = root / "resources"
    return source_layout if source_layout.is_dir() else root / "wan_studio" / "resources"


def _find(name: str, base: Path, wanted: Collection[Part]) -> tuple[Path, FoundParts]:
    """The wanted parts of a base; its folder too, which for a repository is not known before."""
    if base.exists():
        return base, _find_at(base, wanted)
    if not is_hub_name(name):
        raise BaseFolderError(base, "does not exist")
    cached = cached_folder(name)
    if cached is not None:
        try:
            return cached, _find_at(cached, wanted)
        except BaseModelError:
            # The cache keeps what was interrupted, too: the download goes on from there.
            pass
    downloaded = downloaded_folder(name)
    return downloaded, _find_at(downloaded, wanted)


def _find_at(base: Path, wanted: Collection[Part]) -> FoundParts:
    if (base / INDEX_FILE).is_file():
        return find_in_diffusers_folder(base, wanted)
    if is_release_folder(base):
        return find_in_release_folder(base, wanted)
    return find_loose(base, wanted)


def _base_model(base: Path, found: FoundParts, named: Mapping[Part, PartFiles]) -> BaseModel:
    parts = {part: named.get(part) or found.parts[part] for part in Part}
    _check_loose(parts)
    text = parts[Part.TEXT]
    # A tokenizer of its own goes with an encoder that was named: the base's may be of another vocabulary.
    own = found.tokenizer if Part.TEXT not in named else None
    tokenizer = own or find_tokenizer(text, base)
    text_files = [*_labelled(Part.TEXT, text), *_tokenizer_labels(tokenizer, text)]
    vae_print = fingerprint_of(_labelled(Part.VAE, parts[Part.VAE]))
    text_print = fingerprint_of(text_files)
    experts_print = fingerprint_of(
        [pair for part in (Part.HIGH, Part.LOW) for pair in _labelled(part, parts[part])]
    )
    return BaseModel(
        folder=base,
        boundary_ratio=found.boundary_ratio,
        fingerprint=digest(experts_print, vae_print, text_print),
        vae_fingerprint=vae_print,
        text_fingerprint=text_print,
        parts=parts,
        tokenizer=tokenizer,
        scheduler=found.scheduler,
    )


def _check_loose(parts: Mapping[Part, PartFiles]) -> None:
    """That files which no diffusers folder vouches for are what they were taken for, and fit each other."""
    if parts[Part.HIGH].weights == parts[Part.LOW].weights:
        raise SameExpertError(parts[Part.HIGH].place)
    loose = [part for part, files in parts.items() if files.folder is None]
    if Part.VAE in loose:
        _vae_source(parts[Part.VAE])
    text_width = _text_source(parts[Part.TEXT]).config.get("d_model") if Part.TEXT in loose else None
    for part in EXPERT_PARTS.values():
        if part not in loose and text_width is None:
            continue
        wanted_width = _expert_source(parts[part]).config.get("text_dim")
        if text_width is not None and wanted_width != text_width:
            raise PartNotLoadedError(
                parts[Part.TEXT].place,
                f"it makes {text_width} numbers of a token, and the {part.words} wants {wanted_width}",
            )


def _expert_source(files: PartFiles) -> WeightSource:
    return open_expert(files.place, files.weights, _config(files))


def _vae_source(files: PartFiles) -> WeightSource:
    return open_vae(files.place, files.weights, _config(files))


def _text_source(files: PartFiles) -> WeightSource:
    return open_text_encoder(files.place, files.weights, _config(files))


def _config(files: PartFiles) -> dict[str, Any] | None:
    return None if files.config is None else read_object(files.config)


def _labelled(part: Part, files: PartFiles) -> list[tuple[str, Path]]:
    """Files with what stands for their names: their place in the base, or their number where names are free."""
    if files.folder is None:
        return [(f"{part.value}/{number}", path) for number, path in enumerate(files.all_files)]
    return [(path.relative_to(files.folder).as_posix(), path) for path in files.all_files]


def _tokenizer_labels(tokenizer: Path, text: PartFiles) -> list[tuple[str, Path]]:
    if tokenizer in text.weights:
        return []
    files = tokenizer_files(tokenizer) if tokenizer.is_dir() else [tokenizer]
    return [(f"tokenizer/{path.name}", path) for path in files]
