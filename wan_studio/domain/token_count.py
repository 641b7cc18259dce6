"""How many tokens a prompt has: exactly with a unigram vocabulary such as UMT5's, or estimated without."""

import math
import re
import unicodedata
from collections.abc import Mapping

_UNKNOWN_PENALTY = 10.0
_SPACE = "\u2581"


class UnigramCounter:
    """Counts as sentencepiece's unigram model splits: the likeliest pieces of each word.

    Words are counted once and remembered; captions repeat theirs.

    Args:
        scores: Log probability by piece, without special tokens.
    """

    def __init__(self, scores: Mapping[str, float]) -> None:
        self._scores = scores
        self._longest = max((len(piece) for piece in scores), default=1)
        self._unknown = min(scores.values(), default=0.0) - _UNKNOWN_PENALTY
        self._counted: dict[str, int] = {}

    def count(self, prompt: str) -> int:
        """Tokens, with the one that ends every prompt."""
        total = 1
        for word in unicodedata.normalize("NFKC", prompt).split():
            known = self._counted.get(word)
            if known is None:
                known = self._counted[word] = self._pieces(_SPACE + word)
            total += known
        return total

    def _pieces(self, word: str) -> int:
        """Pieces of the likeliest split; neighbouring unknown signs are one."""
        best = [0.0] + [-math.inf] * len(word)
        came_from = [0] * (len(word) + 1)
        is_unknown = [False] * (len(word) + 1)
        for end in range(1, len(word) + 1):
            for start in range(max(0, end - self._longest), end):
                score = self._scores.get(word[start:end])
                unknown = score is None
                if score is None:
                    if end - start > 1:
                        continue
                    score = self._unknown
                if best[start] + score > best[end]:
                    best[end], came_from[end], is_unknown[end] = best[start] + score, start, unknown
        count, at, follows_unknown = 0, len(word), False
        while at > 0:
            if not (is_unknown[at] and follows_unknown):
                count += 1
            follows_unknown = is_unknown[at]
            at = came_from[at]
        return count


_PARTS = re.compile(r"[A-Za-z]+|[0-9]+|[^\sA-Za-z0-9]")


def estimated_tokens(prompt: str) -> int:
    """Tokens of a prompt by its letters alone: a short word is one token, a long one several."""
    total = 1
    for part in _PARTS.findall(prompt):
        if part.isascii() and part.isalpha():
            total += 1 if len(part) <= 5 else math.ceil(len(part) / 4.5)
        elif part.isdigit():
            total += math.ceil(len(part) / 2)
        else:
            total += 1
    return total
