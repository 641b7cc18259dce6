"""`caption`: captions by a local vision-language model, printed, and written where there is none."""

import argparse
import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from trainer.protocol.commands import Stop
from trainer.protocol.events import CaptionFailed, CaptionMade, Phase, PhaseStarted, Warned
from trainer.protocol.run_folder import RunFolder
from wan_studio.cli.console import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FAILED, EXIT_STOPPED, complain, say
from wan_studio.domain.auto_caption import CaptionOptions, Memory, Proposal
from wan_studio.domain.project import Goal, Project, ProjectClip
from wan_studio.domain.run_state import Outcome, RunState
from wan_studio.errors import AppError
from wan_studio.paths import user_data_folder
from wan_studio.services.auto_captions import (
    Order,
    build_order,
    end_captioning,
    proposals_of,
    start_captioning,
)
from wan_studio.services.caption_batch import CaptionWrite, write_captions
from wan_studio.services.caption_history import CaptionHistory
from wan_studio.services.caption_store import CaptionEncodingError, CaptionFileError, read_caption
from wan_studio.services.clip_import import import_clips
from wan_studio.services.preset_store import settings_for
from wan_studio.services.run_process import process_runs
from wan_studio.services.run_store import RunFollower
from wan_studio.services.trainer_runtime import find_trainer_python

POLL_SECONDS = 0.2
STOP_SECONDS = 8.0
"""How long the trainer may take to end once it is told to."""

_MEMORY: dict[int, Memory] = {16: "none", 8: "int8", 4: "nf4"}


class CaptionOptionError(AppError):
    """A number that was given is none that can be."""


class InstructionsError(AppError):
    """The file with instructions cannot be read."""

    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(
            f"The instructions {path} cannot be read ({error}).",
            "Give a UTF-8 text file with some words in it.",
        )


@dataclass(slots=True)
class _Work:
    """The clips, and what has come of them so far.

    Attributes:
        before: What each caption says; None where that cannot be read.
        told: What was said of each clip, in the order in which it was told.
    """

    project: Project
    before: dict[str, str | None]
    is_dry: bool
    is_json: bool
    told: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])

    @property
    def failed(self) -> int:
        """Clips of which nothing came."""
        return sum(bool(one["problem"]) for one in self.told.values())

    def tell(self, clip: ProjectClip, proposal: Proposal | None, problem: str = "", note: str = "") -> None:
        """Print what came of a clip, or keep it for the end."""
        written = False
        if proposal is not None and proposal.text and not self.is_dry:
            problem = self._write(clip, proposal.text)
            written = not problem
        self.told[clip.id] = {
            "clip": clip.source,
            "caption_file": clip.caption_file,
            "caption": self.before[clip.id],
            "proposed": None if proposal is None else proposal.text or None,
            "written": written,
            "problem": problem,
        }
        if self.is_json:
            return
        name = clip.name
        if problem:
            complain(f"{name}: {problem}")
            return
        outcome = "written" if written else note or "not written"
        say(f"{name} ({outcome})" + (f"\n  {proposal.text}" if proposal is not None else ""))

    def _write(self, clip: ProjectClip, text: str) -> str:
        """Write a caption; returns why not."""
        path = Path(clip.caption_file)
        write = CaptionWrite(clip.id, path, (self.before[clip.id] or "",), text)
        outcome = write_captions([write], CaptionHistory(user_data_folder()), "Automatic caption")
        if clip.id in outcome.changed_outside:
            return f"{path} was changed meanwhile; it was left alone."
        error = outcome.failed.get(clip.id)
        return "" if error is None else str(error)


def run_caption(arguments: argparse.Namespace) -> int:
    """Describe the clips; returns the exit code.

    Raises:
        AppError: something that was given is wrong; nothing has been written.
    """
    options = _options(arguments)
    find_trainer_python()
    goal: Goal = arguments.goal
    project = Project(
        name="captions", goal=goal, trigger=arguments.trigger.strip(), settings=settings_for(goal)
    )
    # Without a folder for those whose own cannot be written: that is then said.
    project = import_clips(project, [arguments.clips.expanduser().absolute()])
    work = _Work(project, {}, is_dry=arguments.dry_run, is_json=arguments.json)
    wanted = _wanted(work, overwrite=arguments.overwrite == "all")
    code = _describe(work, Order(wanted, options)) if wanted else EXIT_DONE
    if arguments.json:
        say(json.dumps(list(work.told.values()), indent=2, ensure_ascii=False))
    return code


