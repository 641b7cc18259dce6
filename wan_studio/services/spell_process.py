"""A dictionary in a process of its own, asked from any thread."""

import atexit
import contextlib
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import msgspec

from wan_studio.errors import AppError
from wan_studio.services.media_worker import read_message, write_message
from wan_studio.services.spell_dictionaries import SpellDictionary
from wan_studio.services.spell_worker import SpellReply, SpellRequest

_ROOT = Path(__file__).resolve().parents[2]


class SpellProcess:
    """One loaded dictionary; who asks waits, so ask on a thread of the pool.

    Args:
        dictionary: Is loaded at once, which takes about a second.

    Raises:
        AppError: it cannot be read, or the process cannot be started.
    """

    def __init__(self, dictionary: SpellDictionary) -> None:
        self.language = dictionary.language
        self._lock = threading.Lock()
        paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
        command = [
            sys.executable,
            "-m",
            "wan_studio.services.spell_worker",
            self.language,
            str(dictionary.stem),
        ]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            raise AppError(f"The spell check cannot be started ({error.strerror or error}).") from error
        _running.add(self)
        first = self._read()
        if first.problem:
            self.close()
            raise AppError(first.problem, first.hint)

    def judge(self, words: list[str]) -> dict[str, bool]:
        """Whether each of the words is right; none is judged when the process has ended."""
        reply = self._ask(SpellRequest(tuple(words)))
        return dict(zip(words, reply.right, strict=False))

    def suggest(self, word: str) -> list[str]:
        """Words that may be meant, the likeliest first; takes some tenths of a second."""
        return list(self._ask(SpellRequest((word,), is_suggestion=True)).words)

    def close(self) -> None:
        """End the process."""
        _running.discard(self)
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _ask(self, request: SpellRequest) -> SpellReply:
        with self._lock:
            try:
                assert self._process.stdin is not None
                write_message(self._process.stdin, request)  # type: ignore[arg-type]
            except (OSError, ValueError):
                return SpellReply()
            return self._read()

    def _read(self) -> SpellReply:
        try:
            assert self._process.stdout is not None
            data = read_message(self._process.stdout)  # type: ignore[arg-type]
            return msgspec.msgpack.decode(data, type=SpellReply) if data else _ENDED
        except (OSError, ValueError, msgspec.DecodeError):
            return _ENDED


_ENDED = SpellReply(
    problem="The spell check has ended unexpectedly.", hint="Switch it on again in the caption's menu."
)
_running: "weakref.WeakSet[SpellProcess]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for process in list(_running):
        process.close()
