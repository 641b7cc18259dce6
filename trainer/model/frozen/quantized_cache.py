"""Quantized weights on disk, a file for each block of an expert, so that the second start is quick.

A file appears by rename, says in its header what it holds, and carries a sum over the bits of each tensor:
what is not exactly what was written counts as absent. A cache that cannot be written is done without.
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from trainer.model.frozen.quantizer import Mode, Stored
from trainer.protocol.job import Expert

FORMAT = 1
"""Raise it when the same weights would be rounded, named or laid out otherwise than before."""

_LEFTOVER_SECONDS = 3600
"""Temporary files older than this belong to a writer that died."""

Layout = Mapping[str, Mapping[str, Stored]]
"""Of a block: by the name of the weight, what it stores (`stored_layout`)."""
BlockTensors = dict[str, dict[str, Tensor]]
"""Of a block: by the name of the weight, its stored tensors."""


@dataclass(frozen=True, slots=True)
class QuantizedKey:
    """Everything that an expert's quantized weights depend on.

    Attributes:
        base: Fingerprint of the base model's files.
        expert: Which of its two.
        mode: How the weights are stored.
        rank: Of the side branches; of no matter where there are none.
        statistics: Fingerprint of the input statistics; empty without.
        dtype: Of side branches, such as "bfloat16".
    """

    base: str
    expert: Expert
    mode: Mode
    rank: int = 0
    statistics: str = ""
    dtype: str = "bfloat16"

    @property
    def folder_name(self) -> str:
        """Names the key: for people up to the hyphen, a hash behind it."""
        parts = asdict(self) | {"expert": self.expert.value, "format": FORMAT}
        if self.mode != "nf4_recovered":
            parts |= {"rank": 0, "statistics": "", "dtype": ""}
        told = json.dumps(parts, sort_keys=True).encode()
        return f"{self.mode}_{self.expert.value}-{hashlib.sha256(told).hexdigest()[:32]}"


class CachedBlock(NamedTuple):
    """What was found of a block.

    Attributes:
        tensors: By weight and name; they lie in the mapped file, not in RAM, and must only be read.
            None if there are none.
        reason: Why there are none, for the log; empty if there are.
    """

    tensors: BlockTensors | None
    reason: str = ""


class QuantizedCache:
    """The quantized blocks of one expert in one folder.

    Attributes:
        was_written: Whether a block was quantized anew and kept.
    """

    def __init__(self, folder: Path, key: QuantizedKey, layout: Layout, warn: Callable[[str], None]) -> None:
        """Look into nothing yet.

        Args:
            folder: Of all such caches; need not exist.
            key: What the weights depend on.
            layout: Of a block; all are alike.
            warn: Told in a sentence, once, when the cache cannot be written; the run goes on without it.
        """
        self.folder = folder / key.folder_name
        self._layout = layout
        self._warn = warn
        self._is_writable = True
        self.was_written = False

    def path_of(self, index: int) -> Path:
        """Where a block's file is or would be."""
        return self.folder / f"block_{index:03}.safetensors"

    def load_block(self, index: int) -> CachedBlock:
        """The stored tensors of a block, mapped from its file; each is read through once, to compare its sum.

        Never raises for what the file holds: damage, want of access and another layout are reasons.
        """
        path = self.path_of(index)
        try:
            with safe_open(path, framework="pt") as file:
                sums = dict(json.loads((file.metadata() or {})["sums"]))
                flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except FileNotFoundError:
            return CachedBlock(None, "not cached yet")
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            return CachedBlock(None, f"{path.name} is damaged ({error})")
        tensors: BlockTensors = {}
        for name, tensor in flat.items():
            weight, _, part = name.rpartition(".")
            tensors.setdefault(weight, {})[part] = tensor
        if _layout_of(tensors) != {weight: dict(parts) for weight, parts in self._layout.items()}:
            return CachedBlock(None, f"{path.name} holds other tensors than expected")
        for name, tensor in flat.items():
            if sums.get(name) != _sum_of_bits(tensor):
                return CachedBlock(None, f"{path.name} is damaged (the bits of {name} have changed)")
        with contextlib.suppress(OSError):
            os.utime(self.folder)  # used just now, for `forget_unused`
        return CachedBlock(tensors)

    def store_block(self, index: int, tensors: Mapping[str, Mapping[str, Tensor]]) -> bool:
        """Write a block, replacing what is there; whether it was.

        Takes the size of the block in RAM for tensors on a GPU. After a failure nothing more is tried.
        """
        if not self._is_writable:
            return False
        flat = {
            f"{weight}.{part}": tensor.detach().cpu().contiguous()
            for weight, parts in tensors.items()
            for part, tensor in parts.items()
        }
        sums = json.dumps({name: _sum_of_bits(tensor) for name, tensor in flat.items()})
        path = self.path_of(index)
        temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._clear_leftovers()
            save_file(flat, temporary, {"sums": sums})
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except (OSError, SafetensorError) as error:
            self._is_writable = False
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            self._warn(
                f"Quantized weights cannot be kept in {self.folder} ({error}). "
                "The run goes on; the next start will quantize again."
            )
            return False
        self.was_written = True
        return True

    def _clear_leftovers(self) -> None:
        oldest = time.time() - _LEFTOVER_SECONDS
        for leftover in self.folder.glob(".*.tmp"):
            with contextlib.suppress(OSError):
                if leftover.stat().st_mtime < oldest:
                    leftover.unlink()


def forget_unused(folder: Path, keep: QuantizedKey, most_bytes: int) -> None:
    """Delete the caches that were not used for the longest time, until the rest fits; never `keep`'s.

    Every data set has its own statistics and with them its own weights, several GB each.

    Args:
        folder: As given to `QuantizedCache`.
        keep: In use.
        most_bytes: What all may take together.
    """
    with contextlib.suppress(OSError):
        caches = sorted(
            (one for one in folder.iterdir() if one.is_dir()), key=lambda one: one.stat().st_mtime
        )
        sizes = {one: sum(file.stat().st_size for file in one.iterdir()) for one in caches}
        for one in caches:
            if one.name != keep.folder_name and sum(sizes.values()) > most_bytes:
                shutil.rmtree(one, ignore_errors=True)
                del sizes[one]


def _layout_of(tensors: BlockTensors) -> dict[str, dict[str, Stored]]:
    return {
        weight: {part: Stored(tuple(one.shape), one.dtype) for part, one in parts.items()}
        for weight, parts in tensors.items()
    }


def _sum_of_bits(tensor: Tensor) -> int:
    """The sum of all 64-bit words, without carry: changes with any single word, and costs one read."""
    flat = tensor.reshape(-1).view(torch.uint8).numpy()
    # Not by torch: tensors in a file need not begin at a multiple of 8 bytes.
    whole = flat.size // 8 * 8
    return int(flat[:whole].view(np.uint64).sum(dtype=np.uint64)) + int(flat[whole:].sum(dtype=np.uint64))
