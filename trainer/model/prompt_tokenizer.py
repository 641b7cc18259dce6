"""The tokenizer of the text encoder: where it is, and how it is made of what is there."""

from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from transformers import PreTrainedTokenizerBase, T5Tokenizer

from trainer.model.base_errors import BaseModelError, NoTokenizerError, PartNotLoadedError
from trainer.model.base_parts import PartFiles, tokenizer_files
from trainer.model.release_folder import TOKENIZER_FOLDER
from trainer.model.spiece import SpieceError, read_spiece
from trainer.model.weight_files import open_tensors

SPIECE_TENSOR = "spiece_model"
"""In ComfyUI's files of the text encoder: the content of spiece.model."""

_FOLDERS = ("", "tokenizer", TOKENIZER_FOLDER, "umt5-xxl")
_HUB_REPOSITORY = "google/umt5-xxl"


def find_tokenizer(text: PartFiles, base: Path) -> Path:
    """A folder with a tokenizer, or a file that contains its sentencepiece model.

    Looked for within the encoder's file, beside it, beside the base, and in the Hub's local cache.

    Raises:
        NoTokenizerError: it is nowhere.
        BaseModelError: the encoder's file is damaged.
    """
    for file in text.weights:
        if SPIECE_TENSOR in open_tensors(file).entries:
            return file
    beside = text.place if text.place.is_dir() else text.place.parent
    own = base.parent if base.is_file() else base
    for folder in dict.fromkeys((beside, beside.parent, own)):
        for name in _FOLDERS:
            if tokenizer_files(folder / name):
                return folder / name
    for name in ("tokenizer.json", "spiece.model"):
        cached = try_to_load_from_cache(_HUB_REPOSITORY, name)
        if isinstance(cached, str):
            return Path(cached).parent
    raise NoTokenizerError(text.place)


def load_tokenizer(place: Path) -> PreTrainedTokenizerBase:
    """Make the tokenizer of a folder, or of a file that contains its sentencepiece model.

    Raises:
        BaseModelError: what is there makes none.
    """
    if place.is_file():
        return tokenizer_of_spiece(bytes(open_tensors(place).read(SPIECE_TENSOR).numpy()), place)
    try:
        if not (place / "tokenizer.json").is_file():
            return tokenizer_of_spiece((place / "spiece.model").read_bytes(), place / "spiece.model")
        return T5Tokenizer.from_pretrained(place, local_files_only=True)
    except BaseModelError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        problem = str(error).strip().splitlines() or [type(error).__name__]
        raise PartNotLoadedError(place, problem[0].rstrip(".")) from error


def tokenizer_of_spiece(content: bytes, place: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a ``spiece.model``.

    Args:
        content: Of the file.
        place: Where it comes from, for the error.

    Raises:
        PartNotLoadedError: it is none, or its unknown token is not where T5 has it.
    """
    try:
        model = read_spiece(content)
    except SpieceError as error:
        raise PartNotLoadedError(place, str(error)) from error
    if model.unknown != 2:
        raise PartNotLoadedError(place, f"its token for the unknown is {model.unknown} instead of 2")
    kind: Any = T5Tokenizer
    return kind(
        vocab=list(model.pieces),
        _spm_precompiled_charsmap=model.character_map or None,
        extra_ids=0,
        model_max_length=512,
    )
