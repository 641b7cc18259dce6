"""Where a base model's parts are on disk, and whether they are all there and the right ones.

Only configs and safetensors headers are read: opening a base of 100 GB takes well under a second.
"""

import hashlib
import json
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.errors import TrainerError
from trainer.protocol.job import MINIATURE, Expert

EXPERT_FOLDERS = {Expert.HIGH: "transformer", Expert.LOW: "transformer_2"}
"""Sub-folders of the diffusers layout."""

OFFICIAL_BOUNDARY_RATIO = 0.9
"""Of Wan 2.2 I2V; for an index that names none. (0.875 is the T2V value.)"""

PIPELINE_CLASS = "WanImageToVideoPipeline"
LATENT_CHANNELS = 16
INPUT_CHANNELS = 36
INDEX_FILE = "model_index.json"
DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"
WHOLE_HASH_BYTES = 16 * 2**20
SAMPLE_BYTES = 4096
SAMPLE_COUNT = 64
LAYOUT_HINT = (
    "Choose the folder of Wan 2.2 I2V A14B in the diffusers layout: "
    "it holds model_index.json, transformer and transformer_2."
)
INCOMPLETE_HINT = "The download is probably incomplete: download it again."


class BaseModelError(TrainerError):
    """The base model cannot be used; the message names the folder or file."""

    kind = "base_model"


class BaseFolderError(BaseModelError):
    """The base is no folder at all."""

    def __init__(self, folder: Path, problem: str) -> None:
        super().__init__(f"The base model's folder {folder} {problem}.", LAYOUT_HINT)


class WrongModelError(BaseModelError):
    """The folder holds something else than Wan 2.2 I2V A14B."""

    def __init__(self, folder: Path, found: str) -> None:
        super().__init__(f"{folder} is not Wan 2.2 I2V: {found}.", LAYOUT_HINT)


class MissingPartError(BaseModelError):
    """A part of the model is not there."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"The base model lacks {path}.", INCOMPLETE_HINT)


class DamagedFileError(BaseModelError):
    """A file of the model cannot be read or is not whole."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path} {problem}.", INCOMPLETE_HINT)


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model whose parts were found complete.

    Attributes:
        folder: In the diffusers layout.
        boundary_ratio: Noise level (0..1) from which on the high-noise expert denoises.
        fingerprint: Of the whole model; equal for copies of it, whatever their place and age.
        vae_fingerprint: Of the VAE alone, for keys of cached latents.
        text_fingerprint: Of text encoder and tokenizer, for keys of cached text.
    """

    folder: Path
    boundary_ratio: float
    fingerprint: str
    vae_fingerprint: str
    text_fingerprint: str


def open_base(base: str) -> BaseModel:
    """Find a base model and check that all of it is there.

    Args:
        base: A folder in the diffusers layout, or "miniature" for the model shipped with the program.

    Raises:
        BaseModelError: a part is missing, damaged, or of another model; the message says which.
    """
    folder = resources_folder() / MINIATURE if base == MINIATURE else Path(base).expanduser()
    try:
        if not folder.is_dir():
            raise BaseFolderError(folder, "is a file" if folder.is_file() else "does not exist")
        return _checked_base(folder)
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error})"
        raise BaseFolderError(folder, problem) from error


def _checked_base(folder: Path) -> BaseModel:
    index = _checked_index(folder)
    transformers = [_checked_expert(folder, expert) for expert in Expert]
    vae = _checked_vae(folder)
    text = _checked_text(folder)
    _existing(folder / "scheduler" / "scheduler_config.json")
    vae_fingerprint = _fingerprint(folder, vae)
    text_fingerprint = _fingerprint(folder, text)
    experts_fingerprint = _fingerprint(folder, [path for files in transformers for path in files])
    return BaseModel(
        folder=folder,
        boundary_ratio=_boundary_ratio(folder, index),
        fingerprint=_digest(experts_fingerprint, vae_fingerprint, text_fingerprint),
        vae_fingerprint=vae_fingerprint,
        text_fingerprint=text_fingerprint,
    )


def resources_folder() -> Path:
    """The program's data files, wherever this installation keeps them."""
    if named := os.environ.get("WAN_STUDIO_RESOURCES"):
        return Path(named)
    if frozen := getattr(sys, "_MEIPASS", None):
        return Path(frozen) / "resources"
    root = Path(__file__).resolve().parents[2]
    source_layout = root / "resources"
    return source_layout if source_layout.is_dir() else root / "wan_studio" / "resources"


def expert_config(base: BaseModel, expert: Expert) -> dict[str, Any]:
    """The expert's ``config.json``.

    Raises:
        BaseModelError: it is missing or no JSON object.
    """
    return _read_object(base.folder / EXPERT_FOLDERS[expert] / "config.json")


def _checked_index(folder: Path) -> dict[str, Any]:
    if not (folder / INDEX_FILE).is_file():
        raise WrongModelError(folder, f"it holds no {INDEX_FILE}")
    index = _read_object(folder / INDEX_FILE)
    class_name = index.get("_class_name")
    if class_name != PIPELINE_CLASS:
        raise WrongModelError(folder, f"{INDEX_FILE} names a {class_name} instead of {PIPELINE_CLASS}")
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


