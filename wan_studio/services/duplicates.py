"""Which clips show the same: files of the same bytes, and clips whose pictures are nearly alike."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wan_studio.domain.clip_look import SIGNATURE_BYTES
from wan_studio.domain.clip_record import Candidate, DuplicateMark

NEAR = 0.045
"""Share of differing bits up to which pictures are alike.

Measured: clips made again at half the size and poor quality differ from their source in 0.015 to 0.037,
different words signed by one person before one wall in 0.056 and more.
"""
_LENGTH_RATIO = 1.15


def find_duplicates(candidates: Sequence[Candidate]) -> dict[str, DuplicateMark]:
    """The clips that show the same as another, by id; of each group one is the best."""
    groups = _Groups(len(candidates))
    exact: set[int] = set()
    by_hash: dict[str, int] = {}
    for at, one in enumerate(candidates):
        if not one.look.content_hash:
            continue
        first = by_hash.setdefault(one.look.content_hash, at)
        if first != at and candidates[first].place != one.place:
            groups.join(first, at)
            exact |= {first, at}
    for first, second in _near_pairs(candidates):
        if candidates[first].place != candidates[second].place:
            groups.join(first, second)
    marks: dict[str, DuplicateMark] = {}
    for number, members in enumerate(groups.several()):
        best = max(members, key=lambda at: (candidates[at].worth, -at))
        for at in members:
            marks[candidates[at].clip_id] = DuplicateMark(number, is_exact=at in exact, is_best=at == best)
    return marks


def _near_pairs(candidates: Sequence[Candidate]) -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    lengths = {len(one.look.signature) for one in candidates} - {0}
    for length in lengths:
        places = [at for at, one in enumerate(candidates) if len(one.look.signature) == length]
        bits = np.frombuffer(b"".join(candidates[at].look.signature for at in places), np.uint64)
        rows = bits.reshape(len(places), length // 8)
        seconds = np.array([max(candidates[at].seconds, 1e-3) for at in places])
        for row in range(len(places) - 1):
            alike = _alike(rows[row], rows[row + 1 :])
            ratio = seconds[row + 1 :] / seconds[row]
            alike &= (ratio < _LENGTH_RATIO) & (ratio > 1 / _LENGTH_RATIO)
            pairs += [(places[row], places[row + 1 + int(other)]) for other in np.flatnonzero(alike)]
    return pairs


def _alike(one: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.bool_]:
    differing = np.bitwise_count(others ^ one).sum(axis=1, dtype=np.int64)
    return differing <= NEAR * 8 * SIGNATURE_BYTES * (one.nbytes // SIGNATURE_BYTES)


class _Groups:
    """Joins numbers into groups."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def join(self, first: int, second: int) -> None:
        self._parent[self._root(first)] = self._root(second)

    def several(self) -> list[list[int]]:
        """The groups of more than one, in order of their first members."""
        groups: dict[int, list[int]] = {}
        for at in range(len(self._parent)):
            groups.setdefault(self._root(at), []).append(at)
        return [members for members in groups.values() if len(members) > 1]

    def _root(self, at: int) -> int:
        while self._parent[at] != at:
            self._parent[at] = self._parent[self._parent[at]]
            at = self._parent[at]
        return at
