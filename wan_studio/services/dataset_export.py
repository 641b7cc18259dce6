"""Exports a data set into a folder: clips, captions and configuration; what is there already is not written again."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from trainer.protocol.wire import lacks_room
from wan_studio.domain.ai_toolkit_config import ai_toolkit_files
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.dataset_builder import ClipFiles
from wan_studio.domain.export_plan import ExportedClip, ExportPlan, Skipped
from wan_studio.domain.musubi_config import musubi_files
from wan_studio.domain.project import Project
from wan_studio.errors import AppError
from wan_studio.services.caption_place import read_clip_caption
from wan_studio.services.export_errors import ClipNotWrittenError, ExportCancelledError, NoRoomError
from wan_studio.services.export_manifest import ExportFolder, ExportFolderError
from wan_studio.services.render_process import RenderProcess

SURELY_TOO_LITTLE = 0.5
"""An export does not begin with less room than this share of its forecast, which may be too high."""


class NothingToExportError(AppError):
    """No clip can be exported."""

    def __init__(self) -> None:
        super().__init__(
            "There is no clip to export.", "Add clips, or take back rejected ones, on the Clips page."
        )


class TooLittleRoomError(AppError):
    """The forecast is far beyond the free space."""

    def __init__(self, folder: Path, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(
            f"The disk of {folder} has {_size(free_bytes)} free; this export takes about {_size(needed_bytes)}.",
            "Make room, choose a folder on another disk, or export H.264 instead of FFV1.",
        )


@dataclass(frozen=True, slots=True)
class ExportProgress:
    """How far an export is.

    Attributes:
        done: Clips dealt with, of `count`.
        name: File that is being written.
        frames: Of its frames written, of `frame_count`.
        share: Of all the work, 0..1, by frames and pixels.
    """

    done: int
    count: int
    name: str
    frames: int
    frame_count: int
    share: float


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What came of an export.

    Attributes:
        written: Clips written now.
        kept: Clips that an earlier export had written.
        removed: Clips of an earlier export that are no longer exported.
        skipped: What was left out, and why.
        kept_texts: Files of the user's own that stand where a caption or a configuration would.
        notes: What the user should know, a sentence each.
        configuration: Files for the trainer, relative to the folder.
    """

    folder: Path
    written: int
    kept: int
    removed: int
    skipped: tuple[Skipped, ...]
    kept_texts: tuple[str, ...]
    notes: tuple[str, ...]
    configuration: tuple[str, ...]
    seconds: float


def clip_files(
    project: Project, sources: Mapping[str, SourceVideo], problems: Mapping[str, str], captions_folder: Path
) -> ClipFiles:
    """What is known of the clips, their captions read now; one whose caption cannot be read has a problem.

    Args:
        project: The clips.
        sources: The probed files, by clip id.
        problems: Why others have none, a sentence each.
        captions_folder: The project's, for captions that cannot be beside their clips.
    """
    captions: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    for clip in project.clips:
        if clip.id in sources and not clip.rejected:
            try:
                captions[clip.id] = read_clip_caption(clip, captions_folder).text
            except AppError as error:
                unreadable[clip.id] = str(error)
    readable = {clip_id: source for clip_id, source in sources.items() if clip_id not in unreadable}
    return ClipFiles(readable, captions, {**problems, **unreadable})


@dataclass(frozen=True, slots=True)
class ExportForecast:
    """What an export would do.

    Attributes:
        to_write: Clips that are not there yet; pictures for previews do not count.
        there: Clips that are.
        needed_bytes: About what those to write take.
        free_bytes: On the folder's disk; None where that is not known.
        problem: Why it cannot be done, a sentence; empty when it can.
    """

    plan: ExportPlan
    to_write: int
    there: int
    needed_bytes: int
    free_bytes: int | None
    problem: str = ""

    @property
    def surely_lacks_room(self) -> bool:
        """Whether it would be refused."""
        return self.free_bytes is not None and self.free_bytes < self.needed_bytes * SURELY_TOO_LITTLE


