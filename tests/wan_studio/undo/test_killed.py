"""A window that is killed while somebody types in it: at most the last second is gone."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.media import make_video
from tests.wan_studio.undo.typist import WORDS
from wan_studio.domain.project import Project
from wan_studio.services.caption_files import open_with_steps
from wan_studio.services.clip_import import import_clips
from wan_studio.services.preset_store import settings_for
from wan_studio.services.project_store import ProjectStore

pytestmark = [pytest.mark.slow, pytest.mark.media]

TYPED_SECONDS = 3.0
ROOT = Path(__file__).parents[3]


def said(field, project, clips):
    """What of the typed text is on disk."""
    if field == "caption":
        return (clips / "a.txt").read_text()
    if field == "default":
        return project.settings.datasets.default_caption
    if field == "trigger":
        return project.trigger
    return project.settings.sample.rows[0].prompt


@pytest.mark.parametrize("field", ["caption", "default", "trigger", "prompt"])
def test_a_killed_window_has_saved_what_was_typed_a_second_before(tmp_path, field):
    clips = tmp_path / "clips"
    clips.mkdir()
    make_video(clips / "a.mp4", frames=40, fps=20, width=64, height=48)
    store = ProjectStore(tmp_path / "project")
    store.save(import_clips(Project(name="p", settings=settings_for("motion")), [clips]))
    environment = {**os.environ, "WAN_STUDIO_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(Path(__file__).with_name("typist.py")), str(store.folder), field]
    keys = []
    with subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True) as typist:
        for line in typist.stdout:
            keys.append(tuple(float(part) for part in line.split()))
            if keys[-1][0] - keys[0][0] > TYPED_SECONDS:
                killed_at = time.time()
                typist.kill()
                break
    project, opened = open_with_steps(store)
    opened.log.close()
    typed_a_second_before = max(count for at, count in keys if at <= killed_at - 1.0)
    on_disk = said(field, project, clips)
    typed = WORDS * 10
    assert len(on_disk) + 1 >= typed_a_second_before > 20
    assert typed.startswith(on_disk)
    assert opened.problem is None
    # The steps lead to what is on the disk, too.
    assert opened.index == len(opened.steps) >= 1
