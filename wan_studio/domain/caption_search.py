"""A search over captions: words, fields and numbers joined by AND, OR and NOT, as TagGUI has them.

`orbit castle` finds clips with both; `caption:none`, `caption:any`, `caption:"slow orbit"`, `name:castle*`,
`trigger:missing`, `tokens:>100`, `words:<5`, `chars:0`, `lint:motion`, `lint:any`, `file:unreadable`,
`clip:rejected`.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from wan_studio.errors import AppError

Match = Callable[["CaptionEntry"], bool]
"""Whether a caption is found."""


class CaptionQueryError(AppError):
    """A search that means nothing."""


@dataclass(frozen=True, slots=True)
class CaptionEntry:
    """What can be searched of one clip's caption.

    Attributes:
        clip_id: Of the clip.
        name: File name of the clip.
        caption: As it stands; empty when there is none or it cannot be read.
        folded: The same without case, for searching.
        tokens: Of what it trains as; may be an estimate.
        has_trigger: Whether it names the trigger word or `[trigger]`; True where there is none to name.
        findings: Names of what the lint found, e.g. "motion".
        needs_attention: Whether something of that is worth a look.
        is_readable: Whether the `.txt` could be read, or is not there.
        is_rejected: Whether the clip is left out of training.
    """

    clip_id: str
    name: str
    caption: str
    folded: str
    tokens: int = 0
    has_trigger: bool = True
    findings: frozenset[str] = frozenset()
    needs_attention: bool = False
    is_readable: bool = True
    is_rejected: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it that trains."""
        return not self.caption.strip()


_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
    "": operator.eq,
}
_NUMBERS: dict[str, Callable[[CaptionEntry], int]] = {
    "tokens": lambda entry: entry.tokens,
    "words": lambda entry: len(entry.caption.split()),
    "chars": lambda entry: len(entry.caption),
}
_STATES: dict[str, dict[str, Match]] = {
    "caption": {
        "none": lambda entry: entry.is_empty and entry.is_readable,
        "any": lambda entry: not entry.is_empty,
    },
    "trigger": {
        "missing": lambda entry: not entry.has_trigger and not entry.is_empty,
        "there": lambda entry: entry.has_trigger and not entry.is_empty,
    },
    "file": {
        "unreadable": lambda entry: not entry.is_readable,
        "readable": lambda entry: entry.is_readable,
    },
    "clip": {
        "rejected": lambda entry: entry.is_rejected,
        "used": lambda entry: not entry.is_rejected,
    },
    "lint": {
        "any": lambda entry: entry.needs_attention,
        "none": lambda entry: not entry.needs_attention,
    },
}
_FIELDS = ("caption", "name", "trigger", "tokens", "words", "chars", "lint", "file", "clip")
_TOKEN = re.compile(r'\s*(?:(\()|(\))|((?:[A-Za-z]+:)?"[^"]*"?|[^\s()]+))')


def parse_query(text: str) -> Match:
    """The search that a text means; an empty one finds everything.

    Raises:
        CaptionQueryError: a field that does not exist, a number that is none, a bracket left open.
    """
    tokens = [match.group().strip() for match in _TOKEN.finditer(text) if match.group().strip()]
    if not tokens:
        return lambda _: True
    parser = _Parser(tokens)
    found = parser.either()
    if parser.ahead is not None:
        raise CaptionQueryError("A bracket closes that was not opened.")
    return found


def find(entries: Mapping[str, CaptionEntry], match: Match) -> list[str]:
    """Ids of the clips that are found, in the order given."""
    return [clip_id for clip_id, entry in entries.items() if match(entry)]


class _Parser:
    """Reads terms from the left; AND binds closer than OR, and two terms side by side mean AND."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    @property
    def ahead(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def either(self) -> Match:
        options = [self._both()]
        while self._take("OR"):
            options.append(self._both())
        return options[0] if len(options) == 1 else lambda entry: any(one(entry) for one in options)

    def _both(self) -> Match:
        parts = [self._single()]
        while self.ahead not in (None, ")", "OR"):
            self._take("AND")
            parts.append(self._single())
        return parts[0] if len(parts) == 1 else lambda entry: all(one(entry) for one in parts)

    def _single(self) -> Match:
        if self._take("NOT"):
            inner = self._single()
            return lambda entry: not inner(entry)
        if self._take("("):
            inner = self.either()
            if not self._take(")"):
                raise CaptionQueryError("A bracket is opened and not closed.")
            return inner
        token = self.ahead
        if token is None or token in ("AND", "OR", ")"):
            raise CaptionQueryError("Something is missing beside AND, OR or NOT.")
        self._at += 1
        return _term(token)

    def _take(self, token: str) -> bool:
        if self.ahead == token:
            self._at += 1
            return True
        return False


def _term(token: str) -> Match:
    field, separator, value = token.partition(":")
    if token.startswith('"') or not separator or not field.isalpha():
        words = _pattern(token)
        return lambda entry: words(entry.folded) or words(entry.name.casefold())
    field = field.lower()
    if field not in _FIELDS:
        raise CaptionQueryError(f"There is no field {field}.", f"Known: {', '.join(_FIELDS)}.")
    if field in _NUMBERS:
        return _number(field, value)
    if not value.strip('"'):
        raise CaptionQueryError(f"What is looked for in {field}?")
    named = _STATES.get(field, {}).get(value.lower())
    if named is not None:
        return named
    if field == "lint":
        finding = value.lower()
        return lambda entry: finding in entry.findings
    if field in ("trigger", "file", "clip"):
        raise CaptionQueryError(f"{field} knows no {value}.", f"Known: {', '.join(_STATES[field])}.")
    words = _pattern(value)
    if field == "name":
        return lambda entry: words(entry.name.casefold())
    return lambda entry: words(entry.folded)


def _number(field: str, value: str) -> Match:
    parsed = re.fullmatch(r"(>=|<=|!=|==|>|<|=|)(\d{1,9})", value)
    if parsed is None:
        raise CaptionQueryError(
            f"{field} takes a number, such as {field}:>100.", "Also <, >=, <=, = and != are known."
        )
    compare, number, measure = _COMPARISONS[parsed[1]], int(parsed[2]), _NUMBERS[field]
    return lambda entry: compare(measure(entry), number)


def _pattern(value: str) -> Callable[[str], bool]:
    """Whether a text holds the value, without case; * stands for any signs, ? for one."""
    plain = value.strip('"').casefold()
    if "*" not in plain and "?" not in plain:
        return lambda text: plain in text
    parts = {"*": ".*?", "?": "."}
    found = re.compile("".join(parts.get(sign, re.escape(sign)) for sign in plain), re.DOTALL)
    return lambda text: found.search(text) is not None
