"""Starts the trainer so that it outlives whoever started it, and knows whether it still runs."""

import contextlib
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import psutil
from msgspec import Struct

from trainer.protocol.job import JobSpec
from trainer.protocol.memory_settings import MemorySettingError, memory_settings, with_memory
from trainer.protocol.run_folder import RunFolder
from trainer.protocol.wire import WireError, read_json, write_json
from wan_studio.errors import AppError
from wan_studio.services.trainer_runtime import trainer_command, trainer_environment

_started: dict[int, subprocess.Popen[bytes]] = {}
"""Our own children by their pid: asked for their end, so that none stays as a zombie."""

_exit_codes: dict[int, int] = {}
"""How those of them ended that have."""


class RunStartError(AppError):
    """The trainer cannot be started on a run folder."""

    def __init__(self, run: RunFolder, problem: str, hint: str) -> None:
        super().__init__(f"The run in {run.path} cannot be started: {problem}", hint)


class RunBusyError(AppError):
    """A trainer works on this run already."""

    def __init__(self, run: RunFolder) -> None:
        super().__init__(
            f"A trainer already works on the run in {run.path}.", "Stop it first, or wait until it is done."
        )


class MemoryChangeError(AppError):
    """A run cannot go on with a setting."""


class ExportError(AppError):
    """The trainer could not export."""

    def __init__(self, run: RunFolder, message: str) -> None:
        super().__init__(
            f"The LoRA files of {run.path.name} could not be exported: {message}",
            f"The trainer's own words are in {run.log_file}.",
        )


class ExportForm(Struct, frozen=True, kw_only=True):
    """How exported files are made; None leaves it to the trainer.

    Attributes:
        format: Whose key names: original (ComfyUI), diffusers or kohya.
        dtype: Number type; the trainer takes the checkpoint's.
        strength: Folded into the weights; any finite number but 0.
    """

    format: Literal["original", "diffusers", "kohya"] | None = None
    dtype: Literal["bf16", "fp16", "fp32"] | None = None
    strength: float | None = None

    def arguments(self) -> list[str]:
        """What to add to the trainer's export command."""
        given = {"--format": self.format, "--dtype": self.dtype, "--strength": self.strength}
        # One word each: a negative strength apart would be taken for an option.
        return [f"{option}={value}" for option, value in given.items() if value is not None]


class PreviewStartError(AppError):
    """Previews of a checkpoint cannot be rendered now."""

    def __init__(self, run: RunFolder, problem: str, hint: str) -> None:
        super().__init__(f"Previews of {run.path.name} cannot be rendered: {problem}", hint)


class PreviewRequest(Struct, frozen=True, kw_only=True):
    """Which LoRAs previews are to show.

    Attributes:
        checkpoint: Step of the checkpoint that the previews are filed under.
        high: Step of the checkpoint whose high-noise LoRA is used; None takes `checkpoint`.
        low: The same for the low-noise LoRA.
        strength: Of both; any finite number, 1 as they were trained.
    """

    checkpoint: int
    high: int | None = None
    low: int | None = None
    strength: float | None = None

    def arguments(self) -> list[str]:
        """What to add to the trainer's preview command."""
        given = {
            "--checkpoint": self.checkpoint,
            "--high": self.high,
            "--low": self.low,
            "--strength": self.strength,
        }
        return [f"{option}={value}" for option, value in given.items() if value is not None]


class ProcessRecord(Struct, frozen=True, kw_only=True):
    """Which process was started last for a run.

    Attributes:
        pid: Its number.
        created: When the operating system says that it began; tells it from a later one of the same number.
        started: When it was started, seconds since the epoch.
        host: Name of the machine that it was started on; empty where that was not written down.
    """

    pid: int
    created: float
    started: float
    host: str = ""


def start_run(run: RunFolder, job: JobSpec, command: Sequence[str] | None = None) -> None:
    """Write the job and start the trainer on it; returns at once.

    Args:
        run: A new run folder.
        job: What to train; never changes afterwards.
        command: Another command line than the trainer's.

    Raises:
        TrainerMissingError: there is no Python with torch.
        RunStartError: the folder cannot be written, has a job already, or the process does not start.
    """
    command = command or trainer_command("run", str(run.job_file), "--run-dir", str(run.path))
    try:
        run.create(job)
    except FileExistsError as error:
        raise RunStartError(run, "it has a job already.", "Resume it, or start a new run.") from error
    except OSError as error:
        raise RunStartError(
            run,
            f"the folder cannot be written ({error.strerror or error}).",
            "Check its permissions and the free space.",
        ) from error
    _start(run, command)


