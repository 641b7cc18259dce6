import os
import stat

import pytest

from wan_studio.services.caption_store import (
    CaptionEncodingError,
    CaptionFileError,
    read_caption,
    write_caption,
)


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("[trigger] 猫が走る é\n".encode(), "utf-8"),
        ("[trigger] 猫が走る é\n".encode("utf-8-sig"), "utf-8-sig"),
        ("[trigger] 猫が走る é\n".encode("utf-16"), "utf-16"),
        (b"\xfe\xff" + "[trigger] 猫が走る é\n".encode("utf-16-be"), "utf-16"),
        ("[trigger] 猫が走る é\r\n".encode(), "utf-8"),
    ],
)
def test_utf_8_and_marked_utf_16_are_read(tmp_path, content, encoding):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    caption = read_caption(path)
    assert (caption.text, caption.encoding, caption.exists) == ("[trigger] 猫が走る é\n", encoding, True)


def test_no_file_is_an_empty_caption(tmp_path):
    caption = read_caption(tmp_path / "a.txt")
    assert (caption.text, caption.exists) == ("", False)


@pytest.mark.parametrize(
    ("content", "guess"),
    [
        ("ゆっくりと右へ回るカメラ".encode("cp932"), "cp932"),
        ("镜头慢慢地向右移动".encode("gb18030"), "gb18030"),
        ("La caméra tourne, été à la plage".encode("latin-1"), "cp1252"),
        ("eine Frau läuft über die Straße".encode("latin-1"), "cp1252"),
        ("a camera turns".encode("utf-16-le"), "utf-16-le"),
        (b"\x81\xff\xfe\x00broken", ""),
    ],
)
def test_another_encoding_is_refused_with_a_guess_and_never_overwritten(tmp_path, content, guess):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(CaptionEncodingError) as raised:
        read_caption(path)
    assert raised.value.guess == guess
    assert str(path) in raised.value.message
    assert "UTF-8" in raised.value.hint
    with pytest.raises(CaptionEncodingError):
        write_caption(path, "new words")
    assert path.read_bytes() == content


def test_an_unchanged_caption_keeps_its_bytes(tmp_path):
    path = tmp_path / "a.txt"
    content = "one\r\ntwo\r\n".encode("utf-8-sig")
    path.write_bytes(content)
    write_caption(path, read_caption(path).text)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [(b"", "utf-8"), (b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")],
)
def test_a_changed_caption_keeps_its_encoding_and_its_line_ends(tmp_path, mark, encoding):
    path = tmp_path / "a.txt"
    path.write_bytes(mark + "one\r\ntwo".encode(encoding))
    write_caption(path, "one\nzwei 猫")
    assert path.read_bytes() == mark + "one\r\nzwei 猫".encode(encoding)


def test_lines_that_were_not_touched_keep_line_ends_of_different_kinds(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\r\ntwo\nthree\rfour\n")
    write_caption(path, "one\n2\n2b\nthree\nfour\n")
    assert path.read_bytes() == b"one\r\n2\r\n2b\nthree\rfour\n"


def test_a_new_caption_is_written_and_an_empty_one_makes_no_file(tmp_path):
    write_caption(tmp_path / "a.txt", "")
    assert not (tmp_path / "a.txt").exists()
    write_caption(tmp_path / "a.txt", "it turns")
    assert read_caption(tmp_path / "a.txt").text == "it turns"
    write_caption(tmp_path / "a.txt", "")
    assert read_caption(tmp_path / "a.txt").exists
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_link_stays_a_link(tmp_path):
    target, link = tmp_path / "real.txt", tmp_path / "a.txt"
    target.write_text("old")
    try:
        link.symlink_to(target)
    except OSError:
        pytest.skip("links are not permitted here")
    write_caption(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_folder_that_is_missing_or_shut_is_a_sentence(tmp_path):
    with pytest.raises(CaptionFileError, match="cannot be written"):
        write_caption(tmp_path / "gone" / "a.txt", "words")
    if os.name == "nt" or os.geteuid() == 0:
        return
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(CaptionFileError, match="cannot be written"):
        write_caption(tmp_path / "a.txt", "words")
    tmp_path.chmod(stat.S_IRWXU)
