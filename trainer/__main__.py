"""``python -m trainer run | resume | rehearse | caption | export | preview | lora | measure``: argv to recipe, errors to exit codes."""

import argparse
import contextlib
import logging
import math
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from trainer.errors import TrainerError
from trainer.protocol.captioning import read_request
from trainer.protocol.events import RunFinished
from trainer.protocol.job import JobSpec
from trainer.protocol.memory_settings import MemorySettingError, memory_settings, with_memory
from trainer.protocol.run_folder import RunFolder, RunLockedError, read_job_file
from trainer.protocol.wire import WireError
from trainer.recipes.lora_verb import add_export_options, add_lora_verb, run_tool
from trainer.recipes.measure_verb import add_measure_options, run_measure
from trainer.runtime.control import Control, FollowingControl
from trainer.runtime.quick_stop import quick_stop
from trainer.runtime.reporter import Reporter, SilentReporter, failure

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_LOCKED = 3
EXIT_OUT_OF_MEMORY = 4


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    if sys.platform == "linux":
        # Before torch is loaded. Buckets of many sizes leave holes in memory that is reserved piece by piece;
        # what the user has set stays.
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.captureWarnings(capture=True)
    return options.verb(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    run = verbs.add_parser("run", help="train from a job file")
    run.add_argument("job", type=Path)
    run.add_argument("--run-dir", type=Path, required=True, help="folder of the run; made if needed")
    run.set_defaults(verb=_run)

    resume = verbs.add_parser("resume", help="go on from the newest checkpoint")
    resume.add_argument("run_dir", type=Path)
    resume.add_argument(
        "--set",
        action="append",
        default=[],
        dest="assignments",
        metavar="SECTION.FIELD=VALUE",
        help="another setting of memory, e.g. model.layer_offloading=0.6 (may be repeated)",
    )
    resume.set_defaults(verb=_resume)

    rehearse = verbs.add_parser(
        "rehearse", help="do once all that a run will need memory and time for; trains and saves nothing"
    )
    rehearse.add_argument("run_dir", type=Path, help="folder with a job.json, of no run that has begun")
    rehearse.add_argument("--steps", type=_positive, default=2, help="timed, of each expert; 2 unless given")
    rehearse.add_argument(
        "--cap", type=_finite, default=0.0, metavar="GIB", help="emulate a card of this size"
    )
    rehearse.add_argument(
        "--random", action="store_true", help="random weights of the real model's shapes, not the base's"
    )
    rehearse.set_defaults(verb=_rehearse)

    caption = verbs.add_parser("caption", help="describe clips with a vision-language model, in events alone")
    caption.add_argument("request", type=Path, help="file with the model, the clips and the instructions")
    caption.add_argument("--run-dir", type=Path, required=True, help="folder of the events; made if needed")
    caption.set_defaults(verb=_caption)

    export = verbs.add_parser("export", help="write verified LoRA files; prints their paths")
    export.add_argument("run_dir", type=Path)
    export.add_argument("--step", type=int, help="checkpoint; the newest unless given")
    export.add_argument("--out", type=Path, help="folder; the run's exports unless given")
    export.add_argument("--name", help="file name stem; the run's name unless given")
    add_export_options(export)
    export.set_defaults(verb=_export)

    preview = verbs.add_parser("preview", help="render previews of a checkpoint; prints their paths")
    preview.add_argument("run_dir", type=Path)
    preview.add_argument("--checkpoint", type=int, metavar="STEP", help="the newest unless given")
    preview.add_argument(
        "--high", type=int, metavar="STEP", help="another checkpoint for the high-noise expert"
    )
    preview.add_argument(
        "--low", type=int, metavar="STEP", help="another checkpoint for the low-noise expert"
    )
    preview.add_argument("--strength", type=_finite, default=1.0, help="of both LoRAs; 1 unless given")
    preview.set_defaults(verb=_preview)

    add_lora_verb(verbs, _lora)

    measure = verbs.add_parser("measure", help="seconds, memory and precision of training steps here")
    add_measure_options(measure)
    measure.set_defaults(verb=_measure)
    return parser


def _run(options: argparse.Namespace) -> int:
    run = RunFolder(options.run_dir)
    try:
        job = read_job_file(options.job)
        if options.job.resolve() != run.job_file.resolve() and not _joins(run, job):
            run.create(job)
    except FileExistsError:
        return _refuse(f"{run.path} holds a run already; use `resume`, or choose another folder.")
    except WireError as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(f"{run.path} cannot be written: {error.strerror or error}.")
    return _train(run, job)


def _resume(options: argparse.Namespace) -> int:
    run = RunFolder(options.run_dir)
    try:
        memory = memory_settings(options.assignments)
        job = with_memory(run.read_job(), memory)
    except WireError as error:
        return _refuse(f"There is no run to resume: {error}")
    except MemorySettingError as error:
        return _refuse(str(error))
    return _train(run, job, memory)


def _joins(run: RunFolder, job: JobSpec) -> bool:
    """Whether this process, one of torchrun's, goes on with a run of this very job that is there already.

    torchrun starts all with the same words, also again when a machine has left or joined.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return False
    return _is_follower() or (run.job_file.exists() and read_job_file(run.job_file) == job)


def _is_follower() -> bool:
    """Whether another process speaks and writes for this one."""
    return int(os.environ.get("RANK", "0")) > 0


def _follow(run: RunFolder, job: JobSpec) -> int:
    """Train along, in silence."""
    reporter = SilentReporter()
    control = FollowingControl(run, reporter)
    control.listen_to_signals()
    return _reported(reporter, lambda: _import_and_train(run, job, reporter, control))


def _train(run: RunFolder, job: JobSpec, memory: dict[str, str] | None = None) -> int:
    if _is_follower():
        return _follow(run, job)
    if job.job.more_gpus and "WORLD_SIZE" not in os.environ:
        from trainer.runtime.launch import launch

        changes = [word for name, value in (memory or {}).items() for word in ("--set", f"{name}={value}")]
        return launch(1 + len(job.job.more_gpus), ["resume", str(run.path), *changes])

    def begin() -> None:
        if memory:
            run.change_memory(memory)

    return _held(run, lambda *told: _import_and_train(run, job, *told), begin)


def _rehearse(options: argparse.Namespace) -> int:
    run = RunFolder(options.run_dir)
    try:
        job = run.read_job()
    except WireError as error:
        return _refuse(f"There is no job to rehearse: {error}")
    if run.checkpoint_steps():
        return _refuse(f"{run.path} holds a run that has begun; rehearse its job in a folder of its own.")

    def work(reporter: Reporter, control: Control) -> None:
        from trainer.recipes.rehearse import Rehearsal, rehearse

        rehearse(run, job, reporter, control, Rehearsal(options.steps, options.cap, options.random))

    return _held_loosely(run, work)


def _caption(options: argparse.Namespace) -> int:
    try:
        request = read_request(options.request)
    except WireError as error:
        return _refuse(str(error))

    def work(reporter: Reporter, control: Control) -> None:
        from trainer.recipes.caption_clips import caption_clips

        caption_clips(request, reporter, control)

    return _held_loosely(RunFolder(options.run_dir), work)


def _held_loosely(run: RunFolder, work: Callable[[Reporter, Control], None]) -> int:
    """As `_held`, for work that keeps nothing and so ends at once when it is told to stop."""

    def stoppable(reporter: Reporter, control: Control) -> None:
        def leave() -> None:
            reporter.say(RunFinished(reason="stopped", step=0))
            reporter.close()
            os._exit(EXIT_DONE)

        # Around the imports, too: they take seconds.
        with quick_stop(run, control, leave):
            work(reporter, control)

    return _held(run, stoppable)


def _held(
    run: RunFolder, work: Callable[[Reporter, Control], None], begin: Callable[[], None] = lambda: None
) -> int:
    """Do the work, and before it what needs no reporting, while no other process can work on the run."""
    try:
        # The lock first: torch takes seconds to import, and the app should see the run alive.
        with run.hold_lock(), Reporter(run) as reporter:
            begin()
            control = Control(run, reporter)
            control.forget_commands_before(psutil.Process().create_time())
            control.listen_to_signals()
            return _reported(reporter, lambda: work(reporter, control))
    except RunLockedError:
        return _refuse(f"Another trainer works on {run.path}; wait for it, or stop it.", EXIT_LOCKED)
    except OSError as error:
        return _refuse(f"{run.path} cannot be written: {error.strerror or error}.")


def _import_and_train(run: RunFolder, job: JobSpec, reporter: Reporter, control: Control) -> None:
    from trainer.recipes.train_lora import train_lora

    train_lora(run, job, reporter, control)


def _reported(reporter: Reporter, work: Callable[[], None]) -> int:
    """Do the work; whatever ends it early becomes the run's last event."""
    try:
        work()
    except Exception as error:  # noqa: BLE001 - the last door: an unknown fault must still be told
        _print_trace()
        failed = failure(error)
        reporter.say(failed)
        return EXIT_OUT_OF_MEMORY if failed.kind == "out_of_memory" else EXIT_FAILED
    return EXIT_DONE


def _print_trace() -> None:
    """Write the trace into the log; a full disk must not keep the event from being said."""
    with contextlib.suppress(OSError):
        traceback.print_exc()


def _export(options: argparse.Namespace) -> int:
    from trainer.output.export import ExportOptions
    from trainer.recipes.export_lora import ExportRequest, export_lora

    made_so = ExportOptions(options.format, options.dtype, options.strength)
    request = ExportRequest(step=options.step, folder=options.out, name=options.name, options=made_so)
    return _printed(lambda: export_lora(RunFolder(options.run_dir), request))


def _preview(options: argparse.Namespace) -> int:
    from trainer.recipes.render_previews import PreviewRequest, render_checkpoint

    run = RunFolder(options.run_dir)
    request = PreviewRequest(options.checkpoint, options.high, options.low, options.strength)
    try:
        return _printed(lambda: render_checkpoint(run, request))
    except RunLockedError:
        return _refuse(f"Another trainer works on {run.path}; wait for it, or stop it.", EXIT_LOCKED)


def _finite(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text} is no number")
    return number


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of 1 or more")
    return int(text)


def _lora(options: argparse.Namespace) -> int:
    return _printed(lambda: run_tool(options))


def _measure(options: argparse.Namespace) -> int:
    return _printed(lambda: run_measure(options))


def _printed(work: Callable[[], Sequence[object]]) -> int:
    """Do the work and print what it made, one a line, paths first, for scripts."""
    try:
        lines = work()
    except (TrainerError, WireError) as error:
        return _refuse(str(error), EXIT_FAILED)
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return EXIT_DONE


def _refuse(message: str, code: int = EXIT_BAD_INPUT) -> int:
    sys.stderr.write(f"error: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
