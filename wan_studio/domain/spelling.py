"""Which words of a caption are to be looked up in a dictionary, and which are right in any case."""

import re
from dataclasses import dataclass

from wan_studio.domain.caption import TRIGGER_PLACEHOLDER
from wan_studio.domain.project import MAIN, Project

_SKIPPED = re.compile(rf"{re.escape(TRIGGER_PLACEHOLDER)}|\w+://\S+|\S+@\S+|\S*\d\S*")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_PART = re.compile(r"['’-]")
_CYRILLIC = ("ru", "uk", "be", "bg", "mk", "sr", "kk", "mn", "ky", "tg")
_GREEK = ("el",)
_SHORTEST = 2


@dataclass(frozen=True, slots=True)
class Spelt:
    """A word of a text.

    Attributes:
        start: Index of its first character.
        end: Index behind its last one.
    """

    start: int
    end: int
    word: str


def words_to_check(text: str, right: frozenset[str], language: str) -> list[Spelt]:
    """The words of a text that a dictionary can judge.

    Left out are the placeholder, addresses, what holds digits, single letters, words in another script
    than the dictionary's, and words that are right in any case.

    Args:
        text: One line or more.
        right: Words that are right in any case, casefolded.
        language: Of the dictionary, e.g. "en_US".
    """
    skipped = [found.span() for found in _SKIPPED.finditer(text)]
    spelt: list[Spelt] = []
    for found in _WORD.finditer(text):
        word, (start, end) = found.group().replace("’", "'"), found.span()
        if len(word) < _SHORTEST or not _is_in_script(word, language):
            continue
        if any(first < end and start < last for first, last in skipped) or is_right(word, right):
            continue
        spelt.append(Spelt(start, end, word))
    return spelt


def is_right(word: str, right: frozenset[str]) -> bool:
    """Whether a word, its stem before an apostrophe or each of its hyphenated parts is among the right ones."""
    folded = word.casefold()
    if folded in right or folded.removesuffix("'s") in right:
        return True
    parts = _PART.split(folded)
    return len(parts) > 1 and all(part in right for part in parts)


def right_words(project: Project, of_user: tuple[str, ...] = ()) -> frozenset[str]:
    """Words that are never wrong in a project: its triggers, class words and lists; casefolded.

    Args:
        project: The open one.
        of_user: The user's own words, for all projects.
    """
    training = project.settings.training
    names = (MAIN, *(dataset.name for dataset in project.extra_datasets))
    phrases = [
        *project.words,
        *of_user,
        project.trigger,
        training.diff_output_preservation_class,
        *(project.dataset_trigger(name) for name in names),
    ]
    found: set[str] = set()
    for phrase in phrases:
        found |= {phrase.casefold(), *(word.casefold() for word in _WORD.findall(phrase))}
    return frozenset(found - {""})


def _is_in_script(word: str, language: str) -> bool:
    code = language.split("_")[0].split("-")[0].lower()
    if code in _CYRILLIC:
        return all("\u0400" <= letter <= "\u052f" for letter in word if letter.isalpha())
    if code in _GREEK:
        return all("\u0370" <= letter <= "\u1fff" for letter in word if letter.isalpha())
    return all(letter < "\u0250" or "\u1e00" <= letter <= "\u1eff" for letter in word if letter.isalpha())
