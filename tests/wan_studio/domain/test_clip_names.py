"""What clips are called in lists."""

import msgspec

from tests.wan_studio.domain.test_clip_health import video
from wan_studio.domain.clip import TrimRange
from wan_studio.domain.clip_names import clip_label, shared_sources
from wan_studio.domain.project import Project, ProjectClip

CLIP = ProjectClip(id="a", source="C:\\clips\\castle.mp4", caption_file="C:\\clips\\castle.txt")


def test_a_clip_is_called_as_its_file_or_as_the_user_calls_it():
    assert CLIP.name == "castle.mp4"
    titled = msgspec.structs.replace(CLIP, title="Castle at dusk")
    assert (titled.name, titled.file_name) == ("Castle at dusk", "castle.mp4")


def test_ranges_of_one_file_are_told_apart_by_their_seconds():
    source = video(frames=100)
    part = msgspec.structs.replace(CLIP, id="b", trim=TrimRange(16, 48))
    rate = source.frames_per_second
    assert clip_label(part, source, is_shared=True) == f"castle.mp4 · {16 / rate:.1f}–{48 / rate:.1f} s"
    assert clip_label(part, None, is_shared=True) == "castle.mp4 · frames 16–48"
    assert clip_label(CLIP, source, is_shared=True) == "castle.mp4 · whole"
    assert clip_label(part, source, is_shared=False) == "castle.mp4"
    other = msgspec.structs.replace(CLIP, id="c", source="other.mp4")
    assert shared_sources(Project(name="p", clips=(CLIP, part, other))) == {CLIP.source}
