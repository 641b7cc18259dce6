import os
from pathlib import Path

import pytest

from wan_studio.domain.project import Project
from wan_studio.services.clip_import import MediaPathError, NoClipsError, find_media, import_clips


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_media_is_found_in_subfolders_and_in_natural_order(tmp_path):
    touch(
        *(tmp_path / name for name in ("clip10.mp4", "clip2.MP4", "Clip1.mkv", "notes.txt", "clip2.txt")),
        tmp_path / "more" / "b.webm",
        tmp_path / "more" / "a.PNG",
        tmp_path / ".hidden" / "c.mp4",
        tmp_path / ".c.mp4",
    )
    found = [path.relative_to(tmp_path).as_posix() for path in find_media([tmp_path])]
    assert found == ["Clip1.mkv", "clip2.MP4", "clip10.mp4", "more/a.PNG", "more/b.webm"]


def test_each_file_is_found_once_however_it_is_named(tmp_path, monkeypatch):
    touch(tmp_path / "a.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(find_media([tmp_path, tmp_path / "a.mp4", Path("a.mp4"), tmp_path / "." / "a.mp4"])) == 1


def test_a_folder_without_media_is_a_sentence_that_names_it(tmp_path):
    touch(tmp_path / "notes.txt")
    with pytest.raises(NoClipsError) as raised:
        find_media([tmp_path])
    assert str(tmp_path) in raised.value.message
    assert "mp4" in raised.value.hint
    with pytest.raises(NoClipsError):
        find_media([tmp_path / "notes.txt"])


def test_a_folder_that_does_not_exist_is_a_sentence(tmp_path):
    with pytest.raises(MediaPathError, match="does not exist"):
        find_media([tmp_path / "gone"])


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_in_a_circle_end(tmp_path):
    touch(tmp_path / "a" / "x.mp4")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert len(find_media([tmp_path])) == 1


def test_clips_get_ids_and_the_caption_beside_them_and_come_in_once(tmp_path):
    touch(tmp_path / "a.mp4", tmp_path / "b.mkv")
    project = import_clips(Project(name="p"), [tmp_path / "a.mp4"])
    project = import_clips(project, [tmp_path])
    assert [Path(clip.source).name for clip in project.clips] == ["a.mp4", "b.mkv"]
    assert [Path(clip.caption_file) for clip in project.clips] == [tmp_path / "a.txt", tmp_path / "b.txt"]
    assert len({clip.id for clip in project.clips}) == 2
    assert import_clips(project, [tmp_path]) == project


def test_a_name_with_full_stops_keeps_them_in_its_caption(tmp_path):
    touch(tmp_path / "take.1.mp4")
    (clip,) = import_clips(Project(name="p"), [tmp_path]).clips
    assert Path(clip.caption_file).name == "take.1.txt"


def test_a_folder_that_cannot_be_written_puts_captions_in_the_project(tmp_path, monkeypatch):
    touch(tmp_path / "clips" / "a.mp4", tmp_path / "clips" / "b.mp4", tmp_path / "clips" / "b.txt")
    monkeypatch.setattr(os, "access", lambda *_: False)
    project = import_clips(Project(name="p"), [tmp_path / "clips"], tmp_path / "captions")
    assert [Path(clip.caption_file).parent.name for clip in project.clips] == ["captions", "clips"]
