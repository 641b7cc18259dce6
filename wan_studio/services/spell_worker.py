"""A process that holds one dictionary: spylls is pure Python, and would take the window's turns as a thread of it.

Started by `spell_process` as `python -m wan_studio.services.spell_worker LANGUAGE STEM`. Ends when its input does.
"""

import contextlib
import os
import sys
from pathlib import Path

import msgspec

from wan_studio.errors import AppError
from wan_studio.services.media_worker import read_message, write_message
from wan_studio.services.spell_dictionaries import SpellDictionary, Speller


class SpellRequest(msgspec.Struct, frozen=True):
    """Words to judge, or one to look for what it may mean.

    Attributes:
        is_suggestion: Whether what the one word may mean is wanted.
    """

    words: tuple[str, ...]
    is_suggestion: bool = False


class SpellReply(msgspec.Struct, frozen=True):
    """What the dictionary says.

    Attributes:
        right: Of each word whether it is right.
        words: What the word may mean, the likeliest first.
        problem: Why there is no dictionary; empty when all is well. The first reply says whether it was loaded.
        hint: What to do about it.
    """

    right: tuple[bool, ...] = ()
    words: tuple[str, ...] = ()
    problem: str = ""
    hint: str = ""


def main() -> None:
    """Load the dictionary, say whether that went well, and answer until nobody asks any more."""
    language, stem = sys.argv[1:]
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What a library prints must not end up among the replies.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with contextlib.suppress(AttributeError, OSError):
        os.nice(5)
    with contextlib.suppress(OSError, KeyboardInterrupt):
        try:
            speller = Speller(SpellDictionary(language, Path(stem)))
        except AppError as error:
            write_message(replies, SpellReply(problem=error.message, hint=error.hint))
            return
        write_message(replies, SpellReply())
        while data := read_message(requests):
            write_message(replies, _answer(speller, msgspec.msgpack.decode(data, type=SpellRequest)))


def _answer(speller: Speller, request: SpellRequest) -> SpellReply:
    if request.is_suggestion:
        return SpellReply(words=tuple(speller.suggest(request.words[0])))
    return SpellReply(right=tuple(speller.is_right(word) for word in request.words))


if __name__ == "__main__":
    main()
