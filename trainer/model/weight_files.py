"""Files of tensors: what is in them, and each tensor by itself, read when it is asked for.

Safetensors files are read piece by piece with plain reads, so that RAM holds one tensor at a time.
Pickled files are opened by torch's restricted reader, which makes tensors and nothing else.
"""

import json
import math
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor

from trainer.model.base_errors import DamagedFileError, UnsafeFileError

PICKLED_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
WEIGHT_SUFFIXES = (".safetensors", *PICKLED_SUFFIXES)
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class Entry(NamedTuple):
    """A tensor as the file describes it.

    Attributes:
        dtype: None for a number type that torch is not asked to read.
        start: First byte in the file; 0 where the file's reader knows better.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype | None
    start: int = 0


class TensorFile(Protocol):
    """A file of named tensors."""

    @property
    def path(self) -> Path: ...

    @property
    def metadata(self) -> Mapping[str, str]: ...

    @property
    def entries(self) -> Mapping[str, Entry]: ...

    def read(self, name: str) -> Tensor:
        """The tensor on the CPU, in memory of its own.

        Raises:
            DamagedFileError: the file ends before it does, or cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a safetensors file, checked against the file's length."""

    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]


class SafetensorsFile:
    """A safetensors file; no handle stays open, so it can be moved and replaced meanwhile."""

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            DamagedFileError: it is no safetensors file, or not whole.
        """
        header = checked_header(path)
        self.path, self.entries, self.metadata = path, header.entries, header.metadata

    def read(self, name: str) -> Tensor:
        """See `TensorFile.read`."""
        entry = self.entries[name]
        if entry.dtype is None:
            raise DamagedFileError(self.path, f"has {name} in a number type that cannot be read", "")
        content = torch.empty(math.prod(entry.shape) * entry.dtype.itemsize, dtype=torch.uint8)
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(entry.start)
                _read_into(file, memoryview(cast("Any", content.numpy())))
        except (OSError, EOFError) as error:
            raise DamagedFileError(self.path, f"cannot be read ({_words_of(error)})") from error
        return content.view(entry.dtype).reshape(entry.shape)


class PickledFile:
    """A file that torch.save wrote; mapped into memory, so that its tensors are read when they are used."""

    metadata: Mapping[str, str] = {}

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            DamagedFileError: it is no such file, not whole, or holds no named tensors.
            UnsafeFileError: it wants more than tensors; nothing of it was executed.
        """
        self.path = path
        self._tensors = _unpickled_tensors(path)
        self.entries: Mapping[str, Entry] = {
            name: Entry(tuple(tensor.shape), tensor.dtype) for name, tensor in self._tensors.items()
        }

    def read(self, name: str) -> Tensor:
        """See `TensorFile.read`."""
        return self._tensors[name].clone()


def open_tensors(path: Path) -> TensorFile:
    """Open a file of tensors by its suffix.

    Raises:
        DamagedFileError: it is no such file or not whole.
        UnsafeFileError: it is pickled and holds more than tensors.
    """
    if path.suffix.lower() in PICKLED_SUFFIXES:
        return PickledFile(path)
    if path.suffix.lower() == ".gguf":
        raise DamagedFileError(
            path, "is a GGUF file", "Choose the model's fp16, bf16 or fp8 files in the safetensors format."
        )
    return SafetensorsFile(path)


def check_safetensors(path: Path) -> dict[str, tuple[int, ...]]:
    """Check by the header alone that the file is whole; returns its tensors' shapes by name.

    Raises:
        DamagedFileError: it is no safetensors file, or its length is not what its header promises.
    """
    return {name: entry.shape for name, entry in checked_header(path).entries.items()}


def checked_header(path: Path) -> Header:
    """Read the header and check by it that the file is whole.

    Raises:
        DamagedFileError: it is no safetensors file, or its length is not what its header promises.
    """
    header_bytes, length = read_header(path)
    first = 8 + len(header_bytes)
    try:
        described: dict[str, Any] = json.loads(header_bytes)
        metadata = described.pop("__metadata__", None) or {}
        entries = {name: _entry(entry, first) for name, entry in described.items()}
        ends = [int(entry["data_offsets"][1]) for entry in described.values()]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DamagedFileError(path, "is no safetensors file: its header cannot be read") from error
    expected = first + max(ends, default=0)
    if length != expected:
        raise DamagedFileError(path, f"has {length} bytes instead of {expected}")
    for name, entry in entries.items():
        size = math.prod(entry.shape) * (entry.dtype.itemsize if entry.dtype else 0)
        begin, end = described[name]["data_offsets"]
        if entry.dtype is not None and end - begin != size:
            raise DamagedFileError(path, f"holds {end - begin} bytes for {name} instead of {size}")
    return Header(entries, metadata)


def read_header(path: Path) -> tuple[bytes, int]:
    """The header's JSON and the file's length in bytes.

    Raises:
        DamagedFileError: the file cannot be read or is shorter than its header.
    """
    try:
        length = path.stat().st_size
        with path.open("rb") as file:
            header_length = int.from_bytes(file.read(8), "little")
            if not 2 <= header_length <= length - 8:
                raise DamagedFileError(path, f"is no safetensors file or was cut off after {length} bytes")
            return file.read(header_length), length
    except OSError as error:
        raise DamagedFileError(path, f"cannot be read ({error.strerror or error})") from error


def _entry(described: Mapping[str, Any], first: int) -> Entry:
    start = first + int(described["data_offsets"][0])
    return Entry(tuple(map(int, described["shape"])), _DTYPES.get(described.get("dtype", "")), start)


def _read_into(file: Any, buffer: memoryview) -> None:
    """Fill the buffer; one read call brings no more than 2 GB on Linux."""
    filled = 0
    while filled < len(buffer):
        count = file.readinto(buffer[filled:])
        if not count:
            raise EOFError("it ends too early")
        filled += count


def _unpickled_tensors(path: Path) -> dict[str, Tensor]:
    try:
        # The old format, before 2020, is no zip file; it cannot be mapped.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        # The restricted reader says so when it meets anything but tensors; a torn file fails in other words.
        if "weights_only" in str(error).lower():
            raise UnsafeFileError(path) from error
        raise DamagedFileError(path, "is no file of tensors or was cut off") from error
    except (OSError, RuntimeError, ValueError, EOFError, LookupError, TypeError, AttributeError) as error:
        raise DamagedFileError(path, "is no file of tensors or was cut off") from error
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items()
    ):
        raise DamagedFileError(path, "holds something else than named tensors")
    return content


def _words_of(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
