"""JSON on disk: how the contract's files are encoded, decoded and written without tearing."""

import contextlib
import errno
import os
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import msgspec

T = TypeVar("T")


NO_ROOM_ERRNO = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
NO_ROOM_WINERROR = {112, 39}
"""ERROR_DISK_FULL and ERROR_HANDLE_DISK_FULL."""


class WireError(Exception):
    """A file of the contract is not what it should be; the message names the file and the field."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


def to_json(value: Any, *, pretty: bool = False) -> bytes:
    """Encode a contract object; `pretty` indents for files that people read."""
    encoded = msgspec.json.encode(value)
    return msgspec.json.format(encoded, indent=2) + b"\n" if pretty else encoded


def read_json(path: Path, kind: type[T]) -> T:
    """Decode the file as `kind`.

    Raises:
        WireError: the file is missing, is no JSON, or has a field that is wrong or unknown.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise WireError(path, f"cannot be read ({error.strerror or error}).") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(path, f"{error}.") from error


def lacks_room(error: OSError) -> bool:
    """Whether a write failed because the disk is full or a quota used up."""
    return error.errno in NO_ROOM_ERRNO or getattr(error, "winerror", None) in NO_ROOM_WINERROR


def write_atomic(path: Path, content: bytes) -> None:
    """Write through a temporary name in the same folder, so that readers never see half a file."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write a contract object as indented JSON, atomically."""
    write_atomic(path, to_json(value, pretty=True))
