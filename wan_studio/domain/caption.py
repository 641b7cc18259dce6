"""Captions and trigger words: how a `.txt` becomes the prompt that trains."""

import re

TRIGGER_PLACEHOLDER = "[trigger]"


def trains_as(caption: str, trigger: str, default_caption: str = "") -> str:
    """The prompt that the model sees for a caption.

    An empty caption takes the default one. `[trigger]` becomes the trigger word; without a trigger
    word it is left out with its space. A trigger word that the caption does not name is put first.
    """
    text = caption.strip() or default_caption.strip()
    word = trigger.strip()
    if not word:
        # "[trigger], walking" and "a photo of [trigger], walking" must not keep a lonely comma.
        text = re.sub(r"^\[trigger\][\s,.;:]*|\s*\[trigger\]", "", text)
        return " ".join(text.split())
    filled = text.replace(TRIGGER_PLACEHOLDER, word)
    if not names(filled, word):
        filled = f"{word}, {filled}" if filled else word
    return " ".join(filled.split())


def with_trigger(prompt: str, trigger: str) -> str:
    """A prompt in which `[trigger]` is the trigger word; one that does not name it stays without."""
    word = trigger.strip()
    return trains_as(prompt.replace(TRIGGER_PLACEHOLDER, word) if word else prompt, "")


def names(caption: str, trigger: str) -> bool:
    """Whether the caption holds the trigger as a word of its own: "cat" is not in "concatenate".

    Only Latin letters and digits bound words: other scripts write without spaces.
    """
    return re.search(rf"(?<![A-Za-z0-9_]){re.escape(trigger)}(?![A-Za-z0-9_])", caption) is not None
