"""A window on a project of three small clips, driven by keys and clicks as a user would."""

import pytest
from PySide6.QtWidgets import QApplication

from tests.media import make_video
from wan_studio.app import build_window
from wan_studio.bridge.background import wait_for_background
from wan_studio.services.clip_import import import_clips
from wan_studio.services.preset_store import settings_for
from wan_studio.services.project_store import ProjectStore


@pytest.fixture
def clips_folder(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        make_video(folder / name, frames=40, fps=20, width=64, height=48)
    (folder / "a.txt").write_text("orbit around the [trigger]", encoding="utf-8")
    return folder


@pytest.fixture
def project_store(tmp_path, clips_folder):
    from wan_studio.domain.project import Project

    store = ProjectStore(tmp_path / "orbit")
    project = Project(name="orbit", trigger="frung", settings=settings_for("motion"))
    store.save(import_clips(project, [clips_folder]))
    return store


@pytest.fixture
def window(qtbot, home):
    app = QApplication.instance()
    made = build_window(app)
    made.show()
    made.activateWindow()
    qtbot.waitUntil(made.isActiveWindow)
    yield made
    made.close()
    wait_for_background()
    made.deleteLater()
    app.setStyleSheet("")


@pytest.fixture
def open_window(qtbot, window, project_store):
    """The window with the project open and its clips looked at."""
    window.bench.open_project(project_store.folder)
    qtbot.waitUntil(lambda: window.bench.session.is_open and window.bench.library.waiting == 0)
    return window
