"""The run folder: every file through which the app and the trainer talk.

The same files serve the live screen, the finished run and a run copied from another machine.
"""

import os
import time
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from trainer.protocol.commands import Command, decode_command
from trainer.protocol.events import Event, PhaseProgress, StepDone, UnknownEvent, Unpaused, decode_event
from trainer.protocol.job import PROTOCOL_VERSION, Expert, JobSpec
from trainer.protocol.memory_settings import MemorySettingError, with_memory
from trainer.protocol.wire import WireError, lacks_room, read_json, to_json, write_atomic, write_json

if os.name == "nt":  # pragma: no cover - Windows
    import msvcrt
else:
    import fcntl


PIN_NAME = "pinned"
"""An empty file of this name in a checkpoint's folder keeps the checkpoint for ever."""

RESERVE_BYTES = 256 * 1024
LOG_TAIL_BYTES = 64_000
MOST_ROUTINE_UNSAID = 10_000


class RunLockedError(Exception):
    """Another trainer holds the run folder."""


class RunFolder:
    """Names and access for one run's files; makes nothing until asked to write."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def job_file(self) -> Path:
        return self.path / "job.json"

    @property
    def memory_file(self) -> Path:
        """Settings of memory that the run goes on with, beside the job that it began with."""
        return self.path / "memory.json"

    @property
    def events_file(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def log_file(self) -> Path:
        return self.path / "trainer.log"

    @property
    def lock_file(self) -> Path:
        return self.path / "lock"

    @property
    def commands_folder(self) -> Path:
        return self.path / "commands"

    @property
    def checkpoints_folder(self) -> Path:
        return self.path / "checkpoints"

    @property
    def previews_folder(self) -> Path:
        return self.path / "previews"

    @property
    def exports_folder(self) -> Path:
        return self.path / "exports"

    def checkpoint(self, step: int) -> Path:
        """Folder of the checkpoint after `step` optimizer steps."""
        return self.checkpoints_folder / step_name(step)

    def previews(self, step: int) -> Path:
        """Folder of the previews after `step` optimizer steps."""
        return self.previews_folder / step_name(step)

    def checkpoint_steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending (a checkpoint appears by rename)."""
        return _steps_in(self.checkpoints_folder)

    def pin(self, step: int) -> None:
        """Keep this checkpoint for ever: no pruning removes it.

        Raises:
            OSError: there is no such checkpoint, or its folder cannot be written.
        """
        (self.checkpoint(step) / PIN_NAME).touch()

    def unpin(self, step: int) -> None:
        """Let this checkpoint be pruned again; one that was not pinned stays as it is."""
        (self.checkpoint(step) / PIN_NAME).unlink(missing_ok=True)

    def is_pinned(self, step: int) -> bool:
        """Whether this checkpoint is kept for ever."""
        return (self.checkpoint(step) / PIN_NAME).exists()

    def preview_steps(self) -> list[int]:
        """Steps that have previews, ascending."""
        return _steps_in(self.previews_folder)

    def create(self, job: JobSpec) -> None:
        """Make the folder and write the job, once.

        Raises:
            FileExistsError: there is a job already; a run's job never changes.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if self.job_file.exists():
            raise FileExistsError(self.job_file)
        self.commands_folder.mkdir(exist_ok=True)
        write_json(self.job_file, job)

    def read_job(self) -> JobSpec:
        """The run's job, with the settings of memory that it goes on with.

        Raises:
            WireError: a file is missing, wrong, or of another version's protocol.
        """
        job = read_job_file(self.job_file)
        if not self.memory_file.exists():
            return job
        try:
            return with_memory(job, read_json(self.memory_file, dict[str, str]))
        except (MemorySettingError, AttributeError) as error:
            raise WireError(self.memory_file, str(error)) from error

    def change_memory(self, settings: dict[str, str]) -> None:
        """Let the run go on with these settings of memory, on top of those changed before.

        Raises:
            WireError: there is no run, or a file of it is wrong.
            MemorySettingError: a value is not one that the setting can take; nothing is changed.
            OSError: the folder cannot be written.
        """
        before = read_json(self.memory_file, dict[str, str]) if self.memory_file.exists() else {}
        changed = {**before, **settings}
        with_memory(read_job_file(self.job_file), changed)
        write_json(self.memory_file, changed)

    def log_tail(self, lines: int = 30) -> str:
        """The last lines of the process's own output."""
        try:
            with self.log_file.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_TAIL_BYTES))
                content = file.read()
        except OSError:
            return ""
        return "\n".join(content.decode("utf-8", "replace").splitlines()[-lines:])

    # Commands: written by the app, taken by the trainer.

    def send(self, command: Command) -> str:
        """Leave a command for the trainer; returns its id, which the answering event carries."""
        self.commands_folder.mkdir(parents=True, exist_ok=True)
        moment_ns = time.time_ns()
        # A coarse clock (Windows) gives two commands the same moment.
        while (self.commands_folder / f"{moment_ns:020d}.json").exists():
            moment_ns += 1
        command_id = f"{moment_ns:020d}"
        write_atomic(self.commands_folder / f"{command_id}.json", to_json(command))
        return command_id

    def waiting_commands(self) -> list[tuple[str, Command | msgspec.DecodeError]]:
        """Commands not yet taken, oldest first; an undecodable one comes as its error."""
        if not self.commands_folder.is_dir():
            return []
        waiting: list[tuple[str, Command | msgspec.DecodeError]] = []
        for path in sorted(self.commands_folder.glob("[!.]*.json")):
            try:
                waiting.append((path.stem, decode_command(path.read_bytes())))
            except msgspec.DecodeError as error:
                waiting.append((path.stem, error))
        return waiting

    def remove_command(self, command_id: str) -> None:
        """Take an obeyed command away."""
        (self.commands_folder / f"{command_id}.json").unlink(missing_ok=True)

    # The lock: held by the trainer for as long as it lives.

    @contextmanager
    def hold_lock(self, patience_seconds: float = 2.0) -> Generator[None]:
        """Hold the run; the operating system lets go of it when the process dies in any way.

        Args:
            patience_seconds: How long to try: the app's look at the lock holds it for a moment.

        Raises:
            RunLockedError: another trainer holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with self.lock_file.open("a+b") as file:
            deadline = time.monotonic() + patience_seconds
            while not _try_lock(file):
                if time.monotonic() >= deadline:
                    raise RunLockedError(self.path)
                time.sleep(0.05)
            try:
                yield
            finally:
                _unlock(file)

    def is_alive(self) -> bool:
        """Whether a trainer holds the lock now."""
        try:
            with self.lock_file.open("r+b") as file:
                if not _try_lock(file):
                    return True
                _unlock(file)
                return False
        except OSError:
            return False


class UnsaidLine(NamedTuple):
    """A line that is not in the file yet.

    Attributes:
        is_routine: One of many of its kind, which the run's story can do without.
    """

    content: bytes
    is_routine: bool


class EventWriter:
    """Appends events: one write a line, so that a crash can tear only the last line.

    On a full disk events wait in memory, in order and with their times, until a later call finds room.
    So that the news of the full disk can be told at all, a hidden file beside the events holds some
    room, which is given up for the first event that matters.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
        self._reserve = path.with_name(f".{path.name}.reserve")
        self._unsaid: deque[UnsaidLine] = deque()
        # Of the first unsaid line, bytes that are in the file already.
        self._begun_bytes = 0
        size = os.fstat(self._file).st_size
        if size:
            # A line torn by a crash must not swallow the first event of the resumed run.
            os.lseek(self._file, size - 1, os.SEEK_SET)
            if os.read(self._file, 1) != b"\n":
                self._unsaid.append(UnsaidLine(b"\n", is_routine=False))
        self.catch_up()
        self._hold_reserve()

    def write(self, event: Event) -> None:
        """Append the event with the current time; on a full disk, as soon as there is room.

        Of steps and progress, only the newest ten thousand wait.

        Raises:
            OSError: the file cannot be written for another reason than want of room.
        """
        line = to_json(msgspec.structs.replace(event, time=time.time())) + b"\n"
        self._unsaid.append(UnsaidLine(line, isinstance(event, StepDone | PhaseProgress)))
        if not self.catch_up():
            if self._unsaid[-1].is_routine:
                self._forget_oldest_routine()
            else:
                self._reserve.unlink(missing_ok=True)
                self.catch_up()
        elif isinstance(event, Unpaused):
            self._hold_reserve()

    def catch_up(self) -> bool:
        """Write what there was no room for; whether nothing is left unsaid.

        Raises:
            OSError: the file cannot be written for another reason than want of room.
        """
        while self._unsaid:
            line = self._unsaid[0].content
            try:
                written = os.write(self._file, line[self._begun_bytes :])
            except OSError as error:
                if not lacks_room(error):
                    raise
                return False
            self._begun_bytes += written
            if self._begun_bytes == len(line):
                self._unsaid.popleft()
                self._begun_bytes = 0
            elif not written:
                return False
        return True

    def close(self) -> None:
        """Close the file; no event can follow, and one that there is still no room for is lost."""
        try:
            if not self.catch_up():
                self._reserve.unlink(missing_ok=True)
                self.catch_up()
        finally:
            os.close(self._file)
            with suppress(OSError):
                self._reserve.unlink(missing_ok=True)

    def _hold_reserve(self) -> None:
        try:
            if not self._reserve.exists():
                # Random: a file system that compresses would hold no room with zeros.
                self._reserve.write_bytes(os.urandom(RESERVE_BYTES))
        except OSError:
            with suppress(OSError):
                self._reserve.unlink(missing_ok=True)

    def _forget_oldest_routine(self) -> None:
        begun = 1 if self._begun_bytes else 0
        routine = [i for i, line in enumerate(self._unsaid) if line.is_routine and i >= begun]
        if len(routine) > MOST_ROUTINE_UNSAID:
            del self._unsaid[routine[0]]


