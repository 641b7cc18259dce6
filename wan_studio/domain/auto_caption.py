"""Automatic captions: what a vision-language model is told, which frames it sees, and what becomes of its words."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta, Struct

from trainer.protocol.job import NonNegative, Positive
from wan_studio.domain.caption import TRIGGER_PLACEHOLDER, names
from wan_studio.domain.project import Goal

Memory = Literal["none", "int8", "nf4"]
_FROM_BEST: tuple[Memory, ...] = ("none", "int8", "nf4")


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that is worth recommending.

    Attributes:
        name: Its repository on the Hugging Face Hub.
        weight_gib: What its weights take in 16, 8 and 4 bits; printed by `tests/benchmarks/caption_models.py`.
    """

    name: str
    weight_gib: dict[Memory, float]

    def needed_gib(self, memory: Memory) -> float:
        """Memory that should be free for it, with room for the frames and the libraries."""
        return self.weight_gib[memory] + 1.5


KNOWN_MODELS = (
    KnownModel("Qwen/Qwen2.5-VL-7B-Instruct", {"none": 15.4, "int8": 9.4, "nf4": 6.5}),
    KnownModel("Qwen/Qwen2.5-VL-3B-Instruct", {"none": 7.0, "int8": 4.4, "nf4": 3.2}),
    KnownModel("Qwen/Qwen3-VL-8B-Instruct", {"none": 16.3, "int8": 9.9, "nf4": 6.8}),
    KnownModel("Qwen/Qwen3-VL-4B-Instruct", {"none": 8.3, "int8": 4.9, "nf4": 3.3}),
    KnownModel("Qwen/Qwen3-VL-2B-Instruct", {"none": 4.0, "int8": 2.7, "nf4": 2.0}),
)


def known_model(name: str) -> KnownModel | None:
    """The recommended model of this name; None for any other."""
    return next((model for model in KNOWN_MODELS if model.name == name), None)


class CaptionOptions(Struct, frozen=True, kw_only=True):
    """What the user chose; remembered by the app, not by the project.

    Attributes:
        model: A folder, or a repository of the Hub.
        instructions: The user's own, by goal; a goal without takes the suggested ones.
        frames: Most frames of a clip that the model sees.
        frame_side: A frame has at most the pixels of a square of this side.
        max_new_tokens: Where a caption is cut off at the latest.
        temperature: 0 always takes the likeliest word.
        memory: How the language model's weights are stored.
        gpu: Number of the GPU; None is the CPU.
    """

    model: str = KNOWN_MODELS[0].name
    instructions: dict[str, str] = {}
    frames: Annotated[int, Meta(ge=1, le=81)] = 12
    frame_side: Annotated[int, Meta(ge=112, le=1280)] = 448
    max_new_tokens: Positive = 200
    temperature: Annotated[float, Meta(ge=0.0, le=2.0)] = 0.0
    memory: Memory = "none"
    gpu: NonNegative | None = 0


class Proposal(Struct, frozen=True, kw_only=True):
    """What a model proposes for one clip, and what the user did with it.

    Attributes:
        key: What it depends on: with another one it is to be made anew.
        text: As it would be written; the user may have edited it.
        is_whole: Whether the model came to an end by itself.
        state: Waiting for the user, or settled.
        problem: Why there is none, a sentence; empty where there is one.
    """

    key: str
    text: str = ""
    is_whole: bool = True
    state: Literal["waiting", "accepted", "skipped"] = "waiting"
    problem: str = ""

    @property
    def is_waiting(self) -> bool:
        """Whether there is something to decide."""
        return self.state == "waiting"


_SHAPE = (
    "Write one caption for this video clip, in plain English prose of two to four sentences, as one paragraph. "
    "Describe only what is seen, in the present tense. Do not begin with words such as "
    '"The video shows", do not speak of frames, and do not guess at names, sounds or intentions.'
)
_TOLD: dict[Goal, str] = {
    "motion": (
        "First say what moves and how: the movement's kind, direction, speed and course from beginning to end, and "
        "what the camera does. Then say briefly who or what is seen, and where."
    ),
    "style": (
        "Say who or what is seen, what happens, and where. Leave out everything about the look: no words on the "
        "style, the medium, the technique, the colours, the lighting or the mood."
    ),
    "character": (
        "Say what the main character does and how it moves, what it wears and holds, from where it is seen, and "
        "where it is. Leave out what always belongs to it: face, hair, eyes, age, build and skin."
    ),
}
_NAMED: dict[Goal, str] = {
    "motion": "",
    "style": "",
    "character": "Call the main character [trigger], and say once what kind of being it is, such as a woman or "
    "a robot.",
}


