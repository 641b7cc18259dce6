"""Files that ship with the program, told in a sentence when the installation lacks one."""

from pathlib import Path

from wan_studio.errors import AppError
from wan_studio.paths import resource


class ShippedFileError(AppError):
    """A file that ships with the program is not there."""

    def __init__(self, relative: str) -> None:
        super().__init__(
            f"The file {relative}, which ships with Wan Studio, is missing.", "Install Wan Studio again."
        )


def shipped_file(relative: str) -> Path:
    """A file or folder that ships with the program, e.g. ``presets/motion.toml``.

    Raises:
        ShippedFileError: the installation is not whole.
    """
    try:
        return resource(relative)
    except FileNotFoundError as error:
        raise ShippedFileError(relative) from error