class EventReader:
    """Follows an events file from its start; call `read_new` as often as wanted.

    A torn last line is left until it is whole. A file that is not there yet has no events.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def read_new(self) -> list[Event | UnknownEvent]:
        """The events that were completed since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                content = file.read()
        except OSError:
            return []
        end = content.rfind(b"\n") + 1
        self._position += end
        return [decode_event(line) for line in content[:end].splitlines() if line.strip()]


class _JobVersion(msgspec.Struct):
    protocol_version: int = PROTOCOL_VERSION


def read_job_file(path: Path) -> JobSpec:
    """Read a job, wherever it lies.

    Raises:
        WireError: the file is missing, wrong, or of another version's protocol.
    """
    # Beforehand: a newer job has fields that would only be told of as unknown.
    version = read_json(path, _JobVersion).protocol_version
    if version != PROTOCOL_VERSION:
        raise WireError(
            path,
            f"it speaks protocol {version}, this version of Wan Studio {PROTOCOL_VERSION}. "
            "Use the version that it was made with.",
        )
    return read_json(path, JobSpec)


def step_name(step: int) -> str:
    """Name of a step's folder, e.g. ``step_000250``: sorts by number."""
    return f"step_{step:06d}"


def lora_file_name(expert: Expert) -> str:
    """Name of an expert's LoRA inside a checkpoint."""
    return f"{expert.value}.safetensors"


def _steps_in(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    names = (path.name.removeprefix("step_") for path in folder.glob("step_*") if path.is_dir())
    return sorted(int(name) for name in names if name.isdigit())


def _try_lock(file: IO[bytes]) -> bool:
    try:
        if os.name == "nt":  # pragma: no cover - Windows
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _unlock(file: IO[bytes]) -> None:
    if os.name == "nt":  # pragma: no cover - Windows
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_UN)
