"""The tokenizer of the base model, for counting: its vocabulary is read, no library is loaded."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trainer.protocol.base_names import is_hub_name
from trainer.protocol.job import MINIATURE, ModelSection
from wan_studio.domain.token_count import UnigramCounter, estimated_tokens
from wan_studio.errors import AppError
from wan_studio.services.shipped_files import shipped_file

_FILE = "tokenizer.json"
_PLACES = ("", "tokenizer", "google/umt5-xxl", "umt5-xxl")
_HUB_REPOSITORY = "google/umt5-xxl"
_LARGE_VOCABULARY = 100_000
_SPECIAL_TOKENS = 3


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """Counts a prompt's tokens.

    Attributes:
        count: Tokens of a prompt, with the one that ends it.
        tokenizer: Whose tokens: "UMT5", "the miniature's tokenizer"; empty for an estimate.
    """

    count: Callable[[str], int]
    tokenizer: str = ""

    @property
    def is_estimate(self) -> bool:
        """Whether there was no tokenizer to count with."""
        return not self.tokenizer


ESTIMATE = TokenCounter(estimated_tokens)


def find_vocabulary(model: ModelSection) -> Path | None:
    """The `tokenizer.json` that goes with a base, on this machine; None where there is none."""
    if model.base == MINIATURE and not model.text_encoder:
        return shipped_file(f"miniature/tokenizer/{_FILE}")
    folders: list[Path] = []
    for place in (model.text_encoder, model.base):
        if place and place != MINIATURE:
            path = Path(place).expanduser()
            own = path.parent if path.is_file() else path
            folders += [own, own.parent] if path.is_file() else [own]
    for name in ([model.base] if is_hub_name(model.base) else []) + [_HUB_REPOSITORY]:
        folders += _hub_snapshots(name)
    places = (folder / name / _FILE for folder in folders for name in _PLACES)
    return next((path for path in places if path.is_file()), None)


def load_counter(model: ModelSection) -> TokenCounter:
    """A counter with the base's tokenizer, or one that estimates where that is missing or of another kind.

    Takes a second for the real model: for a thread of its own. The vocabulary is read piece by piece,
    so that other threads go on meanwhile.
    """
    try:
        path = find_vocabulary(model)
        if path is None:
            return ESTIMATE
        scores = dict(_pieces(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, IndexError, TypeError, AppError):
        return ESTIMATE
    if not scores:
        return ESTIMATE
    name = "UMT5" if len(scores) > _LARGE_VOCABULARY else "this base's own tokenizer"
    return TokenCounter(UnigramCounter(scores).count, name)


def _pieces(text: str) -> Iterator[tuple[str, float]]:
    """Pieces and scores of a unigram vocabulary, one at a time; none for another kind of model."""
    at = text.find('"vocab"')
    at = text.find("[", at) if at >= 0 else -1
    if at < 0 or '"Unigram"' not in text:
        return
    decoder = json.JSONDecoder()
    at += 1
    number = 0
    while True:
        while text[at] in " \t\r\n,":
            at += 1
        if text[at] == "]":
            return
        entry, at = decoder.raw_decode(text, at)
        if number >= _SPECIAL_TOKENS:
            yield str(entry[0]), float(entry[1])
        number += 1


def _hub_snapshots(repository: str) -> list[Path]:
    """Folders of a Hub repository's local copies."""
    cache = os.environ.get("HF_HUB_CACHE")
    home = os.environ.get("HF_HOME")
    root = Path(cache) if cache else Path(home) / "hub" if home else Path.home() / ".cache/huggingface/hub"
    folder = root / f"models--{repository.replace('/', '--')}" / "snapshots"
    return sorted(folder.iterdir()) if folder.is_dir() else []