def forecast_export(plan: ExportPlan, folder: Path) -> ExportForecast:
    """Look at the folder; nothing is written."""
    place = ExportFolder(folder.absolute(), plan.project.name)
    clips = [clip for one in plan.sets for clip in one.clips]
    problem = ""
    if folder.exists() and not folder.is_dir():
        problem = f"{folder} is a file. Choose a folder."
    else:
        try:
            place.load()
        except ExportFolderError as error:
            problem = str(error)
    missing = [clip for clip in clips if problem or not place.is_current(clip)]
    return ExportForecast(
        plan,
        len(missing),
        len(clips) - len(missing),
        sum(clip.recipe.forecast_bytes for clip in missing),
        _free_bytes(folder),
        problem,
    )


def _free_bytes(folder: Path) -> int | None:
    """On the disk where the folder lies or would lie."""
    for place in (folder, *folder.parents):
        try:
            return shutil.disk_usage(place).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None


def check_target(folder: Path) -> None:
    """Make the folder, and make sure that it can be written.

    Raises:
        ExportFolderError: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileExistsError as error:
        raise ExportFolderError(folder, "is a file.", "Choose a folder.") from error
    except OSError as error:
        if lacks_room(error):
            raise NoRoomError(folder) from error
        raise ExportFolderError(
            folder, f"cannot be written ({error.strerror or error}).", "Choose another folder."
        ) from error


def export_dataset(
    plan: ExportPlan,
    folder: Path,
    on_progress: Callable[[ExportProgress], object],
    is_cancelled: Callable[[], bool] = lambda: False,
    process: RenderProcess | None = None,
) -> ExportReport:
    """Write what is missing or changed, remove what an earlier export wrote and this one does not.

    Raises:
        NothingToExportError: the plan is empty.
        ExportFolderError: the folder cannot take it.
        TooLittleRoomError: there is far too little room; nothing was written.
        NoRoomError: the disk became full.
        ExportCancelledError: that was wished for; what was written stays, and the next export goes on.
    """
    if not any(one.clips for one in plan.sets):
        raise NothingToExportError
    folder = folder.absolute()
    check_target(folder)
    place = ExportFolder(folder, plan.project.name)
    place.load()
    work = _Work(plan, place, on_progress, is_cancelled)
    try:
        work.check_room()
        with process or RenderProcess() as renderer:
            work.write_clips(renderer)
        return work.finish()
    except OSError as error:
        if lacks_room(error):
            raise NoRoomError(folder) from error
        raise ExportFolderError(
            folder, f"cannot be written ({error.strerror or error}).", "Check its permissions."
        ) from error


class _Work:
    """One export on its way."""

    def __init__(
        self,
        plan: ExportPlan,
        place: ExportFolder,
        on_progress: Callable[[ExportProgress], object],
        is_cancelled: Callable[[], bool],
    ) -> None:
        self._plan = plan
        self._place = place
        self._on_progress = on_progress
        self._is_cancelled = is_cancelled
        self._began = time.monotonic()
        self._skipped = list(plan.skipped)
        self._kept_texts: list[str] = []
        self._present: set[str] = set()
        self._written = 0
        self._todo = {clip.path for clip in plan.files if not place.is_current(clip)}

    def check_room(self) -> None:
        """Refuse what surely does not fit."""
        needed = sum(clip.recipe.forecast_bytes for clip in self._plan.files if clip.path in self._todo)
        free = shutil.disk_usage(self._place.folder).free
        if free < needed * SURELY_TOO_LITTLE:
            raise TooLittleRoomError(self._place.folder, needed, free)

    def write_clips(self, renderer: RenderProcess) -> None:
        """Write every clip that is not there yet, and every caption."""
        files = self._plan.files
        weights = [clip.recipe.forecast_bytes if clip.path in self._todo else 0 for clip in files]
        whole, passed = max(1, sum(weights)), 0

        for done, (clip, weight) in enumerate(zip(files, weights, strict=True)):
            before = passed

            def tell(
                frames: int,
                count: int,
                done: int = done,
                clip: ExportedClip = clip,
                weight: int = weight,
                before: int = before,
            ) -> None:
                share = (before + weight * frames / max(1, count)) / whole
                self._on_progress(ExportProgress(done, len(files), clip.path, frames, count, share))

            if self._is_cancelled():
                raise ExportCancelledError
            if clip.path in self._todo:
                tell(0, len(clip.recipe.frames))
                self._write(clip, renderer, tell)
            else:
                self._present.add(clip.path)
            if clip.path in self._present and clip.caption is not None:
                self._write_text(clip.caption_path, clip.caption)
            passed += weight
        self._on_progress(ExportProgress(len(files), len(files), "", 0, 0, 1.0))

    def finish(self) -> ExportReport:
        """Write the configuration, remove what is out of date, and report."""
        sets = tuple(
            replace(one, clips=tuple(clip for clip in one.clips if clip.path in self._present))
            for one in self._plan.sets
        )
        missing = {clip.path for clip in self._plan.pictures} - self._present
        present = replace(
            self._plan,
            sets=tuple(one for one in sets if one.clips),
            rows=tuple(row for row in self._plan.rows if row.picture not in missing),
        )
        texts, notes = _configuration(present, self._place.folder)
        for path, text in texts.items():
            if self._write_text(path, text) and path.endswith(".sh"):
                with contextlib.suppress(OSError):
                    (self._place.folder / path).chmod(0o755)
        captions = {clip.caption_path for clip in self._plan.files if clip.caption is not None}
        # A clip that could not be written this time keeps what an earlier export made of it.
        wanted = {clip.path for clip in self._plan.files}
        removed = self._place.remove_all_but(wanted, captions | texts.keys())
        return ExportReport(
            folder=self._place.folder,
            written=self._written,
            kept=len(self._present) - self._written,
            removed=removed,
            skipped=tuple(self._skipped),
            kept_texts=tuple(self._kept_texts),
            notes=(*self._plan.notes, *notes),
            configuration=tuple(texts),
            seconds=time.monotonic() - self._began,
        )

    def _write(self, clip: ExportedClip, renderer: RenderProcess, tell: Callable[[int, int], object]) -> None:
        if self._place.is_foreign(clip.path):
            self._skip(
                clip,
                f"{clip.path} lies in the folder already and was not written by this export. It was left as "
                "it is: move it away, or choose another folder.",
            )
            return
        part = self._place.part_of(clip.path)
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            renderer.render(clip, part, tell, self._is_cancelled)
        except ClipNotWrittenError as error:
            self._skip(clip, str(error))
            return
        try:
            self._place.take_in(clip)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        self._present.add(clip.path)
        self._written += 1

    def _write_text(self, path: str, text: str) -> bool:
        is_written = self._place.write_text(path, text)
        if not is_written:
            self._kept_texts.append(path)
        return is_written

    def _skip(self, clip: ExportedClip, sentence: str) -> None:
        self._skipped.append(Skipped(clip.clip_id, clip.source.name, sentence))


def _configuration(plan: ExportPlan, folder: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """The layout's own files by their paths, and notes on what they cannot say."""
    root = folder.as_posix() if os.name == "nt" else str(folder)
    match plan.options.layout:
        case "ai-toolkit":
            return ai_toolkit_files(plan, root)
        case "musubi-tuner":
            return musubi_files(plan, root)
        case "folder":
            return {}, ()


def _size(size_bytes: float) -> str:
    return f"{size_bytes / 2**30:.1f} GB" if size_bytes >= 2**30 / 10 else f"{size_bytes / 2**20:.0f} MB"
