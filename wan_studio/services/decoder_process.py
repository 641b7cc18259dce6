"""The one process that decodes for the players: started when there is a wish, and again when a file brought it down."""

import atexit
import contextlib
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from queue import SimpleQueue

import msgspec

from wan_studio.domain.clip import SourceVideo
from wan_studio.services.media_worker import read_message, write_message
from wan_studio.services.player_messages import ChannelEnd, FrameWish, News, Order, RangeWish, SourceNews
from wan_studio.services.probe_cache import encoded_source

_ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "wan_studio.services.player_worker")

OnNews = Callable[[News], object]
OnCrash = Callable[[], object]


class DecoderProcess:
    """Channels to one decoding process, one for each player.

    Args:
        command: What to start; it speaks as `player_worker` does.
    """

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = list(command)
        self._lock = threading.Lock()
        self._orders: SimpleQueue[Order | None] = SimpleQueue()
        self._numbers = itertools.count(1)
        self._channels: dict[int, tuple[OnNews, OnCrash]] = {}
        self._sources: dict[tuple[str, int, int], int] = {}
        self._known: dict[int, SourceVideo] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._told: set[int] = set()
        self._writer: threading.Thread | None = None
        self._is_closed = False

    @property
    def pid(self) -> int | None:
        """Number of the running process."""
        process = self._process
        return None if process is None else process.pid

    def open_channel(self, on_news: OnNews, on_crash: OnCrash) -> int:
        """A new channel's number. Both are called on a thread of this object."""
        with self._lock:
            number = next(self._numbers)
            self._channels[number] = (on_news, on_crash)
        return number

    def close_channel(self, channel: int) -> None:
        """Hear nothing more of a channel."""
        with self._lock:
            known = self._channels.pop(channel, None)
        if known is not None and self._process is not None:
            self._orders.put(ChannelEnd(channel))

    def number_of(self, source: SourceVideo) -> int:
        """By what messages name a video."""
        key = (source.path, source.size_bytes, source.modified_ns)
        with self._lock:
            number = self._sources.get(key)
            if number is None:
                number = self._sources[key] = next(self._numbers)
                self._known[number] = source
        return number

    def send(self, order: FrameWish | RangeWish) -> None:
        """Ask for something; never waits."""
        self._orders.put(order)
        self._start_writer()

    def warm_up(self) -> None:
        """Start the process, so that the first wish does not wait for that."""
        self._orders.put(ChannelEnd(0))
        self._start_writer()

    def close(self) -> None:
        """End the process."""
        self._is_closed = True
        self._orders.put(None)
        process = self._process
        if process is not None:
            process.kill()
            process.wait()

    def _start_writer(self) -> None:
        with self._lock:
            if self._writer is None and not self._is_closed:
                self._writer = threading.Thread(target=self._write, daemon=True, name="decoder-out")
                self._writer.start()

    def _write(self) -> None:
        while (order := self._orders.get()) is not None and not self._is_closed:
            if isinstance(order, ChannelEnd) and order.channel and self._process is None:
                continue
            try:
                process = self._process or self._started()
                assert process.stdin is not None
                if isinstance(order, FrameWish | RangeWish):
                    self._tell_sources(process, order)
                write_message(process.stdin, order)  # type: ignore[arg-type]
            except OSError:
                # It has just died, which its reader notices, and tells.
                continue

    def _tell_sources(self, process: "subprocess.Popen[bytes]", order: FrameWish | RangeWish) -> None:
        proxy = order.proxy if isinstance(order, FrameWish) else 0
        for number in (order.source, proxy):
            if number and number not in self._told:
                self._told.add(number)
                news = SourceNews(number, encoded_source(self._known[number]))
                write_message(process.stdin, news)  # type: ignore[arg-type]

    def _started(self) -> "subprocess.Popen[bytes]":
        paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        self._told.clear()
        self._process = process
        threading.Thread(target=self._read, args=(process,), daemon=True, name="decoder-in").start()
        return process

    def _read(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        with contextlib.suppress(OSError, ValueError, msgspec.DecodeError):
            while data := read_message(process.stdout):  # type: ignore[arg-type]
                news = msgspec.msgpack.decode(data, type=News)
                known = self._channels.get(news.channel)
                if known is not None:
                    known[0](news)
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process = None
        if not self._is_closed:
            for _, on_crash in list(self._channels.values()):
                on_crash()


@cache
def decoder_process() -> DecoderProcess:
    """The one of this program."""
    made = DecoderProcess()
    atexit.register(made.close)
    return made
