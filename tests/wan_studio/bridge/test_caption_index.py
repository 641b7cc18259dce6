"""What is known of each caption follows the captions, and the names of ranges the files."""

from tests.media import make_video
from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.caption_index import CaptionIndex
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.clip import TrimRange
from wan_studio.domain.clip_ranges import split_clip
from wan_studio.domain.project import Project
from wan_studio.services.clip_import import import_clips
from wan_studio.services.project_store import ProjectStore


def test_ranges_of_one_file_are_named_by_time_once_the_file_was_looked_at(qtbot, home, tmp_path):
    (tmp_path / "clips").mkdir()
    make_video(tmp_path / "clips" / "one.mp4", frames=32, fps=16)
    store = ProjectStore(tmp_path / "project")
    project = import_clips(Project(name="one"), [tmp_path / "clips"], store.captions_folder)
    project = split_clip(project, project.clips[0], (TrimRange(0, 8), TrimRange(16, 32)), ("second",)).project
    bench = Workbench()
    bench.library.pause()
    bench.session.open(store, project)
    index = CaptionIndex(bench.session, bench.library, lambda: False, bench)
    for clip in project.clips:
        bench.library.take_caption(clip.id, "a slow orbit")
    bench.library.tell([clip.id for clip in project.clips])
    qtbot.waitUntil(lambda: len(index.entries) == 2)
    assert index.label_of("second") == "one.mp4 · frames 16–32"
    bench.library.go_on()
    qtbot.waitUntil(lambda: index.label_of("second") == "one.mp4 · 1.0–2.0 s")
    bench.close()
    wait_for_background()
