"""A process that writes exported clips: a file that brings a decoder down takes this process alone.

Started by `render_process` as `python -m wan_studio.services.render_worker`; it reads requests from its
standard input and answers each with its progress and at last with an end. Ends when its input does.
"""

import contextlib
import os
import sys
import time
from pathlib import Path

import msgspec

from wan_studio.domain.export_plan import Recipe
from wan_studio.services.media_worker import read_message, write_message

_SECONDS_BETWEEN_WORDS = 0.2


class RenderRequest(msgspec.Struct, frozen=True):
    """What to write.

    Attributes:
        source: As `probe_cache` encodes it.
        target: The file.
    """

    source: bytes
    recipe: Recipe
    target: str


class RenderReply(msgspec.Struct, frozen=True):
    """How far it is, or how it ended.

    Attributes:
        done: Frames written.
        has_ended: Whether this is the last word on the request.
        problem: A sentence; empty when all is well.
        hint: What to do about it.
        lacks_room: Whether the disk is full.
    """

    done: int = 0
    has_ended: bool = False
    problem: str = ""
    hint: str = ""
    lacks_room: bool = False


def main() -> None:
    """Write clips until nobody asks any more."""
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What a library prints must not end up among the replies.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with contextlib.suppress(AttributeError, OSError):
        os.nice(10)
    from wan_studio.errors import AppError
    from wan_studio.services.clip_renderer import render
    from wan_studio.services.export_errors import NoRoomError
    from wan_studio.services.probe_cache import decoded_source

    told = 0.0

    def on_frame(done: int, count: int) -> None:
        nonlocal told
        del count
        if time.monotonic() - told > _SECONDS_BETWEEN_WORDS:
            told = time.monotonic()
            write_message(replies, RenderReply(done))

    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        while data := read_message(requests):
            request = msgspec.msgpack.decode(data, type=RenderRequest)
            try:
                render(decoded_source(request.source), request.recipe, Path(request.target), on_frame)
            except AppError as error:
                is_full = isinstance(error, NoRoomError)
                end = RenderReply(0, True, error.message, error.hint, is_full)  # noqa: FBT003
            else:
                end = RenderReply(len(request.recipe.frames), has_ended=True)
            write_message(replies, end)


if __name__ == "__main__":
    main()
