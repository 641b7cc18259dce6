"""The search language of clips: `speed:>1.2 or caption:none`, compiled to a function.

Words are looked for in name and caption. `field:value` asks one thing; values are words, numbers with
`<`, `<=`, `>`, `>=`, `=`, or ranges (`2..5`). Next to each other means and; `or`, `not`, `-`, brackets and
quotes work as one expects.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import PurePath

from wan_studio.domain.clip_record import ClipRecord
from wan_studio.errors import AppError

Predicate = Callable[[ClipRecord], bool]

NUMBERS: dict[str, Callable[[ClipRecord], float | None]] = {
    "duration": lambda record: record.seconds,
    "used": lambda record: record.used_seconds,
    "fps": lambda record: record.fps,
    "frames": lambda record: record.frames,
    "trains": lambda record: record.trains,
    "speed": lambda record: record.speed,
    "res": lambda record: record.side,
    "width": lambda record: record.width,
    "height": lambda record: record.height,
    "rating": lambda record: record.rating,
    "size": lambda record: record.megabytes,
    "group": lambda record: record.group,
}
TEXTS: dict[str, Callable[[ClipRecord], str]] = {
    "name": lambda record: f"{record.name}\n{PurePath(record.source).name}",
    "caption": lambda record: record.caption or "",
    "codec": lambda record: record.codec,
    "bucket": lambda record: " ".join(f"{width}x{height}" for width, height in record.buckets),
    "set": lambda record: record.dataset or "main",
    "folder": lambda record: str(PurePath(record.source).parent),
}
STATES = frozenset(
    [
        "duplicate",
        "hdr",
        "letterbox",
        "lowres",
        "missing",
        "near",
        "outside",
        "rotated",
        "short",
        "speed",
        "still",
        "trigger",
        "uncaptioned",
        "unreadable",
        "untrimmed",
        "vfr",
    ]
)
"""Findings that `is:` can ask for; `clip_health` explains them."""
TRAITS = frozenset(
    {"trim", "crop", "caption", "sound", "image", "video", "rejected", "rated", "unknown", "usable"}
)
_ALIASES = {
    "length": "duration",
    "seconds": "duration",
    "resolution": "res",
    "stars": "rating",
    "dataset": "set",
    "path": "folder",
    "file": "name",
    "mb": "size",
}
_FIELDS = (*NUMBERS, *TEXTS, "is", "has")
_COMPARISON = re.compile(r"(<=|>=|<|>|=)?\s*(-?\d+(?:\.\d+)?)\s*(?:s|fps|px|mb|x)?", re.IGNORECASE)
_RANGE = re.compile(r"(-?\d+(?:\.\d+)?)\.\.(-?\d+(?:\.\d+)?)")
_TOKEN = re.compile(
    r"""\s*(?:(?P<bracket>[()])
    |(?P<word>(?:-?[A-Za-z_]+:)?"[^"]*"|(?:[^\s()":]+:)?[^\s()"]+))""",
    re.VERBOSE,
)


class QueryError(AppError):
    """A search that cannot be understood; the sentence says where."""


@dataclass(frozen=True, slots=True)
class Query:
    """A search, ready to be asked.

    Attributes:
        text: As it was typed.
        matches: Whether a clip is found.
    """

    text: str
    matches: Predicate


def compile_query(text: str) -> Query:
    """Understand a search; an empty one finds everything.

    Raises:
        QueryError: it names a field that does not exist, or something is left open.
    """
    tokens = _tokens(text)
    if not tokens:
        return Query(text, lambda _: True)
    parser = _Parser(tokens)
    return Query(text, parser.whole())


