"""Whether a window can be shown, found out without Qt: Qt ends the process when it cannot."""

import os
import re
import sys
from pathlib import Path


def display_problem() -> str:
    """Why no window can be shown, in a sentence; empty when one can."""
    if sys.platform in {"win32", "darwin"}:
        return ""
    wayland = os.environ.get("WAYLAND_DISPLAY")
    runtime_folder = os.environ.get("XDG_RUNTIME_DIR", "")
    if wayland and (Path(runtime_folder) / wayland).exists():
        return ""
    display = os.environ.get("DISPLAY", "")
    if not display:
        return "There is no display to show a window on (neither DISPLAY nor WAYLAND_DISPLAY is set)."
    local = re.match(r"^(?:unix)?:(\d+)", display)
    if local and not Path(f"/tmp/.X11-unix/X{local[1]}").exists():
        return f"The display {display} does not answer."
    return ""
