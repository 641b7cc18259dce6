"""`export-dataset`: the clips of a project, or of a folder, written for another trainer."""

import argparse
import re
import sys
import time
from pathlib import Path
from typing import Literal

import msgspec

from wan_studio.cli.console import EXIT_DONE, complain, in_words, say
from wan_studio.domain.export_plan import ExportOptions, plan_export
from wan_studio.domain.project import Project
from wan_studio.errors import AppError
from wan_studio.services.clip_import import import_clips
from wan_studio.services.dataset_export import ExportProgress, ExportReport, clip_files, export_dataset
from wan_studio.services.job_preparation import probe_clips
from wan_studio.services.project_store import ProjectStore

_FRAMES: dict[str, Literal["source", "as_seen"]] = {"source": "source", "as-seen": "as_seen"}
_SECONDS_BETWEEN_LINES = 5.0


class WhichClipsError(AppError):
    """Neither a project nor a folder of clips was given, or both."""

    def __init__(self) -> None:
        super().__init__(
            "Give either a project's folder or --clips with a folder of clips.",
            "For example: wan-studio export-dataset --clips my-clips --out exported",
        )


def run_export_dataset(arguments: argparse.Namespace) -> int:
    """Export; returns the exit code. Ctrl+C ends it cleanly, and the same command goes on.

    Raises:
        AppError: something that was given is wrong, or nothing can be written.
    """
    project, captions_folder = _project(arguments)
    probed = probe_clips(project)
    options = ExportOptions(layout=arguments.layout, codec=arguments.codec, frames=_FRAMES[arguments.frames])
    problems = {clip_id: str(error) for clip_id, error in probed.errors.items()}
    plan = plan_export(project, clip_files(project, probed.sources, problems, captions_folder), options)
    shown = _Shown()
    try:
        report = export_dataset(plan, arguments.out.expanduser(), shown.show)
    except KeyboardInterrupt:
        shown.end()
        complain("What was written stays; the same command goes on from there.")
        raise
    except AppError:
        shown.end()
        for skipped in plan.skipped:
            complain(skipped.sentence)
        raise
    shown.end()
    _tell(report)
    return EXIT_DONE


def _project(arguments: argparse.Namespace) -> tuple[Project, Path]:
    """The clips, and where captions are that cannot be beside them."""
    if (arguments.project is None) == (arguments.clips is None):
        raise WhichClipsError
    if arguments.project is not None:
        store = ProjectStore(arguments.project.expanduser())
        project, captions_folder = store.load(), store.captions_folder
    else:
        clips = arguments.clips.expanduser().absolute()
        name = re.sub(r'[\\/:*?"<>|\x00-\x1f]', "-", clips.name).strip(". ") or "clips"
        project, captions_folder = import_clips(Project(name=name), [clips]), clips
    settings = project.settings
    for assignment in arguments.assignments:
        settings = settings.with_text(assignment)
    trigger = project.trigger if arguments.trigger is None else arguments.trigger.strip()
    return msgspec.structs.replace(project, settings=settings, trigger=trigger), captions_folder


class _Shown:
    """Progress: one line that renews itself in a terminal, a line every few seconds elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._told = 0.0
        self._width = 0

    def show(self, progress: ExportProgress) -> None:
        """Say how far it is."""
        now = time.monotonic()
        if not progress.name:
            return
        if now - self._told < (0.1 if self._is_terminal else _SECONDS_BETWEEN_LINES):
            return
        self._told = now
        line = f"{100 * progress.share:3.0f} %  {progress.done + 1} of {progress.count}  {progress.name}"
        if self._is_terminal:
            print(f"\r{line[:100]:<{self._width}}", end="", flush=True)
            self._width = min(len(line), 100)
        else:
            say(line)

    def end(self) -> None:
        """Leave the line."""
        if self._width:
            print(f"\r{'':<{self._width}}\r", end="", flush=True)
            self._width = 0


def _tell(report: ExportReport) -> None:
    for note in report.notes:
        say(note)
    for path in report.kept_texts:
        say(f"{path} is not as this export wrote it; it was left as it is.")
    for skipped in report.skipped:
        complain(f"Left out: {skipped.sentence}")
    parts = [f"{report.written} written", f"{report.kept} there already"]
    if report.removed:
        parts.append(f"{report.removed} of an earlier export removed")
    if report.skipped:
        parts.append(f"{len(report.skipped)} left out")
    say(f"Clips: {', '.join(parts)}, in {in_words(report.seconds)}.")
    for path in report.configuration:
        say(f"Configuration: {report.folder / path}")
    say(f"Folder: {report.folder}")
