"""A process that decodes for the window: a file that brings a decoder down takes this process alone.

Started by `media_pool` as `python -m wan_studio.services.media_worker`; reads requests from its standard
input and writes a reply to each. Ends when its input does.
"""

import contextlib
import os
import struct
import sys
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from wan_studio.domain.clip_look import ClipLook

_LENGTH = struct.Struct("<I")

Kind = Literal["probe", "poster", "look", "strip"]


class MediaRequest(msgspec.Struct, frozen=True):
    """What to find out about a file.

    Attributes:
        cache: Folder of what is known; posters lie in its `posters`, probes in its `probes`.
    """

    kind: Kind
    path: str
    cache: str


class MediaReply(msgspec.Struct, frozen=True):
    """What was found, or what is wrong.

    Attributes:
        source: Of a probe: the source as `probe_cache` encodes it.
        poster: Of a poster or a strip of pictures: its file.
        look: Of a look.
        problem: A sentence; empty when all is well.
        hint: What to do about it.
        is_missing: Whether the file is not there.
    """

    source: bytes = b""
    poster: str = ""
    look: ClipLook | None = None
    problem: str = ""
    hint: str = ""
    is_missing: bool = False


def write_message(stream: BinaryIO, message: msgspec.Struct) -> None:
    """Send a message, its length first.

    Raises:
        OSError: the other side has gone.
    """
    data = msgspec.msgpack.encode(message)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def read_message(stream: BinaryIO) -> bytes:
    """Receive a message's bytes; empty when the other side has gone."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return b""
    size = _LENGTH.unpack(head)[0]
    data = stream.read(size)
    return data if len(data) == size else b""


def answer(request: MediaRequest) -> MediaReply:
    """Find out what is asked; every failure is words."""
    from wan_studio.errors import AppError
    from wan_studio.services.clip_looks import look_at
    from wan_studio.services.media_probe import MEDIA_ERRORS, probe
    from wan_studio.services.probe_cache import ProbeCache, encoded_source
    from wan_studio.services.thumbnail_cache import PosterError, ThumbnailCache

    path, folder = Path(request.path), Path(request.cache)
    cache = ProbeCache(folder / "probes")
    try:
        source = cache.source(path, probe)
        match request.kind:
            case "probe":
                return MediaReply(source=encoded_source(source))
            case "poster":
                return MediaReply(poster=str(ThumbnailCache(folder / "posters").poster(source)))
            case "strip":
                return MediaReply(poster=str(ThumbnailCache(folder / "posters").strip(source)))
            case "look":
                # The file is open and warm: its poster costs little now, and is there when it is scrolled to.
                with contextlib.suppress(PosterError):
                    ThumbnailCache(folder / "posters").poster(source)
                return MediaReply(look=cache.look(source, look_at))
    except AppError as error:
        return MediaReply(problem=error.message, hint=error.hint, is_missing=not path.exists())
    except MEDIA_ERRORS as error:
        return MediaReply(problem=f"{path} cannot be read ({error}).", is_missing=not path.exists())


def main() -> None:
    """Answer until nobody asks any more."""
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What a library prints must not end up among the replies.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with contextlib.suppress(AttributeError, OSError):
        os.nice(5)
    with contextlib.suppress(OSError, KeyboardInterrupt):
        while data := read_message(requests):
            write_message(replies, answer(msgspec.msgpack.decode(data, type=MediaRequest)))


if __name__ == "__main__":
    main()
