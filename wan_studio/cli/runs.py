"""Commands on runs that exist: resume, stop, export; and how every training ends in the terminal."""

import argparse
from pathlib import Path

from trainer.protocol.commands import Stop
from trainer.protocol.run_folder import RunFolder
from trainer.protocol.wire import WireError
from wan_studio.cli.console import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED, complain, say
from wan_studio.cli.follow import follow, report_failure
from wan_studio.domain.run_state import Outcome, RunState
from wan_studio.errors import AppError
from wan_studio.services.fallback import Offer, attempts_of, go_on, offer_for
from wan_studio.services.project_store import ProjectStore
from wan_studio.services.run_process import ExportForm, RunBusyError, export_run, resume_run
from wan_studio.services.run_store import RunStore, current_state


class NoRunError(AppError):
    """A path is no run and no project with runs."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path} {problem}", "Give a run's folder (it holds job.json) or a project's.")


class RunNotLiveError(AppError):
    """A run that should be stopped has no trainer."""

    def __init__(self, run: RunFolder, state: RunState) -> None:
        super().__init__(f"No trainer works on {run.path}: it is {state.outcome.value}.")


def find_run(path: Path) -> RunFolder:
    """The run in this folder, or the latest of the project in it.

    Raises:
        NoRunError: it is neither.
    """
    path = path.expanduser().absolute()
    if (path / "job.json").is_file():
        return RunFolder(path)
    if not path.exists():
        raise NoRunError(path, "does not exist.")
    if not ProjectStore(path).exists:
        raise NoRunError(path, "is neither a run nor a project.")
    runs = RunStore(ProjectStore(path).runs_folder).runs()
    if not runs:
        raise NoRunError(path, "is a project without a run.")
    return runs[0]


def run_resume(arguments: argparse.Namespace) -> int:
    """Go on with a run, or follow it when it is live; returns the exit code."""
    run = find_run(arguments.run)
    state = current_state(run)
    if state.outcome is Outcome.COMPLETED:
        say(f"{run.path} is complete: all {state.step} steps are done.")
        return finish(run, state)
    if state.has_ended:
        takes_plan = arguments.continue_by_itself and not arguments.assignments
        went_on = _gone_on(run, state) if takes_plan else None
        if went_on is None:
            resume_run(run, memory=arguments.assignments)
            say(f"Resuming {run.path}")
        run = went_on or run
    elif arguments.assignments:
        raise RunBusyError(run)
    else:
        say(f"A trainer works on {run.path}")
    return follow_to_the_end(run, continues_by_itself=arguments.continue_by_itself)


def run_stop(arguments: argparse.Namespace) -> int:
    """Ask a live run to stop and wait until it has saved; returns the exit code."""
    run = find_run(arguments.run)
    state = current_state(run)
    if state.has_ended:
        raise RunNotLiveError(run, state)
    run.send(Stop())
    ended = follow(run)
    if ended is None or ended.outcome in {Outcome.STOPPED, Outcome.COMPLETED}:
        say(ended.summary if ended else "It goes on until it has saved.")
        return EXIT_DONE
    report_failure(run, ended)
    return EXIT_FAILED


def run_export(arguments: argparse.Namespace) -> int:
    """Write and verify the LoRA pair; returns the exit code."""
    run = find_run(arguments.run)
    out = arguments.out.expanduser().absolute() if arguments.out else None
    form = ExportForm(format=arguments.format, dtype=arguments.dtype, strength=arguments.strength)
    _say_files(export_run(run, arguments.step, out, arguments.name, form))
    return EXIT_DONE


def follow_to_the_end(run: RunFolder, *, continues_by_itself: bool = False) -> int:
    """Follow a run, then export or say why there is nothing to; returns the exit code.

    Args:
        run: To follow.
        continues_by_itself: Whether it goes on with the next plan where GPU memory runs out, once for each rung of
            the ladder.
    """
    state = follow(run)
    while continues_by_itself and state is not None:
        went_on = _gone_on(run, state)
        if went_on is None:
            break
        run, state = went_on, follow(went_on)
    if state is None:
        complain(f"The trainer goes on in the background. Follow it with: {_command('resume', run)}")
        return EXIT_STOPPED
    match state.outcome:
        case Outcome.COMPLETED:
            return finish(run, state)
        case Outcome.STOPPED:
            complain(state.summary, f"Go on with: {_command('resume', run)}")
            return EXIT_STOPPED
        case _:
            report_failure(run, state)
            offer = None if continues_by_itself else _told_offer(run, state)
            takes_plan = " --continue-by-itself" if offer is not None and offer.plan is not None else ""
            complain(f"Go on with: {_command('resume', run)}{takes_plan}")
            return EXIT_FAILED


def finish(run: RunFolder, state: RunState) -> int:
    """Export a complete run, unless it is exported already, and print its files; returns the exit code."""
    files = sorted(run.exports_folder.glob("*.safetensors")) or export_run(run)
    last = max((preview.step for preview in state.previews), default=0)
    for preview in state.previews:
        if preview.step == last:
            say(f"Preview at step {preview.step}: {run.path / preview.video}")
    _say_files(files)
    return EXIT_DONE


def _gone_on(run: RunFolder, state: RunState) -> RunFolder | None:
    """The run that goes on with the next plan where GPU memory ran out; None where none does."""
    offer = _told_offer(run, state)
    if offer is None or offer.plan is None:
        return None
    went_on = go_on(offer, state, by_itself=True)
    say(attempts_of(went_on)[-1].sentence)
    if went_on.path != run.path:
        say(f"Run: {went_on.path}")
    return went_on


def _told_offer(run: RunFolder, state: RunState) -> Offer | None:
    """What a run that ran out of memory can go on with, said on the terminal; None where it did not, or cannot."""
    try:
        offer = offer_for(run, state)
    except WireError as error:
        complain(str(error))
        return None
    if offer is None:
        return None
    say(offer.shortage)
    if offer.plan is None:
        say("No change is left that would let it go on.")
        for way in offer.ways_out:
            say(f"  {way}")
    else:
        say(f"Next plan: {offer.plan.sentence}")
    return offer


def _say_files(files: list[Path]) -> None:
    for path in files:
        kind = "high-noise" if "_high_noise" in path.name else "low-noise"
        say(f"LoRA of the {kind} expert: {path}")


def _command(name: str, run: RunFolder) -> str:
    path = str(run.path)
    return f'wan-studio {name} "{path}"' if " " in path else f"wan-studio {name} {path}"
