"""What the app remembers between starts; nothing that a project needs."""

import contextlib
from pathlib import Path

import msgspec
from msgspec import Struct

from trainer.protocol.wire import write_json
from wan_studio.paths import user_data_folder

MOST_RECENT_PROJECTS = 12


class AppSettings(Struct, frozen=True, kw_only=True):
    """The app's memory; an older app ignores what a newer one added.

    Attributes:
        recent_projects: Project folders, latest first.
        window_geometry: Position and size of the main window, base64 of Qt's bytes.
        window_state: Its splitters and docks, base64 of Qt's bytes.
        open_expanders: Names of the page sections that the user opened.
        theme: Colours: as the system, dark or light.
        values: Anything else that a page remembers, by name.
    """

    recent_projects: tuple[str, ...] = ()
    window_geometry: str = ""
    window_state: str = ""
    open_expanders: tuple[str, ...] = ()
    theme: str = "system"
    values: dict[str, str] = {}

    def with_recent_project(self, folder: Path) -> "AppSettings":
        """A copy in which this project is the latest."""
        latest = str(folder.resolve())
        others = (other for other in self.recent_projects if other != latest)
        return msgspec.structs.replace(self, recent_projects=(latest, *others)[:MOST_RECENT_PROJECTS])

    def without_recent_project(self, folder: str) -> "AppSettings":
        """A copy that has forgotten this project."""
        kept = tuple(other for other in self.recent_projects if other != folder)
        return msgspec.structs.replace(self, recent_projects=kept)


def settings_file() -> Path:
    """Where the settings are kept."""
    return user_data_folder() / "settings.json"


def load_settings() -> AppSettings:
    """The settings; defaults where there are none. A damaged file is set aside, never an obstacle."""
    path = settings_file()
    try:
        return msgspec.json.decode(path.read_bytes(), type=AppSettings)
    except OSError:
        return AppSettings()
    except (msgspec.DecodeError, UnicodeDecodeError):
        with contextlib.suppress(OSError):
            path.replace(path.with_suffix(".damaged.json"))
        return AppSettings()


def save_settings(settings: AppSettings) -> None:
    """Write the settings, atomically.

    Raises:
        OSError: the folder cannot be written.
    """
    path = settings_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, settings)