def suggested_instructions(goal: Goal, *, has_trigger: bool) -> str:
    """What a model is told for a goal; `[trigger]` in it stands for the trigger word."""
    named = _NAMED[goal] if has_trigger else ""
    return "\n\n".join(part for part in (_SHAPE, _TOLD[goal], named) if part)


def instructions_of(options: CaptionOptions, goal: Goal, trigger: str) -> str:
    """The instructions for clips of this trigger word, the word filled in."""
    own = options.instructions.get(goal, "").strip()
    text = own or suggested_instructions(goal, has_trigger=bool(trigger))
    return text.replace(TRIGGER_PLACEHOLDER, trigger or "it")


def chosen_frames(count: int, most: int) -> tuple[int, ...]:
    """Which of so many frames are shown: evenly spaced, the first and the last among them."""
    if count <= most:
        return tuple(range(count))
    if most == 1:
        return (0,)
    return tuple(round(place * (count - 1) / (most - 1)) for place in range(most))


_OPENINGS = re.compile(
    r"^(?:caption\s*:\s*)?(?:(?:the|this) (?:video|clip|video clip|scene|footage) "
    r"(?:shows|depicts|features|captures|begins with|opens with)\s+)?",
    re.IGNORECASE,
)


def tidied(text: str, trigger: str, *, is_whole: bool = True) -> str:
    """A model's words as a caption: one paragraph, no set phrase before it, the trigger as `[trigger]`.

    Args:
        text: As the model wrote it.
        trigger: Of the clip's data set; a caption that does not name it begins with it. Empty for none.
        is_whole: Whether it came to an end by itself; else a last sentence that was cut off goes.
    """
    plain = "".join(letter if letter.isprintable() else " " for letter in text.replace("\ufffd", ""))
    plain = " ".join(plain.replace("**", "").split()).strip("\"'“”` ")
    plain = _OPENINGS.sub("", plain)
    plain = plain[:1].upper() + plain[1:]
    if not is_whole:
        ends = [found.end() for found in re.finditer(r"[.!?。！？](?=\s|$)", plain)]
        plain = plain[: ends[-1]] if ends else plain
    word = trigger.strip()
    if not word or not plain:
        return plain
    named = re.sub(
        rf"(?<![A-Za-z0-9_]){re.escape(word)}(?![A-Za-z0-9_])",
        TRIGGER_PLACEHOLDER,
        plain,
        flags=re.IGNORECASE,
    )
    if TRIGGER_PLACEHOLDER in named or names(named, word):
        return named
    # "[trigger], a woman walks": what follows is no beginning any more, unless it is a name or an "I".
    first = re.match(r"(?:A|An|The|In|On|At|With|From|Two|Three|Several|Some|Under|Inside)\b", named)
    return f"{TRIGGER_PLACEHOLDER}, {named[0].lower() + named[1:] if first else named}"


def fitting_options(free_gib: float | None) -> CaptionOptions:
    """What to begin with on this machine: the best model that fits, in as many bits as fit.

    Args:
        free_gib: Free memory of the GPU; None without one.
    """
    if free_gib is None:
        return CaptionOptions(model=KNOWN_MODELS[-1].name, gpu=None)
    fits: Iterator[tuple[KnownModel, Memory]] = (
        (model, memory)
        for model in (*KNOWN_MODELS[:2], KNOWN_MODELS[-1])
        for memory in _FROM_BEST
        if model.needed_gib(memory) <= free_gib
    )
    model, memory = next(fits, (KNOWN_MODELS[-1], _FROM_BEST[-1]))
    return CaptionOptions(model=model.name, memory=memory)
