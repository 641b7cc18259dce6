"""The words and phrases that a project's captions use, for completing what is typed."""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from wan_studio.domain.caption import TRIGGER_PLACEHOLDER

_WORD = re.compile(r"[^\W\d_][\w'-]*")
_PHRASE_WORDS = 3
_SHORTEST_PREFIX = 2
_FEWEST_USES_OF_A_PHRASE = 2
_LEADING = frozenset(
    ("a", "an", "the", "and", "or", "of", "in", "on", "at", "to", "with", "by", "as", "is", "are")
)

CAMERA_MOVES = (
    *("orbit left", "orbit right", "orbit 360", "pan left", "pan right", "tilt up", "tilt down", "zoom in"),
    *("zoom out", "dolly in", "dolly out", "dolly zoom", "truck left", "truck right", "push in", "pull back"),
    *(
        "crane up",
        "crane down",
        "tracking shot",
        "handheld camera",
        "static camera",
        "aerial shot",
        "arc shot",
    ),
)
"""Words for the camera's moves; offered after the words in use."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A word or phrase that may be meant.

    Attributes:
        text: The whole of it.
        uses: Captions that have it; 0 for a camera move that none has yet.
    """

    text: str
    uses: int


class WordsInUse:
    """An index of words and phrases by their beginning.

    Args:
        captions: All texts; each counts once for each word.
    """

    def __init__(self, captions: Iterable[str] = ()) -> None:
        counts: Counter[str] = Counter()
        for caption in captions:
            counts.update(_parts(caption))
        for move in CAMERA_MOVES:
            counts.setdefault(move, 0)
        self._uses = {
            text: uses
            for text, uses in counts.items()
            if " " not in text or uses >= _FEWEST_USES_OF_A_PHRASE or text in CAMERA_MOVES
        }
        self._sorted = sorted((text.casefold(), text) for text in self._uses)

    def complete(self, prefix: str, limit: int = 5) -> list[Suggestion]:
        """What begins with the prefix and goes on, the most used first."""
        if len(prefix) < _SHORTEST_PREFIX:
            return []
        folded = prefix.casefold()
        found: list[Suggestion] = []
        at = bisect_left(self._sorted, (folded, ""))
        while at < len(self._sorted) and self._sorted[at][0].startswith(folded):
            text = self._sorted[at][1]
            if len(text) > len(prefix):
                found.append(Suggestion(text, self._uses[text]))
            at += 1
        found.sort(key=lambda one: (-one.uses, len(one.text), one.text))
        return found[:limit]

    def most_used(self, limit: int = 8) -> list[Suggestion]:
        """Words that say something, the most used first."""
        words = [
            Suggestion(text, uses)
            for text, uses in self._uses.items()
            if uses > 0 and len(text) > 2 and text.casefold() not in _LEADING and " " not in text
        ]
        words.sort(key=lambda one: (-one.uses, one.text))
        return words[:limit]


def word_before(text: str) -> str:
    """The word that is being typed at the end of a text; empty after a space or a sign."""
    found = re.search(r"[^\W\d_][\w'-]*$", text)
    return found.group() if found else ""


def _parts(caption: str) -> set[str]:
    """Words, and phrases within one clause that neither begin nor end with a little word."""
    parts: set[str] = set()
    for clause in re.split(r"[,.;:!?\n()\[\]\"]", caption.replace(TRIGGER_PLACEHOLDER, ".")):
        words = _WORD.findall(clause)
        parts.update(words)
        for first in range(len(words)):
            if words[first].casefold() in _LEADING:
                continue
            for length in range(2, _PHRASE_WORDS + 1):
                phrase = words[first : first + length]
                if len(phrase) == length and phrase[-1].casefold() not in _LEADING:
                    parts.add(" ".join(phrase))
    return parts
