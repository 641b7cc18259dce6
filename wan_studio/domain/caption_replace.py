"""Changes of many captions at once: each rule gives the list of what would change, to be looked at first."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from wan_studio.domain.caption import TRIGGER_PLACEHOLDER, names
from wan_studio.errors import AppError

Span = tuple[int, int]


class PatternError(AppError):
    """A regular expression, or what is to stand for it, that cannot be used."""


@dataclass(frozen=True, slots=True)
class CaptionChange:
    """What a rule makes of one caption.

    Attributes:
        removed: Parts of `before` that go, as (start, end).
        added: Parts of `after` that are new.
    """

    clip_id: str
    before: str
    after: str
    removed: tuple[Span, ...]
    added: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class FindReplace:
    r"""Replaces every place where something is found.

    Attributes:
        find: Words, or a regular expression.
        replacement: Text; with a regular expression \1 and \g<name> stand for its groups.
        is_regex: Whether `find` is a regular expression.
        match_case: Whether capitals matter.
        whole_words: Whether "cat" leaves "concatenate" alone.
    """

    find: str
    replacement: str
    is_regex: bool = False
    match_case: bool = False
    whole_words: bool = False


@dataclass(frozen=True, slots=True)
class Prefix:
    """Puts a text before every caption that has words and does not begin with it yet."""

    text: str


@dataclass(frozen=True, slots=True)
class Suffix:
    """Puts a text after every caption that has words and does not end with it yet; the last line end stays."""

    text: str


@dataclass(frozen=True, slots=True)
class InsertTrigger:
    """Puts `[trigger]` first in every caption that has words and names the trigger nowhere.

    Attributes:
        trigger: The trigger word; a caption that names it is left as it is.
    """

    trigger: str = ""


Rule = FindReplace | Prefix | Suffix | InsertTrigger

# A group that repeats what already repeats: on the wrong text it would be tried for longer than anyone waits.
_ENDLESS = re.compile(r"\((?:[^()\\]|\\.)*(?<!\\)[+*](?:[^()\\]|\\.)*\)\s*(?:[+*]|\{\d*,\d*\})")


def changes_of(rule: Rule, captions: Mapping[str, str]) -> list[CaptionChange]:
    """What a rule changes in these captions, by clip id, in their order; captions that stay are left out.

    Raises:
        PatternError: the regular expression cannot be used.
    """
    match rule:
        case FindReplace():
            change = _replacer(rule)
        case Prefix(text):
            change = _prefixer(text)
        case Suffix(text):
            change = _suffixer(text)
        case InsertTrigger(trigger):
            change = _trigger_inserter(trigger)
    found = (change(clip_id, text) for clip_id, text in captions.items())
    return [one for one in found if one is not None and one.before != one.after]


_Change = Callable[[str, str], CaptionChange | None]


def _replacer(rule: FindReplace) -> _Change:
    pattern, replacement = _compiled(rule), rule.replacement

    def change(clip_id: str, text: str) -> CaptionChange | None:
        pieces: list[str] = []
        removed: list[Span] = []
        added: list[Span] = []
        end, length = 0, 0
        for match in pattern.finditer(text) if rule.find else ():
            new = _expanded(match, replacement) if rule.is_regex else replacement
            pieces += [text[end : match.start()], new]
            length += match.start() - end
            if match.group() != new:
                removed.append(match.span())
                added.append((length, length + len(new)))
            length += len(new)
            end = match.end()
        if not removed:
            return None
        return CaptionChange(clip_id, text, "".join(pieces) + text[end:], tuple(removed), tuple(added))

    return change


def _compiled(rule: FindReplace) -> re.Pattern[str]:
    source = rule.find if rule.is_regex else re.escape(rule.find)
    if rule.is_regex and _ENDLESS.search(source):
        raise PatternError(
            "The expression repeats a group that itself repeats; on some captions that never ends.",
            "Write it with one repetition, such as a+ for (a+)+.",
        )
    if rule.whole_words:
        source = rf"(?<!\w)(?:{source})(?!\w)"
    flags = re.MULTILINE | (re.NOFLAG if rule.match_case else re.IGNORECASE)
    try:
        return re.compile(source, flags)
    except re.error as error:
        where = f" at sign {error.pos + 1}" if error.pos is not None and not rule.whole_words else ""
        raise PatternError(f"The regular expression cannot be read: {error.msg}{where}.") from error


def _expanded(match: re.Match[str], replacement: str) -> str:
    try:
        return match.expand(replacement)
    except (re.error, IndexError) as error:
        raise PatternError(f"The replacement cannot be used: {error}.") from error


def _prefixer(prefix: str) -> _Change:
    def change(clip_id: str, text: str) -> CaptionChange | None:
        if not prefix or not text.strip() or text.startswith(prefix):
            return None
        return CaptionChange(clip_id, text, prefix + text, (), ((0, len(prefix)),))

    return change


def _suffixer(suffix: str) -> _Change:
    def change(clip_id: str, text: str) -> CaptionChange | None:
        words = text.rstrip()
        if not suffix or not words or words.endswith(suffix):
            return None
        after = words + suffix + text[len(words) :]
        return CaptionChange(clip_id, text, after, (), ((len(words), len(words) + len(suffix)),))

    return change


def _trigger_inserter(trigger: str) -> _Change:
    put = f"{TRIGGER_PLACEHOLDER}, "

    def change(clip_id: str, text: str) -> CaptionChange | None:
        is_named = TRIGGER_PLACEHOLDER in text or bool(trigger and names(text, trigger))
        if not text.strip() or is_named:
            return None
        return CaptionChange(clip_id, text, put + text, (), ((0, len(put)),))

    return change
