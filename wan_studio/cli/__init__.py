"""The command line: the same domain and services as the window's, without Qt.

Exit codes: 0 done; 1 the training or some of the captions failed; 2 bad input, said in a sentence on stderr; 3 no plan fits;
130 stopped.
"""

import contextlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from wan_studio.cli.arguments import parse
from wan_studio.cli.caption import run_caption
from wan_studio.cli.console import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_STOPPED, complain
from wan_studio.cli.demo import run_demo
from wan_studio.cli.display import display_problem
from wan_studio.cli.doctor import run_doctor
from wan_studio.cli.export_dataset import run_export_dataset
from wan_studio.cli.plan import run_plan
from wan_studio.cli.runs import run_export, run_resume, run_stop
from wan_studio.cli.train import run_train
from wan_studio.errors import AppError

OpenWindow = Callable[[Path | None], int]


def main(argv: Sequence[str], open_window: OpenWindow) -> int:
    """Run one command.

    Args:
        argv: Arguments after the program's name; empty opens the window.
        open_window: Opens the window on a project (or none) and returns when it is closed.

    Returns:
        The exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        # A file name that the terminal cannot show must not end the program.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return _dispatch(argv, open_window)
    except AppError as error:
        complain(error.message, error.hint)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        complain("Stopped.")
        return EXIT_STOPPED
    except BrokenPipeError:
        # The reader of our output is gone (`| head`); Python would complain once more while it ends.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def _dispatch(argv: Sequence[str], open_window: OpenWindow) -> int:
    arguments = parse(argv)
    match arguments.command:
        case "demo":
            return run_demo(arguments, open_window)
        case "train":
            return run_train(arguments, open_window)
        case "resume":
            return run_resume(arguments)
        case "stop":
            return run_stop(arguments)
        case "export":
            return run_export(arguments)
        case "export-dataset":
            return run_export_dataset(arguments)
        case "caption":
            return run_caption(arguments)
        case "plan":
            return run_plan(arguments)
        case "doctor":
            return run_doctor()
        case _:
            problem = display_problem()
            if problem:
                complain(problem, "Use a command instead; wan-studio --help lists them.")
                return EXIT_BAD_INPUT
            return open_window(None)
