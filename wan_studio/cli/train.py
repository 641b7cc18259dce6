"""`train`: from a folder of clips to a LoRA pair. Everything is checked before anything is written."""

import argparse
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from trainer.protocol.run_folder import RunFolder
from wan_studio.cli.console import EXIT_DONE, say
from wan_studio.cli.display import display_problem
from wan_studio.cli.runs import follow_to_the_end
from wan_studio.cli.train_plan import with_plan
from wan_studio.domain.job_builder import BuiltJob
from wan_studio.domain.project import (
    Project,
    ProjectDataset,
    Role,
    Settings,
    checked_name,
    split_assignment,
)
from wan_studio.domain.recommend import Flavour
from wan_studio.errors import AppError
from wan_studio.paths import default_projects_folder
from wan_studio.services.base_models import absolute_base, absolute_model, check_base_model
from wan_studio.services.clip_import import import_clips
from wan_studio.services.job_preparation import prepare_job
from wan_studio.services.preset_store import settings_for
from wan_studio.services.project_store import ProjectStore
from wan_studio.services.run_process import start_run
from wan_studio.services.run_store import RunStore, current_state
from wan_studio.services.trainer_runtime import find_trainer_python

NOTES_SHOWN = 20

OpenWindow = Callable[[Path | None], int]


@dataclass(frozen=True, slots=True)
class Shown:
    """How a run is followed.

    Attributes:
        is_headless: In the terminal, even where there is a display.
        continues_by_itself: In the terminal: whether it goes on with the next plan where GPU memory runs out.
    """

    is_headless: bool
    continues_by_itself: bool = False


class OutputFolderError(AppError):
    """The project folder cannot be made or written."""

    def __init__(self, folder: Path, problem: str) -> None:
        super().__init__(
            f"The project folder {folder} cannot be used: {problem}.", "Choose another with --out."
        )


class RunIsLiveError(AppError):
    """The project trains already."""

    def __init__(self, run: RunFolder) -> None:
        super().__init__(
            f"This project is training already: {run.path}.",
            "Wait until it is done, stop it, or choose another project folder with --out.",
        )


def run_train(arguments: argparse.Namespace, open_window: OpenWindow) -> int:
    """Train; returns the exit code.

    Raises:
        AppError: something that was given is wrong; nothing has been written.
    """
    base = absolute_base(arguments.model)
    clips = arguments.clips.expanduser().absolute()
    name = checked_name(
        arguments.name or re.sub(r'[\\/:*?"<>|\x00-\x1f]', "-", clips.name).strip(". ") or "lora"
    )
    folder = arguments.out.expanduser().absolute() if arguments.out else default_folder(f"{name}-lora")
    store = ProjectStore(folder)
    check_writable(folder)
    project, begins_anew = _project(arguments, store, name, base)
    check_base_model(project.settings.model)
    # Before the clips, whose folder may hold these folders.
    for role, given in _extra_folders(arguments).items():
        project = import_clips(project, [given.expanduser().absolute()], store.captions_folder, role)
    project = import_clips(project, [clips], store.captions_folder)
    if begins_anew and arguments.plan != "none":
        project = with_plan(project, store, Flavour(arguments.plan), _given_fields(arguments))
    built = prepare_job(project, store, refuse_unreadable=not arguments.skip_unreadable)
    shown = Shown(is_headless=arguments.headless, continues_by_itself=arguments.continue_by_itself)
    return train_project(store, project, built, open_window, shown)


def train_project(
    store: ProjectStore, project: Project, built: BuiltJob, open_window: OpenWindow, shown: Shown
) -> int:
    """Save the project, start the run, and show it in the window or the terminal; returns the exit code."""
    find_trainer_python()
    runs = RunStore(store.runs_folder)
    for run in runs.runs():
        if not current_state(run).has_ended:
            raise RunIsLiveError(run)
    for note in built.notes[:NOTES_SHOWN]:
        say(note)
    if len(built.notes) > NOTES_SHOWN:
        say(f"And {len(built.notes) - NOTES_SHOWN} more notes of this kind.")
    store.save(project)
    run = runs.new_run(project.name)
    start_run(run, built.job)
    say(f"Project: {store.folder}")
    say(f"Run: {run.path}")
    return show_run(store, run, open_window, shown)


