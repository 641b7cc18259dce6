"""The process that decodes for the players: a file that brings a decoder down takes this process alone.

Started by `decoder_process` as `python -m wan_studio.services.player_worker`; ends when its input does.
"""

import contextlib
import os
import sys
from collections.abc import Callable
from threading import Lock

import msgspec

from wan_studio.domain.clip import SourceVideo
from wan_studio.services.media_worker import read_message, write_message
from wan_studio.services.player_channel import PlayerChannel
from wan_studio.services.player_messages import ChannelEnd, News, Order, SourceNews
from wan_studio.services.probe_cache import decoded_source


def main() -> None:
    """Serve until nobody asks any more."""
    orders, replies = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What a library prints must not end up among the replies.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    lock = Lock()

    def send(news: News) -> None:
        # When the window has gone, this process ends with its input.
        with lock, contextlib.suppress(OSError):
            write_message(replies, news)

    with contextlib.suppress(OSError, KeyboardInterrupt):
        _serve(lambda: read_message(orders), send)
    # The threads may be in the middle of a frame; nobody waits for it.
    os._exit(0)


def _serve(read: Callable[[], bytes], send: Callable[[News], object]) -> None:
    sources: dict[int, SourceVideo] = {}
    channels: dict[int, PlayerChannel] = {}
    while data := read():
        order = msgspec.msgpack.decode(data, type=Order)
        if isinstance(order, SourceNews):
            sources[order.source] = decoded_source(order.data)
        elif isinstance(order, ChannelEnd):
            ended = channels.pop(order.channel, None)
            if ended is not None:
                ended.end()
        else:
            if order.channel not in channels:
                channels[order.channel] = PlayerChannel(sources, send)
            channels[order.channel].order(order)


if __name__ == "__main__":
    main()
