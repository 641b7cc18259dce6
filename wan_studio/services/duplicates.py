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
        groups.join(first, second)
    marks: dict[str, DuplicateMark] = {}
    for number, members in enumerate(groups.several()):
        best = max(members, key=lambda at: (candidates[at].worth, -at))
        for at in members:
            marks[candidates[at].clip_id] = DuplicateMark(number, is_exact=at in exact, is_best=at == best)
    return marks


def _near_pairs(candidates: Sequence[Candidate]) -> list[tuple[int, int]]:
    """Pairs of files that look alike; files of which several ranges are used are compared once."""
    pairs: list[tuple[int, int]] = []
    ranges: dict[tuple[str, bytes, float], list[int]] = {}
    for at, one in enumerate(candidates):
        ranges.setdefault((one.place, one.look.signature, one.seconds), []).append(at)
    lengths = {len(one.look.signature) for one in candidates} - {0}
    for length in lengths:
        places = [same[0] for same in ranges.values() if len(candidates[same[0]].look.signature) == length]
        bits = np.frombuffer(b"".join(candidates[at].look.signature for at in places), np.uint64)
        rows = bits.reshape(len(places), length // 8)
        seconds = np.array([max(candidates[at].seconds, 1e-3) for at in places])
        for row in range(len(places) - 1):
            near = _alike(rows[row], rows[row + 1 :])
            ratio = seconds[row + 1 :] / seconds[row]
            near &= (ratio < _LENGTH_RATIO) & (ratio > 1 / _LENGTH_RATIO)
            pairs += [
                (places[row], places[other])
                for other in (row + 1 + np.flatnonzero(near)).tolist()
                if candidates[places[row]].place != candidates[places[other]].place
            ]
    alike = {at for pair in pairs for at in pair}
    return pairs + [(same[0], other) for same in ranges.values() if same[0] in alike for other in same[1:]]


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
