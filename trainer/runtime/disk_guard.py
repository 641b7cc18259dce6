"""A full disk pauses the run instead of ending it."""

import logging
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from trainer.errors import TrainerError
from trainer.protocol.events import Paused, Unpaused
from trainer.protocol.wire import NO_ROOM_ERRNO, NO_ROOM_WINERROR, lacks_room
from trainer.runtime.control import Control, StopRequested
from trainer.runtime.reporter import Reporter

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_BETWEEN_TRIES = 3.0
SECONDS_BEFORE_A_TRY_ANYWAY = 60.0
"""A quota's room does not show in the disk's free space, so a try must not wait for it for ever."""

PLENTY_BYTES = 1 << 30

# safetensors is written in Rust, whose errors keep the system's number in their text alone.
_SYSTEM_ERROR_OF_RUST = re.compile(r"\(os error (\d+)\)")

T = TypeVar("T")

log = logging.getLogger("trainer")


def wait_for_room(
    write: Callable[[], T],
    folder: Path,
    reporter: Reporter,
    control: Control,
    *,
    step: int = 0,
    needed_bytes: int | None = None,
) -> T:
    """Write; on a full disk, say that the run is paused, wait for room, and write again.

    A stop that had arrived before does not end the wait, since what is written is what it wants saved;
    a second one does.

    Args:
        write: Writes everything or leaves nothing behind; called until it succeeds.
        folder: Where it writes; need not exist yet.
        reporter: Told of the pause and of its end.
        control: Asked for commands while waiting.
        step: Optimizer steps done, for the events.
        needed_bytes: About what the write takes, if known.

    Returns:
        What `write` returned.

    Raises:
        StopRequested: told to stop while waiting; what was to be written is not.
        Exception: whatever `write` raises for another reason than want of room.
    """
    has_paused = False
    was_stopping = control.stop
    while True:
        try:
            result = write()
        except (OSError, TrainerError) as error:
            if not is_full_disk(error):
                raise
            log.warning("No room in %s: %s", folder, error)
        else:
            break
        if not has_paused:
            has_paused = True
            control.stop = False
            reason = _reason(folder, needed_bytes)
            goes_on = "the run stops, its state saved" if was_stopping else "training goes on by itself"
            reporter.say(Paused(step=step, reason=f"{reason} Make room, and {goes_on}; nothing is lost."))
        _wait_until_worth_a_try(folder, reporter, control, needed_bytes)
    if has_paused:
        control.stop = was_stopping
        reporter.say(Unpaused(step=step))
    return result


def is_full_disk(error: BaseException) -> bool:
    """Whether the error, or one that it was raised from, says that a disk or a quota is full."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            if lacks_room(cause):
                return True
        elif found := _SYSTEM_ERROR_OF_RUST.search(str(cause)):
            return int(found[1]) in (NO_ROOM_WINERROR if os.name == "nt" else NO_ROOM_ERRNO)
        cause = cause.__cause__
    return False


def free_bytes(folder: Path) -> int | None:
    """Room on the disk of the folder, or of the nearest folder above that exists; None when not known."""
    for existing in (folder, *folder.absolute().parents):
        try:
            return shutil.disk_usage(existing).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None


def _wait_until_worth_a_try(
    folder: Path, reporter: Reporter, control: Control, needed_bytes: int | None
) -> None:
    """Return when there is more room than at the last try, or as much as needed, or after a minute."""
    failed_at = time.monotonic()
    free_then = free_bytes(folder)
    while True:
        time.sleep(SECONDS_BETWEEN_LOOKS)
        control.look()
        if control.stop:
            raise StopRequested
        reporter.catch_up()
        waited = time.monotonic() - failed_at
        if waited >= SECONDS_BEFORE_A_TRY_ANYWAY:
            return
        free_now = free_bytes(folder)
        if waited < SECONDS_BETWEEN_TRIES or free_now is None or free_then is None:
            continue
        if free_now > free_then and free_now >= (needed_bytes or 0):
            return


def _reason(folder: Path, needed_bytes: int | None) -> str:
    free = free_bytes(folder)
    facts = [] if free is None else [f"{_readable(free)} free"]
    if needed_bytes is not None:
        facts.append(f"about {_readable(needed_bytes)} needed")
    if free is not None and free > max(PLENTY_BYTES, needed_bytes or 0):
        facts.append("so a quota may be used up")
    told = f" ({', '.join(facts)})" if facts else ""
    return f"The disk is full: there is no room in {folder}{told}."


def _readable(size_bytes: int) -> str:
    if size_bytes >= 1e9:
        return f"{size_bytes / 1e9:.1f} GB"
    return f"{size_bytes / 1e6:.1f} MB"
