"""The prompts that a caption turns into while it trains: without its trigger, or dropped."""

import re
from typing import Literal


def class_prompt(caption: str, trigger: str, class_word: str) -> str:
    """The caption with the class word in the trigger's place: what the base should go on making of it.

    Args:
        caption: Final prompt text.
        trigger: Replaced wherever it stands as a word of its own, in exactly this case; without one
            the caption stays as it is.
        class_word: E.g. "person"; empty takes the trigger out, with the comma that it leaves behind.

    Returns:
        Text with single spaces.
    """
    word, stand_in = trigger.strip(), class_word.strip()
    if word and stand_in:
        caption = _as_word(word).sub(lambda _: stand_in, caption)
    elif word:
        caption = re.sub(r"^[\s,.;:]+|\s+(?=[,.;:])", "", _as_word(word).sub("", caption))
    return " ".join(caption.split())


def is_no_op(caption: str, trigger: str) -> bool:
    """Whether the class word would replace nothing.

    Output preservation on such a caption holds the LoRA to the base on the very prompt that it is to
    learn: it works against the training.
    """
    word = trigger.strip()
    return not word or _as_word(word).search(caption) is None


def dropped_prompt(trigger: str, to: Literal["empty", "trigger"]) -> str:
    """What a dropped caption becomes: truly empty, or the trigger word alone."""
    return " ".join(trigger.split()) if to == "trigger" else ""


def _as_word(word: str) -> re.Pattern[str]:
    # Only Latin letters and digits bound words: other scripts write without spaces.
    return re.compile(rf"(?<![A-Za-z0-9_]){re.escape(word)}(?![A-Za-z0-9_])")
