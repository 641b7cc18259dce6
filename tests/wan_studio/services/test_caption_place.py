"""Captions of clips whose folder or file cannot be written, or is gone: kept in the project, and told so."""

import errno
import os
import shutil

import pytest

from wan_studio.domain.project import Project, ProjectClip
from wan_studio.errors import AppError
from wan_studio.services import caption_batch
from wan_studio.services.caption_batch import CaptionWrite, look_at_captions, write_captions
from wan_studio.services.caption_history import CaptionHistory
from wan_studio.services.caption_place import can_be_written, place_of, read_clip_caption, write_caption_at
from wan_studio.services.caption_store import CaptionFileError
from wan_studio.services.clip_import import import_clips

posix = pytest.mark.skipif(os.name == "nt", reason="a folder's write bits mean nothing on Windows")


@pytest.fixture
def folder(tmp_path):
    """A folder with one captioned clip; writable again afterwards, so that it can be removed."""
    made = tmp_path / "clips"
    made.mkdir()
    (made / "a.mp4").touch()
    (made / "a.txt").write_text("from outside")
    yield made
    if made.exists():
        made.chmod(0o755)


def clip_in(folder, name="a"):
    return ProjectClip(id=name, source=str(folder / f"{name}.mp4"), caption_file=str(folder / f"{name}.txt"))


def write(clip, captions, text, *expected):
    place = place_of(clip, captions)
    history = CaptionHistory(captions.parent)
    return write_captions([CaptionWrite(clip.id, place.beside, expected, text, place)], history, "Typed")


def test_a_writable_folder_keeps_its_caption_beside_the_clip_and_nothing_is_said(folder, tmp_path):
    clip, captions = clip_in(folder), tmp_path / "captions"
    assert write(clip, captions, "mine", "from outside").written == {"a": "mine"}
    assert (folder / "a.txt").read_text() == "mine"
    assert not captions.exists()
    assert place_of(clip, captions).note == ""


@posix
def test_a_read_only_folder_has_its_caption_kept_in_the_project_with_its_first_version(folder, tmp_path):
    clip, captions = clip_in(folder), tmp_path / "captions"
    folder.chmod(0o555)
    place = place_of(clip, captions)
    assert place.note == f"Changes will be kept in the project: {folder} is read-only"
    assert write(clip, captions, "mine", "from outside").written == {"a": "mine"}
    assert (folder / "a.txt").read_text() == "from outside"
    assert read_clip_caption(clip, captions).text == "mine"
    assert place.note == f"Kept in the project: {folder} is read-only"
    contents = [one.content for one in CaptionHistory(tmp_path).versions_of(place.now)]
    assert contents == [b"mine", b"from outside"]
    assert write(clip, captions, "mine again", "mine").written == {"a": "mine again"}


@posix
def test_a_read_only_file_in_a_writable_folder_is_not_written(folder, tmp_path):
    clip, captions = clip_in(folder), tmp_path / "captions"
    (folder / "a.txt").chmod(0o444)
    write(clip, captions, "mine", "from outside")
    assert (folder / "a.txt").read_text() == "from outside"
    assert place_of(clip, captions).note == f"Kept in the project: {folder / 'a.txt'} is read-only"


def test_a_refusal_that_no_permission_foretold_is_kept_in_the_project_too(folder, tmp_path, monkeypatch):
    clip, captions = clip_in(folder), tmp_path / "captions"
    replace = caption_batch.replace_caption

    def refuse(path, content, **options):
        if path.parent == folder:
            error = OSError(errno.EROFS, "Read-only file system")
            raise CaptionFileError(path, "written", error) from error
        replace(path, content, **options)

    monkeypatch.setattr(caption_batch, "replace_caption", refuse)
    assert write(clip, captions, "mine", "from outside").written == {"a": "mine"}
    assert read_clip_caption(clip, captions).text == "mine"
    assert place_of(clip, captions).note.endswith("could not be written")


def test_a_full_disk_is_told_and_not_evaded(folder, tmp_path, monkeypatch):
    clip, captions = clip_in(folder), tmp_path / "captions"

    def fail(path, content, **_):
        error = OSError(errno.ENOSPC, "No space left on device")
        raise CaptionFileError(path, "written", error) from error

    monkeypatch.setattr(caption_batch, "replace_caption", fail)
    assert "No space left" in str(write(clip, captions, "mine", "from outside").failed["a"])
    assert not captions.exists()


def test_a_drive_that_was_taken_out_is_a_sentence_and_what_is_typed_then_is_kept(folder, tmp_path):
    clip, captions = clip_in(folder), tmp_path / "captions"
    shutil.rmtree(folder)
    with pytest.raises(AppError, match=r"the folder .*clips is not there"):
        read_clip_caption(clip, captions)
    look = look_at_captions([("a", place_of(clip, captions), (1, 1))])["a"]
    assert look.text is None
    assert "Connect its drive" in look.problem
    assert write(clip, captions, "mine", "from outside").written == {"a": "mine"}
    assert not folder.exists()
    assert read_clip_caption(clip, captions).text == "mine"
    assert place_of(clip, captions).note == f"Kept in the project: {folder} is not there"


@posix
def test_clips_of_one_name_in_two_read_only_folders_do_not_share_a_caption(tmp_path):
    captions = tmp_path / "project" / "captions"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "clip.mp4").touch()
        (tmp_path / name).chmod(0o555)
    project = import_clips(Project(name="p"), [tmp_path / "one", tmp_path / "two"], captions)
    for clip, text in zip(project.clips, ("first", "second"), strict=True):
        write_caption_at(place_of(clip, captions), text)
    texts = [read_clip_caption(clip, captions).text for clip in project.clips]
    assert texts == ["first", "second"]
    assert (
        place_of(project.clips[0], captions).note == f"Kept in the project: {tmp_path / 'one'} is read-only"
    )


@posix
def test_a_folder_that_nobody_may_write_is_read_only_even_for_the_administrator(folder):
    assert can_be_written(folder / "new.txt")
    folder.chmod(0o555)
    assert not can_be_written(folder / "new.txt")