def show_run(store: ProjectStore, run: RunFolder, open_window: OpenWindow, shown: Shown) -> int:
    """Show a live run in the window where there is a display, else in the terminal; returns the exit code."""
    if shown.is_headless or display_problem():
        return follow_to_the_end(run, continues_by_itself=shown.continues_by_itself)
    open_window(store.folder)
    if not current_state(run).has_ended:
        say(f'The trainer goes on in the background. Follow it with: wan-studio resume "{run.path}"')
    return EXIT_DONE


def default_folder(name: str) -> Path:
    """A project folder of this name among the user's projects."""
    return default_projects_folder() / name


def check_writable(folder: Path) -> None:
    """Make sure that a folder can be made and written; leaves nothing behind.

    Raises:
        OutputFolderError: it cannot.
    """
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise OutputFolderError(folder, f"{place} is a file")
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise OutputFolderError(folder, f"{place} cannot be written ({error.strerror or error})") from error


def _project(
    arguments: argparse.Namespace, store: ProjectStore, name: str, base: str
) -> tuple[Project, bool]:
    """The project to train: the one that is there, or a new one; what was given on the command line wins.

    Also whether its settings begin anew, because it, its goal or its base is new.
    """
    is_same = False
    if store.exists:
        project = store.load()
        is_same = (project.goal, project.settings.model.base) == (arguments.goal, base)
        settings = project.settings if is_same else settings_for(arguments.goal, base)
        say(f"Going on with the project in {store.folder}.")
        name = checked_name(arguments.name) if arguments.name else project.name
    else:
        project, settings = Project(name=name), settings_for(arguments.goal, base)
    for role in _extra_folders(arguments):
        if project.dataset(role) is None:
            project = project.with_dataset(ProjectDataset(name=role, role=role))
    trigger = project.trigger if arguments.trigger is None else arguments.trigger.strip()
    for assignment in arguments.assignments:
        section, field, value = split_assignment(assignment)
        dataset = project.dataset(section)
        match section, field:
            case "job", "name":
                name = checked_name(value)
            case "job", "trigger":
                trigger = value
            case _ if dataset is not None:
                project = project.with_dataset(dataset.with_text(field, value))
            case _:
                settings = settings.with_text(assignment)
    settings = _with_flags(settings, arguments)
    settings = msgspec.structs.replace(settings, model=absolute_model(settings.model))
    changed = msgspec.structs.replace(
        project, name=name, goal=arguments.goal, trigger=trigger, settings=settings
    )
    return changed, not is_same


def _given_fields(arguments: argparse.Namespace) -> frozenset[str]:
    """The settings that were given on the command line, as "section.field"."""
    given = {".".join(split_assignment(one)[:2]) for one in arguments.assignments}
    given |= {"datasets.num_frames"} if arguments.frames is not None else set()
    given |= {"datasets.resolutions"} if arguments.resolution is not None else set()
    return frozenset(given)


def _extra_folders(arguments: argparse.Namespace) -> dict[Role, Path]:
    """The given folders of further data sets, by what they are for."""
    given: dict[Role, Path | None] = {
        "regularization": arguments.regularization,
        "validation": arguments.validation,
    }
    return {role: folder for role, folder in given.items() if folder is not None}


def _with_flags(settings: Settings, arguments: argparse.Namespace) -> Settings:
    if arguments.steps is not None:
        settings = settings.with_values({"training": {"steps": arguments.steps}})
    if arguments.frames is not None:
        settings = settings.with_values({"datasets": {"num_frames": arguments.frames}})
    if arguments.resolution is not None:
        settings = settings.with_text(f"datasets.resolutions={arguments.resolution}")
    return settings
