"""What is worth saying about a caption, by what the LoRA is to learn."""

import re
from dataclasses import dataclass
from enum import StrEnum

from wan_studio.domain.caption import TRIGGER_PLACEHOLDER, names
from wan_studio.domain.direction_words import Flip, mirrored_caption, names_a_direction
from wan_studio.domain.project import Goal, Project

TOKEN_LIMIT = 512
"""Tokens of a prompt that the text encoder reads; what follows is cut off."""


class Verdict(StrEnum):
    """As it should be; worth knowing; worth a look."""

    GOOD = "good"
    NOTE = "note"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the lint.

    Attributes:
        name: Stable, for searching: "motion", "trigger", "class", "style", "flip", "preservation", "length",
            "caption".
        text: A few words.
        detail: One sentence more; may be empty.
    """

    name: str
    verdict: Verdict
    text: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LintContext:
    """What a caption is judged by: the goal, and the settings that work on captions.

    Attributes:
        flips: Mirrored copies that train besides the clip.
        preserves: Whether output preservation works by the class word.
        class_word: Stands in the trigger's place there.
    """

    goal: Goal
    trigger: str
    default_caption: str = ""
    flips: tuple[Flip, ...] = ()
    preserves: bool = False
    class_word: str = ""


_MOTION_STEMS = (
    "orbit pan tilt dolli dolly zoom truck track crane rotat turn spin mov walk run jump danc fly flie fall ris "
    "swing swipe swip wav shak nod slid glid drift float sway circl swirl roll driv ride rid swim climb crawl explod "
    "melt grow shrink open clos lift lower rais throw catch kick punch hit point reach lean bend bow stretch "
    "twist flip bounc flow pour splash blow flap flutter blink smil laugh speak talk sing clap gestur pinch snap "
    "grab grip drop squeez morph transform appear vanish fad approach arriv leaving enter exit follow chas breath "
    "peel hop peck preen sign stir shift travel sweep arc revolv"
).replace(" ", "|")
_MOTION = re.compile(
    rf"\b(?:(?:{_MOTION_STEMS})"
    r"(?:e|s|es|ed|d|y|n|ing|ning|ned|ping|ped|ting|ted|ging|ming|bing|ation|ion|ment)?"
    r"|push(?:es|ing)? in|pull(?:s|ing)? (?:out|back)|look(?:s|ing)? (?:up|down|left|right|around|back)|handheld"
    r"|ran|flew|fell|rose|swam|flown|time-?lapse|slow motion|motion|movement)\b",
    re.IGNORECASE,
)
_STILL = re.compile(
    r"\b(?:still|static|motionless|nothing moves|does not move|locked[- ]off)\b", re.IGNORECASE
)
_CJK_MOTION = re.compile("[回動転走歩振飛跳揺流落开開转动移拉推摇飘旋]")
_CLASSES = re.compile(
    r"\b(?:person|people|man|men|woman|women|girl|boy|child|kid|baby|lady|guy|figure|character|hero|heroine|"
    r"knight|robot|creature|monster|animal|dog|cat|bird|horse|rabbit|bear|fox|dragon|doll|puppet|toy|car|"
    r"soldier|dancer|warrior|witch|princess|prince|king|queen|elf|cockatoo|parrot)s?\b|[人男女猫犬鸟鳥]",
    re.IGNORECASE,
)
_STYLE = re.compile(
    r"\b(?:in the style of|\w+ style|\w+-style|styled|aesthetic|painterly|watercolou?r|oil painting|anime|"
    r"cartoon|pixel art|claymation|stop[- ]motion|cinematic|film grain|vhs|retro look|cel[- ]shaded)\b",
    re.IGNORECASE,
)


def lint_context(project: Project, dataset: str) -> LintContext:
    """What captions of a data set are judged by; empty names the main one."""
    settings, training = project.dataset_settings(dataset), project.settings.training
    flips: list[Flip] = []
    if settings.flip_horizontal:
        flips.append("horizontal")
    if settings.flip_vertical:
        flips.append("vertical")
    return LintContext(
        goal=project.goal,
        trigger=project.dataset_trigger(dataset),
        default_caption=settings.default_caption,
        flips=tuple(flips),
        preserves=training.diff_output_preservation and not training.preservation_prompt,
        class_word=training.diff_output_preservation_class,
    )


def lint(caption: str, context: LintContext, tokens: int = 0) -> tuple[Finding, ...]:
    """Everything worth saying about a caption, in a fixed order.

    Args:
        caption: As it stands in its file.
        context: What it is judged by.
        tokens: Of what it trains as; 0 while unknown.
    """
    text = caption.strip() or context.default_caption.strip()
    if not text:
        return (
            Finding("caption", Verdict.WARNING, "No caption", "The model is not told what the clip shows."),
        )
    found: list[Finding] = []
    if not caption.strip():
        found.append(Finding("caption", Verdict.NOTE, "The default caption is used"))
    if context.goal == "motion":
        found.append(_motion(text))
    if context.goal == "style":
        found.append(_style(text))
    found += _trigger(text, context)
    if context.goal == "character":
        found.append(_class(text, context))
    found += _flips(text, context)
    found += _preservation(context)
    if tokens > TOKEN_LIMIT:
        found.append(
            Finding(
                "length",
                Verdict.WARNING,
                "Too long",
                f"Only the first {TOKEN_LIMIT} tokens are read; the end is cut off.",
            )
        )
    return tuple(found)


def needs_attention(findings: tuple[Finding, ...]) -> bool:
    """Whether one of them is worth a look."""
    return any(finding.verdict is Verdict.WARNING for finding in findings)


def _motion(text: str) -> Finding:
    if _MOTION.search(text) or _CJK_MOTION.search(text):
        return Finding("motion", Verdict.GOOD, "Names the motion")
    if _STILL.search(text):
        return Finding("motion", Verdict.NOTE, "Says that nothing moves")
    detail = "A motion LoRA learns the move that the caption names: say what moves, and how."
    return Finding("motion", Verdict.WARNING, "No motion named", detail)


def _style(text: str) -> Finding:
    named = _STYLE.search(text)
    if named is None:
        return Finding("style", Verdict.GOOD, "Leaves the style to the LoRA")
    detail = f'"{named.group()}" tells the look: the model then learns less of it. Say only what is seen.'
    return Finding("style", Verdict.WARNING, "Describes the style", detail)


def _trigger(text: str, context: LintContext) -> list[Finding]:
    if not context.trigger:
        if TRIGGER_PLACEHOLDER in text:
            detail = "The project has no trigger word; [trigger] is left out. Set one on the Goal page."
            return [Finding("trigger", Verdict.WARNING, "No trigger word is set", detail)]
        return []
    if TRIGGER_PLACEHOLDER in text or names(text, context.trigger):
        return [Finding("trigger", Verdict.GOOD, "Trigger is there")]
    verdict = Verdict.WARNING if context.goal == "character" else Verdict.NOTE
    detail = f'"{context.trigger}" is put before the caption when it trains.'
    return [Finding("trigger", verdict, "Trigger not named", detail)]


def _class(text: str, context: LintContext) -> Finding:
    rest = text.replace(TRIGGER_PLACEHOLDER, "")
    if _CLASSES.search(rest) or (context.class_word and names(rest, context.class_word)):
        return Finding("class", Verdict.GOOD, "Says what it is")
    detail = 'Say once what kind of being or thing the trigger is, such as "a woman" or "a robot".'
    return Finding("class", Verdict.WARNING, "Kind not named", detail)


def _flips(text: str, context: LintContext) -> list[Finding]:
    found: list[Finding] = []
    swapped: dict[str, None] = {}
    kept: dict[str, None] = {}
    for flip in context.flips:
        mirrored = mirrored_caption(text, flip, context.trigger)
        swapped |= dict.fromkeys(mirrored.swapped)
        kept |= dict.fromkeys(mirrored.kept)
    if kept:
        detail = (
            f"In mirrored copies these words stay as they are: {', '.join(kept)}. Reword, or train without."
        )
        found.append(Finding("flip", Verdict.WARNING, "A direction that cannot be turned", detail))
    elif swapped:
        detail = f"In mirrored copies these words are turned round: {', '.join(swapped)}."
        found.append(Finding("flip", Verdict.NOTE, "Directions are turned", detail))
    if any(names_a_direction(context.trigger, flip) for flip in context.flips):
        detail = f'"{context.trigger}" tells a direction and stays the same in mirrored copies.'
        found.append(Finding("flip", Verdict.WARNING, "Trigger tells a direction", detail))
    return found


def _preservation(context: LintContext) -> list[Finding]:
    # With a trigger word there is always one to replace: a caption that names none gets it put first.
    if not context.preserves or context.trigger:
        return []
    detail = "Output preservation replaces the trigger word by its class, and there is no trigger word."
    return [Finding("preservation", Verdict.WARNING, "Preservation does nothing", detail)]
