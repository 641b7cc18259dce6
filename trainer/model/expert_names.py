"""Which expert a file is. Nothing in a file tells it: only its name does, or that of its folder."""

import re
from pathlib import Path

from trainer.model.base_parts import Part

_FOLDERS = {"transformer": Part.HIGH, "transformer_2": Part.LOW}
_WORDS = {"high": Part.HIGH, "low": Part.LOW, "highnoise": Part.HIGH, "lownoise": Part.LOW}


def expert_of(file: Path) -> Part | None:
    """The expert that a file's name tells, or else the name of its folder; None if neither does.

    "high" and "low" count as words of their own only: a "flow" or "slow" in a name means nothing.
    """
    for name in (file.stem, file.parent.name):
        told = {_WORDS[word] for word in _words(name) if word in _WORDS}
        if len(told) == 1:
            return told.pop()
    return _FOLDERS.get(file.parent.name)


def name_without_expert(file: Path) -> tuple[str, ...]:
    """What the two files of a pair have in common in their names."""
    return tuple(word for word in _words(file.stem) if word not in _WORDS and word != "noise")


def _words(name: str) -> list[str]:
    """Lower-case words: runs of letters, divided where lower case turns into upper case, and numbers."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)]