class _Parser:
    """Reads tokens from left to right; each method one level of the grammar."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def whole(self) -> Predicate:
        found = self._either()
        if self._peek() == ")":
            raise QueryError("There is a closing bracket without an opening one.")
        return found

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _either(self) -> Predicate:
        parts = [self._all()]
        while self._peek().lower() == "or":
            self._at += 1
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else lambda record: any(part(record) for part in parts)

    def _all(self) -> Predicate:
        parts: list[Predicate] = []
        while (token := self._peek()) and token != ")" and token.lower() != "or":
            if token.lower() == "and":
                self._at += 1
                if not parts:
                    raise QueryError('"and" has nothing before it.')
                if not self._peek() or self._peek().lower() in ("and", "or", ")"):
                    raise QueryError('"and" has nothing after it.')
                continue
            parts.append(self._one())
        if not parts:
            raise QueryError('"or" has nothing beside it.' if self._tokens != ["("] else "A bracket is open.")
        return parts[0] if len(parts) == 1 else lambda record: all(part(record) for part in parts)

    def _one(self) -> Predicate:
        token = self._peek()
        self._at += 1
        if token.lower() == "not" or token == "-":
            if not self._peek() or self._peek().lower() in ("and", "or", ")"):
                raise QueryError('"not" has nothing after it.')
            return _negated(self._one())
        if token == "(":
            inside = self._either() if self._peek() else None
            if inside is None or self._peek() != ")":
                raise QueryError("A bracket is not closed.")
            self._at += 1
            return inside
        if len(token) > 1 and token[0] == "-" and not token[1].isdigit():
            return _negated(_term(token[1:]))
        return _term(token)


def _tokens(text: str) -> list[str]:
    if text.count('"') % 2:
        raise QueryError("A quotation mark is not closed.")
    tokens: list[str] = []
    at = 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if found is None:
            raise QueryError(f'"{text[at:].strip()}" is not understood.')
        tokens.append(found["bracket"] or found["word"])
        at = found.end()
    return tokens


def _negated(inner: Predicate) -> Predicate:
    return lambda record: not inner(record)


def _term(token: str) -> Predicate:
    name, colon, value = token.partition(":")
    if not colon or name.startswith('"'):
        word = token.strip('"').casefold()
        return lambda record: word in record.text
    name, value = _ALIASES.get(name.lower(), name.lower()), value.strip('"')
    if name not in _FIELDS:
        near = get_close_matches(name, _FIELDS, 1)
        hint = f'Did you mean "{near[0]}:"?' if near else f"Known: {', '.join(_FIELDS)}."
        raise QueryError(f'There is no field "{name}".', hint)
    if not value:
        raise QueryError(f'"{name}:" needs a value.')
    if name in ("is", "has"):
        return _state(value.lower())
    return _number(name, value) if name in NUMBERS else _text(name, value.casefold())


def _state(value: str) -> Predicate:
    value = {"rejects": "rejected", "dup": "duplicate", "duplicates": "duplicate"}.get(value, value)
    if value == "usable":
        return lambda record: record.is_usable
    if value in TRAITS:
        return lambda record: value in record.traits
    if value in STATES:
        return lambda record: value in record.findings
    near = get_close_matches(value, sorted(STATES | TRAITS), 1)
    hint = f'Did you mean "{near[0]}"?' if near else f"Known: {', '.join(sorted(STATES | TRAITS))}."
    raise QueryError(f'Clips cannot be "{value}".', hint)


def _text(name: str, value: str) -> Predicate:
    read = TEXTS[name]
    if value in ("none", "empty"):
        # A clip whose caption is not known yet is not one without.
        return lambda record: not read(record).strip() and (name != "caption" or record.caption is not None)
    if value == "any":
        return lambda record: bool(read(record).strip())
    return lambda record: value in read(record).casefold()


def _number(name: str, value: str) -> Predicate:
    read = NUMBERS[name]
    span = _RANGE.fullmatch(value)
    if span is not None:
        low, high = float(span[1]), float(span[2])
        return lambda record: (known := read(record)) is not None and low <= known <= high
    found = _COMPARISON.fullmatch(value)
    if found is None:
        raise QueryError(f'"{name}:" compares numbers, and "{value}" is none.', f"For example {name}:>2.")
    sign, number = found[1] or "=", float(found[2])
    decimals = len(found[2].partition(".")[2])
    match sign:
        case "<":
            return lambda record: (known := read(record)) is not None and known < number
        case "<=":
            return lambda record: (known := read(record)) is not None and known <= number
        case ">":
            return lambda record: (known := read(record)) is not None and known > number
        case ">=":
            return lambda record: (known := read(record)) is not None and known >= number
        case _:
            # As precise as it was typed: 30 finds 29.97, too.
            return lambda record: (known := read(record)) is not None and round(known, decimals) == number
