"""Captions and trigger words: how a `.txt` becomes the prompt that trains."""

TRIGGER_PLACEHOLDER = "[trigger]"


def trains_as(caption: str, trigger: str, default_caption: str = "") -> str:
    """The prompt that the model sees for a caption.

    An empty caption takes the default one. `[trigger]` becomes the trigger word; without a trigger
    word it is left out with its space. A trigger word that the caption does not name is put first.
    """
    text = caption.strip() or default_caption.strip()
    filled = text.replace(TRIGGER_PLACEHOLDER, trigger.strip())
    if trigger.strip() and trigger.strip() not in filled:
        filled = f"{trigger.strip()}, {filled}" if filled else trigger.strip()
    return " ".join(filled.split())
