"""Caption files put back byte for byte, copied and taken away by undo steps; and what a crash cut off, finished."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wan_studio.domain.project import Project, ProjectClip
from wan_studio.errors import AppError
from wan_studio.services.caption_batch import CaptionWrite, WriteOutcome, write_captions, write_kept
from wan_studio.services.caption_history import CaptionHistory, Kept
from wan_studio.services.caption_place import CaptionPlace, place_of, place_of_file
from wan_studio.services.caption_store import CaptionEncodingError, CaptionFileError, content_of, text_of
from wan_studio.services.project_store import ProjectStore
from wan_studio.services.undo_log import KeptStep, OpenedLog, open_log
from wan_studio.services.undo_steps import CaptionCopy, CaptionStep, UndoStepError, unpacked


@dataclass(frozen=True, slots=True)
class ExactWrite:
    """A caption's file that is to hold these bytes.

    Attributes:
        clip_id: Of the clip.
        place: Of its `.txt`.
        expected: Texts that it may hold.
        expected_content: Bytes that it may hold besides.
        content: What it is to hold; None for no file.
    """

    clip_id: str
    place: CaptionPlace
    expected: tuple[str, ...]
    expected_content: bytes | None
    content: bytes | None


def write_exact(writes: Sequence[ExactWrite], history: CaptionHistory, what: str) -> WriteOutcome:
    """Put bytes back, kept in the history first; files that somebody else changed are left alone."""
    outcome = WriteOutcome()
    for write in writes:
        try:
            path = write.place.now
            before = content_of(path)
            if before == write.content:
                outcome.written[write.clip_id] = ""
                continue
            text = _readable_text(path, before)
            is_expected = text in write.expected or (before is not None and before == write.expected_content)
            if not is_expected:
                outcome.changed_outside[write.clip_id] = text or ""
                continue
            _put(write.place, before, write.content, history, what)
            outcome.written[write.clip_id] = ""
        except AppError as error:
            outcome.failed[write.clip_id] = error
    return outcome


@dataclass(frozen=True, slots=True)
class ExactContent:
    """Bytes that a step puts in a file's place.

    Attributes:
        content: They; None for no file.
        origin: Bytes that the file may hold, besides the text that is expected; None for none.
    """

    content: bytes | None
    origin: bytes | None = None


def write_step(
    writes: Sequence[CaptionWrite],
    exact: Mapping[str, ExactContent],
    history: CaptionHistory,
    what: str,
) -> WriteOutcome:
    """Write the captions of a step: those in `exact` byte for byte, the others by their text."""
    outcome = write_captions([write for write in writes if write.clip_id not in exact], history, what)
    to_put = [
        ExactWrite(
            write.clip_id,
            write.place or CaptionPlace(write.path, write.path, write.path.parent),
            write.expected,
            exact[write.clip_id].origin,
            exact[write.clip_id].content,
        )
        for write in writes
        if write.clip_id in exact
    ]
    if to_put:
        put = write_exact(to_put, history, what)
        outcome.written |= put.written
        outcome.changed_outside |= put.changed_outside
        outcome.failed |= put.failed
    return outcome


def give_copies(
    copies: Sequence[CaptionCopy], captions_folder: Path, history: CaptionHistory, what: str
) -> WriteOutcome:
    """Let clips have the captions of others, or their own again that were taken away; what is there stays."""
    outcome = WriteOutcome()
    for copy in copies:
        target = place_of_file(Path(copy.target), captions_folder)
        try:
            if content_of(target.now) is None:
                versions = history.versions_of(target.for_writing)
                # Taken away before: the version below the empty one is what it held last.
                own = next((one.content for one in versions if one.content), None)
                content = own
                if content is None:
                    content = content_of(place_of_file(Path(copy.source), captions_folder).now)
                if content:
                    _put(target, None, content, history, what)
            outcome.written[copy.clip_id] = ""
        except AppError as error:
            outcome.failed[copy.clip_id] = error
    return outcome


def take_copies(
    copies: Sequence[CaptionCopy], captions_folder: Path, history: CaptionHistory, what: str
) -> WriteOutcome:
    """Take such captions away into the history; one that somebody else changed since stays where it is."""
    outcome = WriteOutcome()
    for copy in copies:
        target = place_of_file(Path(copy.target), captions_folder)
        try:
            before = content_of(target.now)
            if before is not None:
                last = next(iter(history.versions_of(target.now)), None)
                if last is not None and last.content == before:
                    _put(target, before, None, history, what)
            outcome.written[copy.clip_id] = ""
        except AppError as error:
            outcome.failed[copy.clip_id] = error
    return outcome


def open_with_steps(store: ProjectStore) -> tuple[Project, OpenedLog]:
    """Read a project and its undo steps, and finish what a crash cut off.

    Raises:
        ProjectFileError: the project cannot be read; its steps never hinder that.
    """
    project, digest = store.load_with_digest()
    opened = open_log(store.folder, digest)
    finish_captions(store, project, opened)
    return project, opened


def finish_captions(store: ProjectStore, project: Project, opened: OpenedLog) -> None:
    """Write the captions that a crash left unwritten; files that hold something else by now are left alone."""
    clips = {clip.id: clip for clip in project.clips}
    steps = {step.serial: step for step in opened.steps}
    for task in opened.tasks:
        kept = steps.get(task.serial)
        try:
            if kept is not None:
                _finish(kept, clips, store, is_forward=task.is_forward)
            if opened.log is not None:
                opened.log.confirm(task)
        except AppError as error:
            opened.problem = opened.problem or error


def _finish(
    kept: KeptStep, clips: Mapping[str, ProjectClip], store: ProjectStore, *, is_forward: bool
) -> None:
    step, history = unpacked(kept.content), CaptionHistory(store.folder)
    if not isinstance(step, CaptionStep):
        move = give_copies if is_forward else take_copies
        move(step.copies, store.captions_folder, history, kept.name)
        return
    older = [step]
    if kept.old_content is not None:
        try:
            old = unpacked(kept.old_content)
        except UndoStepError:
            old = None
        if isinstance(old, CaptionStep):
            older.append(old)
    writes: list[CaptionWrite] = []
    for clip_id in step.after.keys() & clips.keys():
        if is_forward:
            expected = tuple(one.before.get(clip_id, "") for one in older)
            expected += tuple(one.after.get(clip_id, "") for one in older[1:])
            wanted = step.after[clip_id]
        else:
            expected, wanted = (step.after[clip_id],), step.before.get(clip_id, "")
        place = place_of(clips[clip_id], store.captions_folder)
        writes.append(CaptionWrite(clip_id, place.beside, expected, wanted, place))
    write_step(writes, exact_of(step, is_forward=is_forward), history, step.what or kept.name)


def exact_of(step: CaptionStep, *, is_forward: bool) -> dict[str, ExactContent]:
    """The files that a step puts back byte for byte, by clip id."""
    there, here = (step.written, step.found) if is_forward else (step.found, step.written)
    return {clip_id: ExactContent(content, here.get(clip_id)) for clip_id, content in there.items()}


def _readable_text(path: Path, content: bytes | None) -> str | None:
    """What a file says; None where its bytes are no text that is known."""
    try:
        return "" if content is None else text_of(path, content)
    except CaptionEncodingError:
        return None


def _put(
    place: CaptionPlace, before: bytes | None, content: bytes | None, history: CaptionHistory, what: str
) -> None:
    path = place.now if content is None else place.for_writing
    kept = Kept(path, before, content or b"")
    history.keep([kept], what)
    if content is not None:
        error = write_kept(place, kept, history, what)
        if error is not None:
            raise error
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise CaptionFileError(path, "written", error) from error
