"""Worker processes that decode, and the queue before them: urgent files first, crashes contained."""

import atexit
import heapq
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import msgspec

from wan_studio.services.media_worker import MediaReply, MediaRequest, read_message, write_message

VISIBLE, USUAL, IDLE = 0, 1, 2
"""Priorities: what is on the screen, what is wanted next, what may wait for everything else."""

_SECONDS_ALLOWED = 60.0
_SECONDS_IDLE = 30.0
_ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "wan_studio.services.media_worker")

OnReply = Callable[[MediaReply], object]


@dataclass(slots=True)
class MediaJob:
    """One request on its way.

    Attributes:
        on_reply: Called with the reply, on a thread of the pool; never after it was cancelled.
    """

    request: MediaRequest
    on_reply: OnReply
    priority: int = USUAL
    is_cancelled: bool = False
    is_taken: bool = False


@dataclass(slots=True)
class _Worker:
    """One process, and since when it is at its present request."""

    process: "subprocess.Popen[bytes] | None" = None
    began: float = 0.0
    is_late: bool = field(default=False)


class MediaPool:
    """A few processes, started when there is work and ended when there is none for a while.

    Args:
        count: Processes at most.
        command: What to start; it speaks as `media_worker` does.
        seconds_allowed: A request that takes longer is ended with its process.
    """

    def __init__(
        self, count: int, command: Sequence[str] = COMMAND, seconds_allowed: float = _SECONDS_ALLOWED
    ) -> None:
        self._command = list(command)
        self._seconds_allowed = seconds_allowed
        self._ready = threading.Condition()
        self._heap: list[tuple[int, int, MediaJob]] = []
        self._numbers = itertools.count()
        self._workers = [_Worker() for _ in range(count)]
        self._limit = count
        self._threads: list[threading.Thread] = []
        self._is_closed = False

    def submit(self, request: MediaRequest, on_reply: OnReply, priority: int = USUAL) -> MediaJob:
        """Put a request into the queue."""
        job = MediaJob(request, on_reply, priority)
        with self._ready:
            self._push(job)
            self._start_threads()
            # One is woken, but it may be one that is to stand back.
            self._ready.notify(1 if self._limit == len(self._workers) else len(self._workers))
        return job

    def promote(self, jobs: Collection[MediaJob], priority: int = VISIBLE) -> None:
        """Let these go before others."""
        with self._ready:
            for job in jobs:
                if not job.is_taken and priority < job.priority:
                    job.priority = priority
                    self._push(job)

    def cancel(self, jobs: Collection[MediaJob]) -> None:
        """Forget these; what is being worked on is worked on to its end, unheard."""
        with self._ready:
            for job in jobs:
                job.is_cancelled = True

    def limit(self, count: int | None) -> None:
        """Use so many processes at most from the next request on; None for as many as there are."""
        with self._ready:
            self._limit = len(self._workers) if count is None else max(1, count)
            self._ready.notify_all()

    def close(self) -> None:
        """End every process."""
        with self._ready:
            self._is_closed = True
            self._heap.clear()
            self._ready.notify_all()
        for worker in self._workers:
            _end(worker)

    def _push(self, job: MediaJob) -> None:
        """Of what is on the screen the latest first: who scrolls on no longer waits for what went by."""
        number = next(self._numbers)
        heapq.heappush(self._heap, (job.priority, -number if job.priority == VISIBLE else number, job))

    def _start_threads(self) -> None:
        if self._threads or self._is_closed:
            return
        self._threads = [
            threading.Thread(target=self._serve, args=(worker,), daemon=True, name="media")
            for worker in self._workers
        ]
        self._threads.append(threading.Thread(target=self._watch, daemon=True, name="media-watch"))
        for thread in self._threads:
            thread.start()

    def _take(self, worker: _Worker) -> MediaJob | None:
        """The next job; waits for one, and lets the process go when none comes."""
        with self._ready:
            number = next(at for at, one in enumerate(self._workers) if one is worker)
            while not self._is_closed:
                while self._heap and number < self._limit:
                    priority, _, job = heapq.heappop(self._heap)
                    if job.is_cancelled or job.is_taken or priority != job.priority:
                        continue
                    job.is_taken = True
                    return job
                if not self._ready.wait(_SECONDS_IDLE) and (not self._heap or number >= self._limit):
                    _end(worker)
        return None

    def _serve(self, worker: _Worker) -> None:
        while (job := self._take(worker)) is not None:
            reply = self._asked(worker, job.request)
            if not job.is_cancelled and not self._is_closed:
                job.on_reply(reply)

    def _asked(self, worker: _Worker, request: MediaRequest) -> MediaReply:
        try:
            process = worker.process or self._started()
            worker.process = process
            assert process.stdin is not None
            assert process.stdout is not None
            worker.is_late, worker.began = False, time.monotonic()
            write_message(process.stdin, request)  # type: ignore[arg-type]
            data = read_message(process.stdout)  # type: ignore[arg-type]
            worker.began = 0.0
            if data:
                return msgspec.msgpack.decode(data, type=MediaReply)
        except (OSError, msgspec.DecodeError):
            data = b""
        worker.began = 0.0
        _end(worker)
        if worker.is_late:
            return MediaReply(
                problem=f"{request.path} took longer than {self._seconds_allowed:.0f} s to look at.",
                hint="It may be damaged or very large. Convert it to H.264 (MP4).",
            )
        return MediaReply(
            problem=f"{request.path} brought the decoder down.",
            hint="It is damaged. Copy it again from its source, or convert it to H.264 (MP4).",
        )

    def _started(self) -> "subprocess.Popen[bytes]":
        paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        }
        flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            creationflags=flags,
        )

    def _watch(self) -> None:
        """End processes that take too long."""
        while not self._is_closed:
            time.sleep(min(0.5, self._seconds_allowed / 4))
            now = time.monotonic()
            for worker in self._workers:
                process = worker.process
                if worker.began and now - worker.began > self._seconds_allowed and process is not None:
                    worker.is_late = True
                    process.kill()


def _end(worker: _Worker) -> None:
    process, worker.process = worker.process, None
    if process is not None:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue


@cache
def media_pool() -> MediaPool:
    """The one pool of this program, with a process for every second core, two at least and eight at most."""
    pool = MediaPool(min(8, max(2, (os.cpu_count() or 2) // 2)))
    atexit.register(pool.close)
    return pool
