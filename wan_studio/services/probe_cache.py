"""What was found out about media files, kept on disk by path, size and time: a second start asks no decoder."""

import contextlib
import hashlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from trainer.protocol.wire import write_atomic
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.clip_look import ClipLook

T = TypeVar("T")

_FORMAT = "1"
_LOOK = "look 2"
"""Signatures of another format number are no more alike than pictures that differ a little."""
_MARK_BYTES = 64 * 1024


class FileMark(msgspec.Struct, frozen=True):
    """By what a file that was moved is found again.

    Attributes:
        size_bytes: Its size.
        fingerprint: Of its size, its first and its last 64 KiB.
    """

    size_bytes: int
    fingerprint: str


class ProbeCache:
    """Small files in one folder, which may be emptied at any time; several processes may share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def source(self, path: Path, probe: Callable[[Path], SourceVideo]) -> SourceVideo:
        """What a file holds, probed only where it has changed; also remembers by what it is found again.

        Raises:
            UnreadableVideoError: from `probe`.
        """
        path = path.absolute()
        kept = self._read("source", path, SourceVideo)
        if kept is not None:
            return kept
        found = probe(path)
        self._write(self._name("source", path, found.size_bytes, found.modified_ns), found)
        # A file that went away just now cannot be found again.
        with contextlib.suppress(OSError):
            self._write(self._place(path), FileMark(found.size_bytes, fingerprint_of(path)))
        return found

    def look(self, source: SourceVideo, look_at: Callable[[SourceVideo], ClipLook]) -> ClipLook:
        """What a file's pictures tell, looked at only where it has changed."""
        path = Path(source.path)
        kept = self._read(_LOOK, path, ClipLook)
        if kept is not None:
            return kept
        found = look_at(source)
        self._write(self._name(_LOOK, path, source.size_bytes, source.modified_ns), found)
        return found

    def mark(self, path: Path) -> FileMark | None:
        """By what the file that was at this path is found again; None where it was never probed."""
        return _decoded(self._place(path), FileMark)

    def _read(self, kind: str, path: Path, type_: type[T]) -> T | None:
        try:
            status = path.stat()
        except OSError:
            return None
        return _decoded(self._name(kind, path, status.st_size, status.st_mtime_ns), type_)

    def _write(self, path: Path, value: object) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, msgspec.msgpack.encode(value, enc_hook=_encode))
        except OSError:
            # A full disk costs time at the next start, nothing else.
            return

    def _name(self, kind: str, path: Path, size_bytes: int, modified_ns: int) -> Path:
        return self._file(f"{_FORMAT}\0{kind}\0{path}\0{size_bytes}\0{modified_ns}")

    def _place(self, path: Path) -> Path:
        return self._file(f"{_FORMAT}\0place\0{path.absolute()}")

    def _file(self, identity: str) -> Path:
        name = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        return self._folder / name[:2] / name[2:]


def fingerprint_of(path: Path) -> str:
    """Of a file's size, its first and its last 64 KiB.

    Raises:
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    with path.open("rb") as file:
        digest.update(file.read(_MARK_BYTES))
        file.seek(max(0, size - _MARK_BYTES))
        digest.update(file.read(_MARK_BYTES))
    return digest.hexdigest()


def encoded_source(source: SourceVideo) -> bytes:
    """A probed source as bytes, for another process."""
    return msgspec.msgpack.encode(source, enc_hook=_encode)


def decoded_source(data: bytes) -> SourceVideo:
    """The source in such bytes."""
    return msgspec.msgpack.decode(data, type=SourceVideo, dec_hook=_decode)


def _decoded(path: Path, type_: type[T]) -> T | None:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=type_, dec_hook=_decode)
    except (OSError, msgspec.DecodeError):
        return None


def _encode(value: object) -> Any:
    if isinstance(value, Fraction):
        return (value.numerator, value.denominator)
    raise NotImplementedError(type(value))


def _decode(type_: type, value: Any) -> Any:
    if type_ is Fraction:
        return Fraction(*value)
    raise NotImplementedError(type_)
