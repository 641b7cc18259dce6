"""The demo: orbiting scenes made on this machine, and a project that learns them on the miniature."""

from collections.abc import Callable
from pathlib import Path

from wan_studio.domain.project import Project
from wan_studio.services.clip_import import import_clips
from wan_studio.services.demo_clips import make_demo_clips
from wan_studio.services.preset_store import settings_for
from wan_studio.services.project_store import ProjectStore

DEMO_NAME = "demo"
DEMO_TRIGGER = "orbitcam"


def make_demo_project(folder: Path, on_progress: Callable[[int, int], None] | None = None) -> ProjectStore:
    """The demo's project in this folder, with its clips; what is there already is kept.

    Args:
        folder: Made if needed.
        on_progress: Called with clips done and clips in all.

    Raises:
        ProjectFileError: the folder cannot be written, or holds a damaged project.
    """
    store = ProjectStore(folder)
    project = store.load() if store.exists else None
    clips = make_demo_clips(store.folder / "clips", on_progress)
    if project is None:
        project = Project(
            name=DEMO_NAME, goal="motion", trigger=DEMO_TRIGGER, settings=settings_for("motion")
        )
        store.save(import_clips(project, clips))
    return store
