"""The other side of `render_worker`: one process that writes clips, ended at once when that is wanted."""

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from wan_studio.domain.export_plan import ExportedClip
from wan_studio.services.export_errors import ClipNotWrittenError, ExportCancelledError, NoRoomError
from wan_studio.services.media_worker import read_message, write_message
from wan_studio.services.probe_cache import encoded_source
from wan_studio.services.render_worker import RenderReply, RenderRequest

COMMAND = (sys.executable, "-m", "wan_studio.services.render_worker")
_ROOT = Path(__file__).resolve().parents[2]
_SECONDS_ALLOWED = 120.0
"""Of silence: one frame takes a fraction of a second, finding the first one of a long video a few."""
_SECONDS_BETWEEN_LOOKS = 0.1


class RenderProcess:
    """Writes one clip after another; a context manager that ends the process.

    Args:
        command: What to start; it speaks as `render_worker` does.
        seconds_allowed: A process that says nothing for so long is ended.
    """

    def __init__(self, command: Sequence[str] = COMMAND, seconds_allowed: float = _SECONDS_ALLOWED) -> None:
        self._command = list(command)
        self._seconds_allowed = seconds_allowed
        self._process: subprocess.Popen[bytes] | None = None
        self._words: queue.Queue[bytes] = queue.Queue()

    def __enter__(self) -> "RenderProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def render(
        self,
        clip: ExportedClip,
        target: Path,
        on_frame: Callable[[int, int], object],
        is_cancelled: Callable[[], bool],
    ) -> None:
        """Write a clip into `target`; nothing stays there when it fails.

        Raises:
            ExportCancelledError: that was wished for.
            NoRoomError: the disk is full.
            ClipNotWrittenError: this clip cannot be written.
        """
        count = len(clip.recipe.frames)
        try:
            self._ask(RenderRequest(encoded_source(clip.source), clip.recipe, str(target)))
            while not (reply := self._next_word(clip, is_cancelled)).has_ended:
                on_frame(reply.done, count)
        except BaseException:
            self.close()
            target.unlink(missing_ok=True)
            raise
        if reply.lacks_room:
            raise NoRoomError(target.parent)
        if reply.problem:
            raise ClipNotWrittenError(reply.problem, reply.hint)

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    try:
                        pipe.close()
                    except OSError:
                        continue

    def _ask(self, request: RenderRequest) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            self.close()
            process = self._process = self._started()
            self._words = queue.Queue()
            threading.Thread(
                target=_listen, args=(process, self._words), daemon=True, name="render-words"
            ).start()
        assert process.stdin is not None
        try:
            write_message(process.stdin, request)  # type: ignore[arg-type]
        except OSError as error:
            raise ClipNotWrittenError(
                "The process that writes clips cannot be reached.", "Export again."
            ) from error

    def _next_word(self, clip: ExportedClip, is_cancelled: Callable[[], bool]) -> RenderReply:
        deadline = time.monotonic() + self._seconds_allowed
        while True:
            if is_cancelled():
                raise ExportCancelledError
            try:
                data = self._words.get(timeout=_SECONDS_BETWEEN_LOOKS)
            except queue.Empty:
                if time.monotonic() < deadline:
                    continue
                raise ClipNotWrittenError(
                    f"{clip.source.path} gave no frame for {self._seconds_allowed:.0f} s.",
                    "It may be damaged. Convert it to H.264 (MP4).",
                ) from None
            if not data:
                raise ClipNotWrittenError(
                    f"{clip.source.path} brought the decoder down.",
                    "It is damaged. Copy it again from its source, or convert it to H.264 (MP4).",
                )
            return msgspec.msgpack.decode(data, type=RenderReply)

    def _started(self) -> "subprocess.Popen[bytes]":
        paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
        # Apart from the terminal's Ctrl+C, which is this program's to answer; and below everything else.
        flags = 0
        for name in ("CREATE_NO_WINDOW", "CREATE_NEW_PROCESS_GROUP", "BELOW_NORMAL_PRIORITY_CLASS"):
            flags |= getattr(subprocess, name, 0)
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
            creationflags=flags,
            start_new_session=os.name != "nt",
        )


def _listen(process: "subprocess.Popen[bytes]", words: "queue.Queue[bytes]") -> None:
    """Pass on what the process says; an empty word when it has gone."""
    assert process.stdout is not None
    try:
        while data := read_message(process.stdout):  # type: ignore[arg-type]
            words.put(data)
    except (OSError, ValueError):
        # It was ended, and its pipe closed.
        pass
    words.put(b"")