def start_process(run: RunFolder, command: Sequence[str]) -> None:
    """Start a trainer process that does something else than train in a folder of its own; returns at once.

    Raises:
        RunStartError: the folder cannot be written, or the process does not start.
    """
    _start(run, command)


def resume_run(
    run: RunFolder,
    command: Sequence[str] | None = None,
    patience_seconds: float = 5.0,
    memory: Sequence[str] = (),
) -> None:
    """Start the trainer from the run's last checkpoint; returns at once.

    Args:
        run: A run that has ended.
        command: Another command line than the trainer's.
        memory: Settings of memory to go on with, each `section.field=value`.
        patience_seconds: How long to wait for a trainer that has said its last word but is still ending.

    Raises:
        TrainerMissingError: there is no Python with torch.
        RunBusyError: a trainer works on it.
        RunStartError: there is no job in it, or the process does not start.
        MemoryChangeError: a setting is none of memory, or has a wrong value.
    """
    if not run.job_file.is_file():
        raise RunStartError(run, "it has no job.json.", "Choose a run's own folder.")
    if memory:
        _check_memory(run, memory)
    deadline = time.monotonic() + patience_seconds
    while run.is_alive() or process_runs(run):
        if time.monotonic() >= deadline:
            raise RunBusyError(run)
        time.sleep(0.05)
    changes = [word for assignment in memory for word in ("--set", assignment)]
    _start(run, command or trainer_command("resume", str(run.path), *changes))


