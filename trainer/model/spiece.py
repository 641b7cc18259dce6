"""Reads sentencepiece's model file: the pieces with their scores, and how text is normalised before.

The file is a protocol buffer: fields of a number and a type each, one after another. Three of them are
all that a tokenizer needs, so no library is needed for them.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_PIECES, _NORMALIZER = 1, 3
_PIECE_TEXT, _PIECE_SCORE, _PIECE_KIND = 1, 2, 3
_CHARACTER_MAP = 2
_UNKNOWN_KIND = 2


class SpieceError(ValueError):
    """These bytes are no model of sentencepiece."""


@dataclass(frozen=True, slots=True)
class SpieceModel:
    """What makes a Unigram tokenizer.

    Attributes:
        pieces: Text and score (a log probability); a piece's place is its token.
        unknown: Token for what no piece covers.
        character_map: Compiled rules that replace characters; empty for none.
    """

    pieces: tuple[tuple[str, float], ...]
    unknown: int
    character_map: bytes


def read_spiece(content: bytes) -> SpieceModel:
    """Read the content of a ``spiece.model``.

    Raises:
        SpieceError: it is none.
    """
    pieces: list[tuple[str, float]] = []
    unknown, character_map = None, b""
    try:
        for number, value in _fields(content):
            if number == _PIECES and isinstance(value, bytes):
                fields = dict(_fields(value))
                if fields.get(_PIECE_KIND) == _UNKNOWN_KIND:
                    unknown = len(pieces)
                pieces.append((_text(fields[_PIECE_TEXT]), float(fields.get(_PIECE_SCORE, 0.0))))
            elif number == _NORMALIZER and isinstance(value, bytes):
                found = dict(_fields(value)).get(_CHARACTER_MAP, b"")
                character_map = found if isinstance(found, bytes) else b""
    except (IndexError, KeyError, TypeError, ValueError, struct.error) as error:
        raise SpieceError("it is no model of sentencepiece") from error
    if not pieces or unknown is None:
        raise SpieceError("it has no pieces")
    return SpieceModel(tuple(pieces), unknown, character_map)


def _fields(content: bytes) -> Iterator[tuple[int, bytes | int | float]]:
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(content, at)
        elif kind == _BYTES:
            length, at = _varint(content, at)
            value, at = content[at : at + length], at + length
        elif kind == _FIXED32:
            value, at = struct.unpack_from("<f", content, at)[0], at + 4
        elif kind == _FIXED64:
            value, at = struct.unpack_from("<d", content, at)[0], at + 8
        else:
            raise SpieceError(f"it has a field of type {kind}")
        if at > len(content):
            raise SpieceError("it ends too early")
        yield key >> 3, value


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the last byte without the eighth; and where it ends."""
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _text(value: bytes | float) -> str:
    if not isinstance(value, bytes):
        raise SpieceError("a piece has no text")
    return value.decode("utf-8")