def _checked_expert(folder: Path, expert: Expert) -> list[Path]:
    part = folder / EXPERT_FOLDERS[expert]
    config = _read_object(_existing(part / "config.json"))
    channels = config.get("in_channels")
    if channels == LATENT_CHANNELS:
        raise WrongModelError(folder, f"{part.name} takes {channels} channels: a text-to-video model")
    if channels != INPUT_CHANNELS:
        raise WrongModelError(folder, f"{part.name} takes {channels} channels instead of {INPUT_CHANNELS}")
    if config.get("image_dim") is not None or config.get("added_kv_proj_dim") is not None:
        raise WrongModelError(folder, f"{part.name} wants an image encoder, as Wan 2.1 does")
    return [part / "config.json", *checked_weights(part, DIFFUSERS_WEIGHTS)]


def _checked_vae(folder: Path) -> list[Path]:
    part = folder / "vae"
    config = _read_object(_existing(part / "config.json"))
    # The class has defaults for both, so an old config without them is fine.
    channels = config.get("z_dim", LATENT_CHANNELS)
    if channels != LATENT_CHANNELS:
        raise WrongModelError(
            folder, f"its VAE has {channels} latent channels (as Wan 2.2 5B has) instead of {LATENT_CHANNELS}"
        )
    return [part / "config.json", *checked_weights(part, DIFFUSERS_WEIGHTS)]


def _checked_text(folder: Path) -> list[Path]:
    encoder, tokenizer = folder / "text_encoder", folder / "tokenizer"
    files = [_existing(encoder / "config.json"), *checked_weights(encoder, "model.safetensors")]
    vocabularies = [tokenizer / name for name in ("tokenizer.json", "spiece.model")]
    if not any(path.is_file() for path in vocabularies):
        raise MissingPartError(vocabularies[0])
    names = ("tokenizer.json", "spiece.model", "tokenizer_config.json", "special_tokens_map.json")
    return files + [tokenizer / name for name in names if (tokenizer / name).is_file()]


def checked_weights(part: Path, name: str) -> list[Path]:
    """The part's weight files, one or several, each with a sound header and its full length."""
    single, index = part / name, part / f"{name}.index.json"
    if single.is_file():
        files = [single]
    elif index.is_file():
        weight_map = _read_object(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise DamagedFileError(index, "names no weight files")
        files = [part / str(shard) for shard in sorted(set(weight_map.values()))]
    else:
        raise MissingPartError(single)
    for file in files:
        check_safetensors(_existing(file))
    return files


def check_safetensors(path: Path) -> dict[str, tuple[int, ...]]:
    """Check by the header alone that the file is whole; returns its tensors' shapes by name.

    Raises:
        DamagedFileError: it is no safetensors file, or its length is not what its header promises.
    """
    header_bytes, length = _read_header(path)
    try:
        entries = json.loads(header_bytes)
        entries.pop("__metadata__", None)
        shapes = {name: tuple(map(int, entry["shape"])) for name, entry in entries.items()}
        ends = [int(entry["data_offsets"][1]) for entry in entries.values()]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DamagedFileError(path, "is no safetensors file: its header cannot be read") from error
    expected = 8 + len(header_bytes) + max(ends, default=0)
    if length != expected:
        raise DamagedFileError(path, f"has {length} bytes instead of {expected}")
    return shapes


def weight_shapes(part: Path, name: str = DIFFUSERS_WEIGHTS) -> dict[str, tuple[int, ...]]:
    """Shapes by name of all tensors in a part's weight files, from their headers.

    Args:
        part: The part's folder.
        name: Of the weight file when it is a single one.

    Raises:
        BaseModelError: a file is missing or damaged.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for file in checked_weights(part, name):
        shapes.update(check_safetensors(file))
    return shapes


def _read_header(path: Path) -> tuple[bytes, int]:
    """The header's JSON and the file's length in bytes."""
    try:
        length = path.stat().st_size
        with path.open("rb") as file:
            header_length = int.from_bytes(file.read(8), "little")
            if not 2 <= header_length <= length - 8:
                raise DamagedFileError(path, f"is no safetensors file or was cut off after {length} bytes")
            return file.read(header_length), length
    except OSError as error:
        raise DamagedFileError(path, f"cannot be read ({error.strerror or error})") from error


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise MissingPartError(path)
    return path


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DamagedFileError(path, f"cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise DamagedFileError(path, f"is no JSON file ({error})") from error
    if not isinstance(content, dict):
        raise DamagedFileError(path, "holds no JSON object")
    return content


def _fingerprint(folder: Path, files: list[Path]) -> str:
    """Hash of the files' names and contents; of large ones, of their header, length and samples."""
    parts: list[str] = []
    for path in files:
        parts += [path.relative_to(folder).as_posix(), _file_digest(path)]
    return _digest(*parts)


def _file_digest(path: Path) -> str:
    try:
        length = path.stat().st_size
        if length <= WHOLE_HASH_BYTES:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        header = _read_header(path)[0] if path.suffix == ".safetensors" else b""
        digest = hashlib.sha256(header + length.to_bytes(8, "little"))
        # Training touches every weight, so that samples all over the file tell two models apart.
        with path.open("rb") as file:
            for sample in range(SAMPLE_COUNT):
                file.seek(math.floor(sample * (length - SAMPLE_BYTES) / (SAMPLE_COUNT - 1)))
                digest.update(file.read(SAMPLE_BYTES))
        return digest.hexdigest()
    except OSError as error:
        raise DamagedFileError(path, f"cannot be read ({error.strerror or error})") from error


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
