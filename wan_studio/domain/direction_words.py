"""Words of direction in a caption, turned round for the mirrored copy of its clip."""

import re
from dataclasses import dataclass
from typing import Literal

Flip = Literal["none", "horizontal", "vertical", "both"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LEFT_RIGHT = {
    "left": "right",
    "leftward": "rightward",
    "leftwards": "rightwards",
    "leftmost": "rightmost",
    "lefthand": "righthand",
}
_UP_DOWN = {
    "up": "down",
    "upward": "downward",
    "upwards": "downwards",
    "above": "below",
    "top": "bottom",
    "topmost": "bottommost",
    "upper": "lower",
}
_ANTICLOCKWISE = r"(?:counter|anti)[-\s]?clockwise"
_CJK_SIDES = re.compile("[左右]")
_CJK_HEIGHTS = re.compile("[上下]")

_TRAVEL = (
    *("pan", "turn", "mov", "slid", "go", "rotat", "tilt", "drift", "orbit", "look", "walk", "run", "swing"),
    *("track", "fly", "flies", "spin", "fac", "point", "lean", "step", "glid", "travel", "sweep", "swip"),
    *("doll", "truck", "arc", "veer", "steer", "bank", "shift", "driv", "roll", "float", "circl", "scroll"),
    *("head", "gaz", "glanc", "jump", "push", "pull", "stare", "staring"),
)
_PLACES = _words(
    "the to toward towards from upper lower top bottom far further farther camera screen frame stage "
    "slowly quickly slightly gently smoothly sharply steadily diagonally"
)
_RIGHT_KEPT_BEFORE = _words(
    "now away here there next past through up back off out angle angles triangle time moment way place "
    "amount one thing"
)
_RIGHT_KEPT_AFTER = _words("all just that's quite exactly nearly")
_RIGHT_DOUBTFUL_BEFORE = _words(
    "after before behind beside at in on into onto under underneath beneath over above below as when where "
    "around along across outside inside near by beyond between down against among opposite"
)
_LEFT_KEPT_BEFORE = _words("behind over alone open untouched unattended")
_LEFT_KEPT_AFTER = _words(
    "has had have having was were been be being is are nothing none who that never just he she they it we "
    "you i"
)
_LEFT_DOUBTFUL_BEFORE = _words(
    "the a an his her their its my your our home it them him us me this that town early late without in on "
    "at out off by for"
)
_PHRASAL_BEFORE_UP_DOWN = re.compile(
    r"(?:close|pick|light|lit|speed|sped|slow|wak|woke|woken|open|grow|grew|grown|show|dress|mak|made|set|"
    r"warm|break|broke|broken|calm|end|clean|wrap|build|built|mess|giv|gave|shut|upside|cheer|heat|cool|fill|"
    r"blow|blew|zip|button|hurr|team|line|settl|catch|caught|thumbs|count|stand|stood|sit|sat|lie|ly|lay|"
    r"kneel|knelt|get|got|hold|held|hang|hung|put)"
    r"(?:s|e|es|ed|y|ies|ied|ing|ting|ning|ping)?"
)
_UP_KEPT_BEFORE = _words("close to front until")
_DOWN_KEPT_BEFORE = _words("to jacket payment")
_TOP_KEPT_BEFORE = _words("hat hats speed model quality notch secret layer")
_TOP_KEPT_AFTER = _words("tank crop halter spinning")
_ABOVE_KEPT_BEFORE = frozenset(("all", "average"))
_LOWER_KEPT_BEFORE = _words("the a an his her their its itself himself herself")
_RISE_AND_FALL = re.compile(
    r"(?:rise[sn]?|rising|rose|ris|fall(?:s|ing|en)?|fell|climb(?:s|ed|ing)?|ascend(?:s|ed|ing)?|"
    r"descend(?:s|ed|ing)?|lowers|lowered|lowering|raise[sd]?|raising)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class MirroredCaption:
    """A caption after its picture was mirrored.

    Attributes:
        text: The caption, directions turned round.
        swapped: Words that were turned round, as they stood, each once.
        kept: Words that name a direction but stay, because they may mean something else
            ("right away") or have no opposite word; with the word beside them, each once.
    """

    text: str
    swapped: tuple[str, ...]
    kept: tuple[str, ...]


def mirrored_caption(caption: str, flip: Flip, trigger: str = "") -> MirroredCaption:
    """Turn round the words of direction that the flip makes wrong.

    Left and right for a horizontal flip; up and down, above and below, top and bottom for a
    vertical one; clockwise for either, but not for both together, which is half a turn. Only whole
    words, in the case that they have.

    Args:
        caption: Any text.
        flip: How the picture is mirrored.
        trigger: Stays as it is wherever it stands as a word of its own.
    """
    if flip == "none":
        return MirroredCaption(caption, (), ())
    opposites = _opposites(flip)
    held = [match.span() for match in _as_word(re.escape(trigger)).finditer(caption)] if trigger else []
    swapped: dict[str, None] = {}
    kept: dict[str, None] = {}

    def turned(match: re.Match[str]) -> str:
        word = match.group()
        if any(match.start() < end and start < match.end() for start, end in held):
            return word
        before, after = _neighbours(caption, match)
        if _is_part_of_a_name(word, caption, match):
            return word
        if not _is_direction(word.lower(), before, after):
            kept[_quoted(word, before, after)] = None
            return word
        swapped[word] = None
        plain = re.sub(_ANTICLOCKWISE, "counterclockwise", word.lower())
        return _in_case_of(word, opposites[plain])

    words = [re.escape(word) for word in opposites if word != "counterclockwise"]
    if "clockwise" in opposites:
        words.insert(0, _ANTICLOCKWISE)
    text = _as_word("|".join(words)).sub(turned, caption)
    for pattern in _without_opposite(flip):
        kept |= dict.fromkeys(match.group() for match in pattern.finditer(caption))
    return MirroredCaption(text, tuple(swapped), tuple(kept))


def names_a_direction(trigger: str, flip: Flip) -> bool:
    """Whether a trigger word, which stays the same in a mirrored copy, tells a direction: "spin_left"."""
    parts = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", trigger).lower())
    return flip != "none" and any(part in _opposites(flip) for part in parts)


def _opposites(flip: Flip) -> dict[str, str]:
    pairs: dict[str, str] = {}
    if flip in ("horizontal", "both"):
        pairs |= _LEFT_RIGHT
    if flip in ("vertical", "both"):
        pairs |= _UP_DOWN
    if flip != "both":
        pairs["clockwise"] = "counterclockwise"
    return pairs | {other: word for word, other in pairs.items()}


def _as_word(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{pattern})(?!\w)", re.IGNORECASE)


def _without_opposite(flip: Flip) -> list[re.Pattern[str]]:
    """What names a direction that no word can replace: verbs, and other scripts' signs."""
    patterns: list[re.Pattern[str]] = []
    if flip in ("horizontal", "both"):
        patterns.append(_CJK_SIDES)
    if flip in ("vertical", "both"):
        patterns += [_CJK_HEIGHTS, _as_word(_RISE_AND_FALL.pattern)]
    return patterns


def _neighbours(caption: str, match: re.Match[str]) -> tuple[str, str]:
    """The words right before and after, in lower case; empty across any sign but a space."""
    before = re.search(r"([\w']+)\s+$", caption[: match.start()])
    after = re.match(r"\s+([\w']+)", caption[match.end() :])
    return before.group(1).lower() if before else "", after.group(1).lower() if after else ""


def _is_part_of_a_name(word: str, caption: str, match: re.Match[str]) -> bool:
    """Whether it is the second part of a compound such as close-up, which tells no direction."""
    return word.lower() in ("up", "down") and caption[: match.start()].endswith("-")


def _is_direction(word: str, before: str, after: str) -> bool:
    """Whether the word tells a direction here, as far as the words beside it let one know."""
    travels = before in _PLACES or any(
        before.startswith(stem) and len(before) <= len(stem) + 5 for stem in _TRAVEL
    )
    match word:
        case "right":
            always = after in _RIGHT_KEPT_BEFORE or before in _RIGHT_KEPT_AFTER
            return not always and (travels or after not in _RIGHT_DOUBTFUL_BEFORE)
        case "left":
            always = after in _LEFT_KEPT_BEFORE or (before in _LEFT_KEPT_AFTER and after != "of")
            return not always and (travels or after not in _LEFT_DOUBTFUL_BEFORE)
        case "up" | "down":
            kept_before = _UP_KEPT_BEFORE if word == "up" else _DOWN_KEPT_BEFORE
            phrasal = _PHRASAL_BEFORE_UP_DOWN.fullmatch(before) is not None
            return not phrasal and (travels or after not in kept_before)
        case "top":
            return after not in _TOP_KEPT_BEFORE and before not in _TOP_KEPT_AFTER
        case "above":
            return after not in _ABOVE_KEPT_BEFORE
        case "lower":
            return after not in _LOWER_KEPT_BEFORE
        case _:
            return True


def _quoted(word: str, before: str, after: str) -> str:
    return f"{word} {after}" if after else f"{before} {word}".strip()


def _in_case_of(model: str, word: str) -> str:
    if model.isupper():
        return word.upper()
    return word.capitalize() if model[:1].isupper() else word
