"""What can end an export, or one of its clips."""

from pathlib import Path

from wan_studio.errors import AppError


class NoRoomError(AppError):
    """The disk is full."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"The disk of {folder} is full.",
            "Make room, or choose a folder on another disk. The next export goes on where this one stopped.",
        )


class ExportCancelledError(AppError):
    """The export was cancelled."""

    def __init__(self) -> None:
        super().__init__("The export was cancelled.", "The next one goes on where this one stopped.")


class ClipNotWrittenError(AppError):
    """One clip could not be written; others can."""
