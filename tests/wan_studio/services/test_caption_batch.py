from wan_studio.services.caption_batch import (
    CaptionWrite,
    convert_to_utf_8,
    guess_caption,
    look_at_captions,
    write_captions,
)
from wan_studio.services.caption_history import NOT_WRITTEN, CaptionHistory
from wan_studio.services.caption_place import CaptionPlace, kept_path


def at(path):
    return CaptionPlace(path, kept_path(path, path.parent / "captions"), path.parent)


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


def test_half_a_sign_is_refused_in_words(tmp_path):
    path = tmp_path / "a.txt"
    done = write_captions([write(path, "\ud83d", "")], CaptionHistory(tmp_path), "Typed")
    assert "half of a sign" in str(done.failed["a"])
    assert not path.exists()


def test_another_encoding_is_guessed_and_converted_with_its_bytes_kept(tmp_path):
    path = tmp_path / "a.txt"
    content = "La caméra tourne, été à la plage\r\n".encode("latin-1")
    path.write_bytes(content)
    text, encoding = guess_caption(path)
    assert (text, encoding) == ("La caméra tourne, été à la plage\n", "cp1252")
    history = CaptionHistory(tmp_path / "project")
    assert convert_to_utf_8(at(path), encoding, history) == text
    assert path.read_bytes() == "La caméra tourne, été à la plage\r\n".encode()
    assert history.versions_of(path)[-1].content == content


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
