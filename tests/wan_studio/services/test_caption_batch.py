import subprocess
import sys
from pathlib import Path

from wan_studio.services.caption_batch import (
    CaptionWrite,
    Finished,
    finish_interrupted,
    guess_caption,
    look_at_captions,
    settle,
    write_captions,
)
from wan_studio.services.caption_history import NOT_WRITTEN, CaptionHistory
from wan_studio.services.caption_place import CaptionPlace, kept_path


def at(path):
    return CaptionPlace(path, kept_path(path, path.parent / "captions"), path.parent)


ROOT = Path(__file__).resolve().parents[3]


def write(path, text, *expected):
    return CaptionWrite(path.stem, path, expected, text)


def test_only_files_that_change_are_written_and_the_original_is_kept_first(tmp_path):
    a, b = tmp_path / "a.txt", tmp_path / "b.txt"
    a.write_bytes(b"\xef\xbb\xbfone\r\ntwo")
    b.write_bytes(b"same")
    stamp = b.stat().st_mtime_ns
    history = CaptionHistory(tmp_path / "project")
    done = write_captions(
        [write(a, "one\n2", "one\ntwo"), write(b, "same", "same")], history, "Replace in 2 captions"
    )
    assert done.written == {"a": "one\n2", "b": "same"}
    assert a.read_bytes() == b"\xef\xbb\xbfone\r\n2"
    assert b.stat().st_mtime_ns == stamp
    assert [one.content for one in history.versions_of(a)] == [a.read_bytes(), b"\xef\xbb\xbfone\r\ntwo"]
    assert history.versions_of(b) == []


def test_a_file_that_others_changed_is_left_alone_and_our_words_are_kept(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("theirs")
    history = CaptionHistory(tmp_path / "project")
    done = write_captions([write(path, "mine", "before")], history, "Typed")
    assert (done.changed_outside, done.written) == ({"a": "theirs"}, {})
    assert path.read_text() == "theirs"
    assert (history.versions_of(path)[0].what, history.versions_of(path)[0].content) == (NOT_WRITTEN, b"mine")


def test_nothing_is_written_when_the_history_cannot_be(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    (tmp_path / "caption_history.sqlite").write_bytes(b"no database" * 100)
    done = write_captions([write(path, "after", "before")], CaptionHistory(tmp_path), "Typed")
    assert "no caption is written" in str(done.failed["a"])
    assert path.read_text() == "before"


def test_many_captions_are_written_and_no_temporary_file_is_left(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    writes = []
    for number in range(60):
        path = folder / f"{number}.txt"
        path.write_text(f"old {number}")
        writes.append(write(path, f"new {number}", f"old {number}"))
    done = write_captions(writes, CaptionHistory(tmp_path), "Replace in 60 captions")
    assert len(done.written) == 60
    assert sorted(path.read_text() for path in folder.iterdir()) == sorted(f"new {n}" for n in range(60))


BATCH = """
import os, sys
from pathlib import Path
import wan_studio.services.many_files as many_files
from wan_studio.services.caption_batch import CaptionWrite, write_captions
from wan_studio.services.caption_history import CaptionHistory
put, count = many_files._put, 0
def put_some(one):
    global count
    count += 1
    if count > 30:
        os._exit(9)
    return put(one)
many_files._put = put_some
folder = Path(sys.argv[1])
paths = [folder / f"{number}.txt" for number in range(60)]
write_captions([CaptionWrite(p.stem, p, ("old",), "new") for p in paths], CaptionHistory(folder / "project"), "Replace")
"""


def test_a_batch_whose_process_was_killed_in_its_midst_is_finished_at_the_next_opening(tmp_path):
    paths = [tmp_path / f"{number}.txt" for number in range(60)]
    for path in paths:
        path.write_text("old")
    killed = subprocess.run([sys.executable, "-c", BATCH, str(tmp_path)], check=False, cwd=ROOT)
    assert killed.returncode == 9
    assert {path.read_text() for path in paths} == {"old", "new"}, "each file is whole"
    paths[58].write_text("theirs")
    paths[57].write_bytes(b"")
    paths[56].unlink()
    history = CaptionHistory(tmp_path / "project")
    done = finish_interrupted(history)
    assert len(done.written) == 28
    assert sorted(path.name for path in done.left) == ["56.txt", "58.txt"]
    assert done.told[0].endswith("Written now: 28 captions. Left alone: 2 captions (56.txt, 58.txt).")
    assert [path.read_text() for path in paths if path.exists()] == ["new"] * 57 + ["theirs", "new"]
    assert not list(tmp_path.glob(".*tmp")), "what lay beside the files is gone"
    assert finish_interrupted(history) == Finished()


def test_a_batch_is_noted_until_the_disk_has_it(tmp_path):
    paths = [tmp_path / f"{number}.txt" for number in range(30)]
    history = CaptionHistory(tmp_path / "project")
    done = write_captions([write(path, "new", "") for path in paths], history, "Insert")
    assert len(history.unwritten()[0]) == 30
    later = write_captions([write(path, "newer", "new") for path in paths[:25]], history, "Insert")
    settle(history, done.batch, paths)
    assert len(history.unwritten()[0]) == 25, "the later batch is still noted"
    settle(history, later.batch, paths)
    assert history.unwritten() == ([], 0)
    few = write_captions([write(paths[0], "newest", "newer")], history, "Typed")
    assert (few.batch, history.unwritten()) == (0, ([], 0)), "few files are waited for instead"


def test_half_a_sign_is_refused_in_words(tmp_path):
    path = tmp_path / "a.txt"
    done = write_captions([write(path, "\ud83d", "")], CaptionHistory(tmp_path), "Typed")
    assert "half of a sign" in str(done.failed["a"])
    assert not path.exists()


def test_another_encoding_is_guessed(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("La caméra tourne, été à la plage\r\n".encode("latin-1"))
    assert guess_caption(path) == ("La caméra tourne, été à la plage\n", "cp1252")


def test_a_look_reads_only_what_changed_since_the_last(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one")
    first = look_at_captions([("a", at(path), None)])
    assert first["a"].text == "one"
    assert look_at_captions([("a", at(path), first["a"].mark)]) == {}
    path.write_text("two, longer")
    assert look_at_captions([("a", at(path), first["a"].mark)])["a"].text == "two, longer"
    path.write_bytes("été".encode("latin-1"))
    found = look_at_captions([("a", at(path), None)])["a"]
    assert found.text is None
    assert "not UTF-8" in found.problem
