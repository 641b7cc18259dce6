"""Where things lie: shipped data, the user's data, caches and projects.

`WAN_STUDIO_HOME` moves everything of the user's into one folder (portable installs, tests).
"""

import os
import sys
from pathlib import Path

import platformdirs

APP_FOLDER = "wan-studio"


def user_data_folder() -> Path:
    """Settings, and the trainer's environment where there is one; not made here."""
    home = os.environ.get("WAN_STUDIO_HOME")
    return Path(home) / "data" if home else platformdirs.user_data_path(APP_FOLDER, appauthor=False)


def user_cache_folder() -> Path:
    """Posters and the like; may be deleted at any time; not made here."""
    home = os.environ.get("WAN_STUDIO_HOME")
    return Path(home) / "cache" if home else platformdirs.user_cache_path(APP_FOLDER, appauthor=False)


def default_projects_folder() -> Path:
    """Where new projects go unless told otherwise; not made here."""
    home = os.environ.get("WAN_STUDIO_HOME")
    return Path(home) / "projects" if home else platformdirs.user_documents_path() / "Wan Studio"


def model_downloads_folder() -> Path:
    """Where models of the Hugging Face Hub are kept, by the Hub's own rules; not made here."""
    direct, home = os.environ.get("HF_HUB_CACHE"), os.environ.get("HF_HOME")
    if direct:
        return Path(direct).expanduser()
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return (Path(home) if home else caches / "huggingface").expanduser() / "hub"


def resource(relative: str) -> Path:
    """A file or folder that ships with the program, e.g. ``presets/motion.toml``.

    Raises:
        FileNotFoundError: it is in none of the layouts (source, wheel, frozen); the installation
            is not whole.
    """
    for root in _resource_roots():
        path = root / relative
        if path.exists():
            return path
    raise FileNotFoundError(
        f"The shipped file {relative} is missing in {_resource_roots()[0]}. Install Wan Studio again."
    )


def _resource_roots() -> list[Path]:
    override = os.environ.get("WAN_STUDIO_RESOURCES")
    if override:
        # It alone, as for the trainer: the two must not find different models.
        return [Path(override)]
    package = Path(__file__).resolve().parent
    roots = [package.parent / "resources", package / "resources"]
    frozen = getattr(sys, "_MEIPASS", None)
    if frozen:
        roots.insert(0, Path(frozen) / "resources")
    return roots