def _options(arguments: argparse.Namespace) -> CaptionOptions:
    instructions: dict[str, str] = {}
    if arguments.instructions is not None:
        try:
            words = arguments.instructions.expanduser().read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InstructionsError(arguments.instructions, error) from error
        if not words:
            raise InstructionsError(arguments.instructions, ValueError("it is empty"))
        instructions = {arguments.goal: words}
    model = arguments.model
    folder = Path(model).expanduser()
    try:
        return msgspec.convert(
            {
                "model": str(folder.absolute()) if folder.exists() else model,
                "instructions": instructions,
                "frames": arguments.frames,
                "max_new_tokens": arguments.max_tokens,
                "temperature": arguments.temperature,
                "memory": _MEMORY[arguments.bits],
                "gpu": None if arguments.cpu else arguments.gpu,
            },
            CaptionOptions,
        )
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$.")
        name = {"max_new_tokens": "max-tokens"}.get(place.rstrip("`"), place.rstrip("`"))
        problem = problem.replace("`", "")
        raise CaptionOptionError(f"--{name} cannot be that: {problem[:1].lower()}{problem[1:]}.") from error


def _wanted(work: _Work, *, overwrite: bool) -> list[str]:
    """The clips to describe; of the others it is told why not."""
    wanted: list[str] = []
    for clip in work.project.clips:
        try:
            text = read_caption(Path(clip.caption_file)).text
        except (CaptionEncodingError, CaptionFileError) as error:
            work.before[clip.id] = None
            work.tell(clip, None, problem=str(error))
            continue
        work.before[clip.id] = text
        if overwrite or not text.strip():
            wanted.append(clip.id)
        else:
            work.tell(clip, None, note="has a caption")
    return wanted


def _describe(work: _Work, order: Order) -> int:
    built = build_order(work.project, order)
    for clip_id, one in built.problems.items():
        work.tell(work.project.clip(clip_id), None, problem=one.problem)
    if built.request is None:
        return EXIT_FAILED
    with tempfile.TemporaryDirectory(prefix="wan-studio-", ignore_cleanup_errors=True) as folder:
        run = start_captioning(Path(folder), built.request)
        state = _follow(work, run)
        tail = run.log_tail(15)
    if state is None or state.outcome is Outcome.STOPPED:
        complain("Stopped.")
        return EXIT_STOPPED
    if state.outcome is Outcome.COMPLETED:
        return EXIT_FAILED if work.failed else EXIT_DONE
    if state.outcome is Outcome.CRASHED:
        complain(f"The end of the trainer's log:\n{tail}\n")
    complain(state.summary, state.hint if state.outcome is Outcome.FAILED else "")
    return EXIT_BAD_INPUT if state.failure_kind == "caption_model" else EXIT_FAILED


def _follow(work: _Work, run: RunFolder) -> RunState | None:
    """Tell of each caption as it comes; Ctrl+C lets the trainer end. None where it did not by itself."""
    follower = RunFollower(run)
    deadline = 0.0
    while True:
        try:
            state = follower.update()
            _tell_news(work, follower)
            if state.has_ended and not process_runs(run):
                return state
            if deadline and time.monotonic() > deadline:
                end_captioning(run)
                return None
            time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            if deadline:
                end_captioning(run)
                return None
            deadline = time.monotonic() + STOP_SECONDS
            run.send(Stop())


def _tell_news(work: _Work, follower: RunFollower) -> None:
    for event in follower.new_events:
        match event:
            case CaptionMade() | CaptionFailed():
                for clip_id, one in proposals_of([event], work.project).items():
                    clip = work.project.clip(clip_id)
                    work.tell(clip, None if one.problem else one, problem=one.problem)
            case PhaseStarted(phase=Phase.LOADING) if not work.is_json:
                say("Loading the model")
            case Warned():
                complain(event.message, event.hint)
            case _:
                pass
