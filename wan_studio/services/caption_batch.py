"""Writes captions, one or thousands: kept in the history first, and never over what somebody else wrote."""

import contextlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from wan_studio.errors import AppError
from wan_studio.services.caption_history import NOT_WRITTEN, CaptionHistory, Kept
from wan_studio.services.caption_place import CaptionPlace, is_refusal, read_caption_at
from wan_studio.services.caption_store import (
    CaptionEncodingError,
    CaptionFileError,
    content_of,
    replace_caption,
    text_as_guessed,
    text_of,
    with_text,
)

_AT_A_TIME = 4
_FEW = 20
"""Up to so many files the disk is waited for; beyond, the history alone is waited for, which holds them all."""


@dataclass(frozen=True, slots=True)
class CaptionWrite:
    r"""One caption to write.

    Attributes:
        clip_id: Of the clip.
        path: Its `.txt`.
        place: Where else it may be; None for nowhere else.
        expected: Texts that the file may hold; with another one somebody else changed it.
        text: What it is to say, line ends as `\n`.
    """

    clip_id: str
    path: Path
    expected: tuple[str, ...]
    text: str
    place: CaptionPlace | None = None


@dataclass(slots=True)
class WriteOutcome:
    """What came of it.

    Attributes:
        written: Clips whose file now says what it should.
        changed_outside: What the file of others says instead; they were left alone.
        failed: Why others could not be written.
    """

    written: dict[str, str] = field(default_factory=dict[str, str])
    changed_outside: dict[str, str] = field(default_factory=dict[str, str])
    failed: dict[str, AppError] = field(default_factory=dict[str, AppError])


def write_captions(writes: Sequence[CaptionWrite], history: CaptionHistory, what: str) -> WriteOutcome:
    """Write captions; files that already say it keep their bytes. Errors come per clip, none is raised."""
    outcome = WriteOutcome()
    ready: list[tuple[CaptionWrite, Kept]] = []
    refused: list[Kept] = []
    for write in writes:
        try:
            path = write.path if write.place is None else write.place.now
            before = content_of(path)
            text = "" if before is None else text_of(path, before)
            if text == write.text and (before is not None or path.parent.is_dir()):
                outcome.written[write.clip_id] = write.text
                continue
            after = write.text.encode() if before is None else with_text(path, before, write.text)
            if text in write.expected or (before is None and not path.parent.is_dir()):
                target = path if write.place is None else write.place.for_writing
                ready.append((write, Kept(target, before, after)))
            else:
                outcome.changed_outside[write.clip_id] = text
                refused.append(Kept(path, before, after))
        except (AppError, UnicodeEncodeError) as error:
            outcome.failed[write.clip_id] = _told(error)
    try:
        if refused:
            history.keep(refused, NOT_WRITTEN)
        if ready:
            history.keep([kept for _, kept in ready], what)
    except AppError as error:
        outcome.failed |= {write.clip_id: error for write, _ in ready}
        return outcome
    # Opening and renaming wait for the system: several at a time.
    with ThreadPoolExecutor(_AT_A_TIME if len(ready) > _FEW else 1) as pool:
        write_one = partial(_write, history=history, what=what, is_durable=len(ready) <= _FEW)
        errors = pool.map(write_one, [write for write, _ in ready], [kept for _, kept in ready])
        for (write, _), error in zip(ready, errors, strict=True):
            if error is None:
                outcome.written[write.clip_id] = write.text
            else:
                outcome.failed[write.clip_id] = error
    return outcome


def convert_to_utf_8(place: CaptionPlace, encoding: str, history: CaptionHistory) -> str:
    """Write a caption of another encoding anew as UTF-8, its bytes kept in the history; returns its text.

    Raises:
        UnicodeDecodeError: the bytes are not of this encoding.
        CaptionHistoryError: they cannot be kept; the file stays as it is.
        CaptionFileError: it cannot be read or written.
    """
    before = content_of(place.now)
    if before is None:
        return ""
    after = before.decode(encoding).encode()
    text = text_of(place.now, after)
    kept, what = Kept(place.for_writing, before, after), "Converted to UTF-8"
    history.keep([kept], what)
    write = CaptionWrite("", place.beside, (), text, place)
    failed = _write(write, kept, history=history, what=what, is_durable=True)
    if failed is not None:
        raise failed
    return text


def guess_caption(path: Path) -> tuple[str, str]:
    """What a caption of another encoding probably says, and Python's name of that encoding; empty for none.

    Raises:
        CaptionFileError: it cannot be read.
    """
    content = content_of(path) or b""
    try:
        return text_of(path, content), "utf-8"
    except CaptionEncodingError as error:
        return text_as_guessed(content), error.guess


@dataclass(frozen=True, slots=True)
class CaptionLook:
    """What a look at a caption's file found.

    Attributes:
        mark: Time and size of the file; None without one.
        text: What it says; None if that cannot be read.
        problem: Why not.
    """

    mark: tuple[int, int] | None
    text: str | None
    problem: str = ""


def look_at_captions(
    files: Iterable[tuple[str, CaptionPlace, tuple[int, int] | None]],
) -> dict[str, CaptionLook]:
    """Read the captions whose time or size is another than at the last look, by clip id.

    Args:
        files: Clip id, place, and the mark of the last look.
    """
    found: dict[str, CaptionLook] = {}
    for clip_id, place, known in files:
        mark = None
        with contextlib.suppress(OSError):
            stat = place.now.stat()
            mark = (stat.st_mtime_ns, stat.st_size)
        if mark == known:
            continue
        try:
            found[clip_id] = CaptionLook(mark, read_caption_at(place).text)
        except AppError as error:
            found[clip_id] = CaptionLook(mark, None, str(error))
    return found


def _write(
    write: CaptionWrite, kept: Kept, *, history: CaptionHistory, what: str, is_durable: bool
) -> AppError | None:
    """Write one file, in the project where its own place refuses; returns why not."""
    stand_in = None if write.place is None else write.place.kept
    try:
        if stand_in is not None and kept.path == stand_in:
            stand_in.parent.mkdir(parents=True, exist_ok=True)
        replace_caption(kept.path, kept.after, is_durable=is_durable)
    except OSError as error:
        return CaptionFileError(kept.path, "written", error)
    except CaptionFileError as error:
        if stand_in is None or kept.path == stand_in or not is_refusal(error.__cause__):
            return error
        moved = replace(kept, path=stand_in)
        try:
            history.keep([moved], what)
        except AppError as failed:
            return failed
        return _write(write, moved, history=history, what=what, is_durable=is_durable)
    except AppError as error:
        return error
    return None


def _told(error: Exception) -> AppError:
    if isinstance(error, AppError):
        return error
    return AppError(
        "The caption holds half of a sign, which no file can hold.", "Delete the last sign typed."
    )
