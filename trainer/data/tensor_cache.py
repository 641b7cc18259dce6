"""Tensors on disk that are costly to compute: latents and text embeddings.

One safetensors file a key. A file appears by rename, so what a crash leaves behind is never
read; a file that does not hold what its header says counts as absent.
"""

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from trainer.errors import TrainerError
from trainer.protocol.wire import write_atomic

_LEFTOVER_SECONDS = 3600
"""Temporary files older than this belong to a writer that died."""


class CacheWriteError(TrainerError):
    """The cache folder takes no more files."""

    kind = "cache_write"

    def __init__(self, folder: Path, error: OSError) -> None:
        super().__init__(
            f"The cache folder {folder} cannot be written: {(error.strerror or str(error)).lower()}.",
            "Free some space on that disk or allow writing there, then resume the run.",
        )
        self.folder = folder


class CacheMissError(TrainerError):
    """A cached value that training needs has gone or is damaged."""

    kind = "cache_miss"

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The cached file {path} is missing or damaged.",
            "Resume the run: what is missing from the cache is computed again at the start.",
        )
        self.path = path


def cache_key(kind: str, format_number: int, **parts: Any) -> str:
    """The key of a value: a hash over everything that it depends on.

    Args:
        kind: First part of the key, for people who look into the folder, e.g. "latents".
        format_number: Raised whenever the same parts would give another value.
        parts: JSON values (strings, numbers, lists, mappings) and sections of the job.

    Returns:
        A name of letters, digits and one hyphen that is safe as a file name.
    """
    told = msgspec.json.encode({"kind": kind, "format": format_number, "parts": parts}, order="sorted")
    return f"{kind}-{hashlib.sha256(told).hexdigest()[:40]}"


class TensorCache:
    """A folder of named tensors by key; shared by the runs of a project, also at the same time."""

    def __init__(self, folder: Path) -> None:
        """Use the folder, made if needed; leftovers of writers that died are cleared away.

        Raises:
            CacheWriteError: the folder cannot be made.
        """
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheWriteError(folder, error) from error
        oldest = time.time() - _LEFTOVER_SECONDS
        for leftover in folder.glob(".*.tmp"):
            with contextlib.suppress(OSError):
                if leftover.stat().st_mtime < oldest:
                    leftover.unlink()

    def path_of(self, key: str) -> Path:
        """Where the key's file is or would be."""
        return self.folder / f"{key}.safetensors"

    def has(self, key: str) -> bool:
        """Whether the value is there and whole, by its header and length; reads no tensor."""
        return _is_whole(self.path_of(key))

    def load(self, key: str) -> dict[str, Tensor]:
        """The tensors of the key, on the CPU, in the type in which they were stored.

        Raises:
            CacheMissError: they are not there or damaged.
        """
        path = self.path_of(key)
        try:
            return load_file(path)
        except (OSError, SafetensorError, ValueError) as error:
            raise CacheMissError(path) from error

    def store(self, key: str, tensors: dict[str, Tensor]) -> None:
        """Write the tensors, replacing what is there.

        Raises:
            CacheWriteError: the disk is full or the folder cannot be written.
        """
        plain = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
        try:
            write_atomic(self.path_of(key), save(plain))
        except OSError as error:
            raise CacheWriteError(self.folder, error) from error


def _is_whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            size = os.fstat(file.fileno()).st_size
            if not 0 < header_bytes <= size - 8:
                return False
            header = json.loads(file.read(header_bytes))
    except (OSError, ValueError):
        return False
    if not isinstance(header, dict):
        return False
    try:
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (KeyError, TypeError, IndexError):
        return False
    return 8 + header_bytes + max(ends, default=0) == size
