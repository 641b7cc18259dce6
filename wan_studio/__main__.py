"""`wan-studio`: the command line, or the window when no command is given."""

import sys
from pathlib import Path

from wan_studio.cli import main as run_command


def main() -> None:
    """Entry point of the program; ends the process with its exit code."""
    sys.exit(run_command(sys.argv[1:], open_window))


def open_window(project_folder: Path | None) -> int:
    """Open the window; only here is Qt loaded, so that commands work on machines without it."""
    from wan_studio.app import run_window

    return run_window(project_folder)


if __name__ == "__main__":
    main()
