"""`demo`: the whole way on made-up clips and the miniature; a second start goes on with what is there."""

import argparse
from collections.abc import Callable
from pathlib import Path

from wan_studio.cli.console import say
from wan_studio.cli.display import display_problem
from wan_studio.cli.runs import finish
from wan_studio.cli.train import Shown, check_writable, default_folder, show_run, train_project
from wan_studio.domain.run_state import Outcome
from wan_studio.services.demo_project import DEMO_NAME, make_demo_project
from wan_studio.services.job_preparation import prepare_job
from wan_studio.services.run_process import resume_run
from wan_studio.services.run_store import RunStore, current_state
from wan_studio.services.trainer_runtime import find_trainer_python


def run_demo(arguments: argparse.Namespace, open_window: Callable[[Path | None], int]) -> int:
    """Make the demo's clips and project, train, preview and export; returns the exit code."""
    find_trainer_python()
    folder = arguments.out.expanduser().absolute() if arguments.out else default_folder(DEMO_NAME)
    check_writable(folder)
    say(f"Demo project: {folder}")
    store = make_demo_project(folder, _say_progress)
    runs = RunStore(store.runs_folder).runs()
    if not runs:
        project = store.load()
        built = prepare_job(project, store)
        return train_project(store, project, built, open_window, Shown(is_headless=arguments.headless))
    run = runs[0]
    state = current_state(run)
    if state.outcome is Outcome.COMPLETED:
        say(f"The demo is trained already: {run.path}")
        if arguments.headless or display_problem():
            return finish(run, state)
        return open_window(store.folder)
    if state.has_ended:
        say(f"The demo goes on from step {state.step}.")
        resume_run(run)
    return show_run(store, run, open_window, Shown(is_headless=arguments.headless))


def _say_progress(done: int, total: int) -> None:
    if done == total:
        say(f"{total} clips of orbiting scenes are ready.")
