"""Two texts as one, in parts: what stays, what goes, what is new."""

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from wan_studio.domain.caption_replace import CaptionChange

_MOST_WORDS = 4000


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of text, and what happens to it."""

    kind: Literal["same", "removed", "added"]
    text: str


def diff(before: str, after: str) -> tuple[Part, ...]:
    """The difference word by word."""
    old, new = re.findall(r"\s+|\w+|[^\w\s]", before), re.findall(r"\s+|\w+|[^\w\s]", after)
    if len(old) + len(new) > _MOST_WORDS:
        return (Part("removed", before), Part("added", after))
    parts: list[Part] = []
    for what, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what == "equal":
            parts.append(Part("same", "".join(old[a:b])))
            continue
        if b > a:
            parts.append(Part("removed", "".join(old[a:b])))
        if d > c:
            parts.append(Part("added", "".join(new[c:d])))
    return tuple(parts)


def parts_of(change: CaptionChange, around: int = 28) -> tuple[Part, ...]:
    """A change as parts, from a little before its first place on."""
    parts: list[Part] = []
    old_at, new_at = 0, 0
    starts = [span[0] for span in change.added]
    first = max(0, (starts[0] if starts else 0) - around)
    if first:
        parts.append(Part("same", "…"))
        old_at = new_at = first
    for at, (start, end) in enumerate(change.added):
        parts.append(Part("same", change.after[new_at:start]))
        old_at += start - new_at
        if at < len(change.removed):
            old_at = change.removed[at][1]
            parts.append(Part("removed", change.before[change.removed[at][0] : old_at]))
        parts.append(Part("added", change.after[start:end]))
        new_at = end
    parts.append(Part("same", change.after[new_at:]))
    return tuple(Part(part.kind, part.text.replace("\n", " ")) for part in parts if part.text)