def export_run(
    run: RunFolder,
    step: int | None = None,
    out: Path | None = None,
    name: str | None = None,
    form: ExportForm | None = None,
) -> list[Path]:
    """Write and verify the LoRA files of a checkpoint; waits for it (seconds).

    Args:
        run: A run with a checkpoint.
        step: Which checkpoint; None takes the last.
        out: Folder for the files; None takes the run's exports folder.
        name: Start of the files' names; None takes the job's name.
        form: Format, number type and strength; None leaves them to the trainer.

    Raises:
        TrainerMissingError: there is no Python with torch.
        ExportError: there is no such checkpoint, the folder cannot be written, or a file is wrong.
    """
    arguments = ["export", str(run.path)]
    arguments += ["--step", str(step)] if step is not None else []
    arguments += ["--out", str(out)] if out is not None else []
    arguments += ["--name", name] if name else []
    arguments += form.arguments() if form is not None else []
    result = subprocess.run(
        trainer_command(*arguments),
        env=trainer_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    _append_log(run, f"{result.stderr}\n" if result.stderr.strip() else "")
    lines = [line.strip() for line in result.stdout.splitlines() if line.strip()]
    if result.returncode != 0 or not lines:
        words = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        raise ExportError(run, words[-1] if words else f"the trainer ended with code {result.returncode}.")
    return [Path(line) for line in lines]


def preview_run(run: RunFolder, request: PreviewRequest) -> None:
    """Start to render previews of a run that is not training; returns at once.

    How far it is comes through the run's events, as while training; `preview_runs` tells whether it is at
    work and `preview_problem` what went wrong.

    Raises:
        TrainerMissingError: there is no Python with torch.
        RunBusyError: a trainer works on it, or previews are being rendered.
        PreviewStartError: the process does not start.
    """
    if preview_runs(run) or run.is_alive() or process_runs(run):
        raise RunBusyError(run)
    command = trainer_command("preview", str(run.path), *request.arguments())
    try:
        started = time.time()
        with _preview_log(run).open("wb") as log:
            child = _detached(command, run, log.fileno())
        _started[child.pid] = child
        write_json(_preview_record_file(run), _record(child.pid, started))
    except OSError as error:
        raise PreviewStartError(
            run,
            f"the trainer does not start ({error.strerror or error}).",
            "Check the folder's permissions, and the installation with: wan-studio doctor",
        ) from error


def preview_runs(run: RunFolder) -> bool:
    """Whether the process that was started last to render previews of this run still runs."""
    return _runs(_read_record(_preview_record_file(run)))


def preview_started(run: RunFolder) -> float:
    """When previews of this run were last begun to be rendered, seconds since the epoch; 0 for never."""
    record = _read_record(_preview_record_file(run))
    return 0.0 if record is None else record.started


def preview_problem(run: RunFolder) -> str:
    """Why the last rendering of previews failed, in the trainer's own words; empty when it did not."""
    record = _read_record(_preview_record_file(run))
    if record is None or _runs(record):
        return ""
    try:
        lines = _preview_log(run).read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    code = _exit_codes.get(record.pid)
    # Of a process that another window started, only its words are known.
    has_failed = code != 0 if code is not None else last.startswith("error: ")
    return (last.removeprefix("error: ") or f"the trainer ended with code {code}.") if has_failed else ""


def process_record(run: RunFolder) -> ProcessRecord | None:
    """The process started last for this run; None where none was started by the app."""
    return _read_record(_record_file(run))


def ran_here(run: RunFolder) -> bool:
    """Whether this run's last process was started on this machine: run folders are also copied."""
    record = process_record(run)
    return record is not None and bool(record.host) and record.host == platform.node()


def process_runs(run: RunFolder) -> bool:
    """Whether the process that was started last for this run still runs, on this machine."""
    return _runs(process_record(run))


def process_pids(run: RunFolder) -> frozenset[int]:
    """The processes that train this run or render its previews now, without their children."""
    records = (process_record(run), _read_record(_preview_record_file(run)))
    return frozenset(record.pid for record in records if record is not None and _runs(record))


def kill_run(run: RunFolder) -> bool:
    """End the run's process at once, with its children; True when there was one.

    The last resort: what was trained since the last checkpoint is lost.
    """
    record = process_record(run)
    if record is None or not process_runs(run):
        return False
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(record.pid)
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
        process.kill()
    return True


def _check_memory(run: RunFolder, assignments: Sequence[str]) -> None:
    try:
        with_memory(run.read_job(), memory_settings(assignments))
    except (MemorySettingError, WireError) as error:
        raise MemoryChangeError(str(error)) from error


def _read_record(path: Path) -> ProcessRecord | None:
    try:
        return read_json(path, ProcessRecord)
    except WireError:
        return None


def _runs(record: ProcessRecord | None) -> bool:
    if record is None:
        return False
    child = _started.get(record.pid)
    if child is not None and child.poll() is not None:
        _exit_codes[record.pid] = child.returncode
        _started.pop(record.pid, None)
        return False
    try:
        process = psutil.Process(record.pid)
        is_same = abs(process.create_time() - record.created) < 1.0
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _start(run: RunFolder, command: Sequence[str]) -> None:
    try:
        # Whatever the log ends with belongs to this start.
        _append_log(run, f"\n{time.strftime('%Y-%m-%d %H:%M:%S')} starts: {' '.join(command)}\n")
        started = time.time()
        with run.log_file.open("ab") as log:
            child = _detached(command, run, log.fileno())
        _started[child.pid] = child
        write_json(_record_file(run), _record(child.pid, started))
    except OSError as error:
        raise RunStartError(
            run,
            f"the trainer does not start ({error.strerror or error}).",
            "Check the folder's permissions, and the installation with: wan-studio doctor",
        ) from error


def _detached(command: Sequence[str], run: RunFolder, output: int) -> subprocess.Popen[bytes]:
    """A process with a session of its own: closing the window or the terminal does not reach it."""
    if sys.platform == "win32":  # pragma: no cover - Windows
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS
        try:
            return _popen(command, run, output, flags | subprocess.CREATE_BREAKAWAY_FROM_JOB)
        except PermissionError:
            # The job object that we live in lets nobody out; then we stay in it.
            return _popen(command, run, output, flags)
    return _popen(command, run, output, 0)


def _popen(command: Sequence[str], run: RunFolder, output: int, flags: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=run.path,
        env=trainer_environment(),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        creationflags=flags,
    )


def _record(pid: int, started: float) -> ProcessRecord:
    created = 0.0
    with contextlib.suppress(psutil.Error):
        created = psutil.Process(pid).create_time()
    return ProcessRecord(pid=pid, created=created, started=started, host=platform.node())


def _record_file(run: RunFolder) -> Path:
    return run.path / "process.json"


def _preview_record_file(run: RunFolder) -> Path:
    return run.path / "preview_process.json"


def _preview_log(run: RunFolder) -> Path:
    return run.path / "preview.log"


def _append_log(run: RunFolder, text: str) -> None:
    if text:
        with run.log_file.open("ab") as log:
            log.write(text.encode("utf-8", "replace"))
