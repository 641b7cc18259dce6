"""Writes captions, one or thousands: kept in the history first, and never over what somebody else wrote."""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
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
from wan_studio.services.many_files import reach_disk, replace_files, sweep

_FEW = 20
"""Up to so many files the disk is waited for. Beyond, the history alone is: it holds them all and notes them
as not written, and what an interrupted batch left unwritten is written when the project opens again."""


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
        batch: Number to hand to `settle` in a while; 0 when the disk has all.
        found: Bytes of changed files before, where they are more than the text in UTF-8; None for no file.
    """

    written: dict[str, str] = field(default_factory=dict[str, str])
    changed_outside: dict[str, str] = field(default_factory=dict[str, str])
    failed: dict[str, AppError] = field(default_factory=dict[str, AppError])
    batch: int = 0
    found: dict[str, bytes | None] = field(default_factory=dict[str, "bytes | None"])


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
                if before != text.encode():
                    outcome.found[write.clip_id] = before
            else:
                outcome.changed_outside[write.clip_id] = text
                refused.append(Kept(path, before, after))
        except (AppError, UnicodeEncodeError) as error:
            outcome.failed[write.clip_id] = _told(error)
    try:
        if refused:
            history.keep(refused, NOT_WRITTEN)
        if ready:
            outcome.batch = history.keep([kept for _, kept in ready], what, is_noted=len(ready) > _FEW)
    except AppError as error:
        outcome.failed |= {write.clip_id: error for write, _ in ready}
        return outcome
    kept = [kept for _, kept in ready]
    errors = (
        _written_as_noted(kept) if outcome.batch else [_written(one, write.place) for write, one in ready]
    )
    for (write, one), first_error in zip(ready, errors, strict=True):
        error = _written_in_project(write.place, one, first_error, history, what) if first_error else None
        if error is None:
            outcome.written[write.clip_id] = write.text
        else:
            outcome.failed[write.clip_id] = error
    return outcome


def settle(history: CaptionHistory, batch: int, paths: Iterable[Path]) -> None:
    """Wait until the disk has a batch, and note it as written; a failure leaves the note for the next time."""
    with contextlib.suppress(OSError, AppError):
        reach_disk(paths)
        history.forget_unwritten(batch)


@dataclass(frozen=True, slots=True)
class Finished:
    """What was done for a batch that was interrupted.

    Attributes:
        written: Files that were written now.
        left: Files that were left alone: others changed them since, or they cannot be written.
    """

    written: tuple[Path, ...] = ()
    left: tuple[Path, ...] = ()

    @property
    def told(self) -> tuple[str, str]:
        """The same in words for the user: what happened, and what to do."""
        written, left = (_counted(len(paths), "caption") for paths in (self.written, self.left))
        message = f"A change of many captions was interrupted the last time. Written now: {written}."
        if not self.left:
            return message, ""
        names = ", ".join(path.name for path in self.left[:3]) + (" and others" if len(self.left) > 3 else "")
        return (
            f"{message} Left alone: {left} ({names}).",
            "These were changed since or cannot be written. What they were to say is in their history.",
        )


def finish_interrupted(history: CaptionHistory) -> Finished:
    """Write what a batch of an earlier sitting left unwritten, when the program or the system went down in it.

    A file that is as it was before is written, and one that holds nothing or zeros alone, as systems leave
    what they had not finished. Any other was changed or deleted by others since, and is left alone.

    Raises:
        CaptionHistoryError: the history cannot be read or written.
    """
    noted, batch = history.unwritten()
    if not noted:
        return Finished()
    sweep(one.path for one in noted)
    due: list[Kept] = []
    left: list[Path] = []
    for one in noted:
        try:
            now = content_of(one.path)
        except AppError:
            left.append(one.path)
            continue
        if now == one.after:
            continue
        if now is None and not one.path.parent.is_dir():
            # A drive that is not there: its folder is not made anew in its place.
            left.append(one.path)
        elif now == one.before or (now is not None and not now.strip(b"\0")):
            due.append(one)
        else:
            left.append(one.path)
    errors = _written_as_noted(due)
    left += [one.path for one, error in zip(due, errors, strict=True) if error is not None]
    settle(history, batch, [one.path for one in noted])
    written = tuple(one.path for one, error in zip(due, errors, strict=True) if error is None)
    return Finished(written, tuple(left))


def write_kept(place: CaptionPlace | None, kept: Kept, history: CaptionHistory, what: str) -> AppError | None:
    """Write one file that the history has, in the project where its own place refuses; returns why not."""
    error = _written(kept, place)
    return None if error is None else _written_in_project(place, kept, error, history, what)


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


def _written(kept: Kept, place: CaptionPlace | None = None) -> AppError | None:
    """Write one file and wait for the disk; returns why not."""
    try:
        if kept.before is None if place is None else kept.path == place.kept:
            kept.path.parent.mkdir(parents=True, exist_ok=True)
        replace_caption(kept.path, kept.after)
    except OSError as error:
        return CaptionFileError(kept.path, "written", error)
    except AppError as error:
        return error
    return None


def _written_in_project(
    place: CaptionPlace | None, kept: Kept, error: AppError, history: CaptionHistory, what: str
) -> AppError | None:
    """Where a caption's own place refused it, write it in the project; returns why not."""
    if place is None or kept.path == place.kept or not is_refusal(error.__cause__):
        return error
    moved = replace(kept, path=place.kept)
    try:
        history.keep([moved], what)
        place.kept.parent.mkdir(parents=True, exist_ok=True)
    except AppError as failed:
        return failed
    except OSError as failed:
        return CaptionFileError(place.kept, "written", failed)
    return _written(moved, place)


def _written_as_noted(kept: Sequence[Kept]) -> list[AppError | None]:
    """Write many files, without waiting for the disk; returns for each why not."""
    errors = replace_files([(one.path, one.after) for one in kept])
    return [
        None if error is None else _because(CaptionFileError(one.path, "written", error), error)
        for one, error in zip(kept, errors, strict=True)
    ]


def _because(told: AppError, error: OSError) -> AppError:
    told.__cause__ = error
    return told


def _told(error: Exception) -> AppError:
    if isinstance(error, AppError):
        return error
    return AppError(
        "The caption holds half of a sign, which no file can hold.", "Delete the last sign typed."
    )


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
