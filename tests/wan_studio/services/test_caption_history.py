import pytest

from wan_studio.services.caption_history import FOUND, TYPED, CaptionHistory, CaptionHistoryError, Kept


def test_the_original_and_every_batch_are_versions_byte_for_byte(tmp_path):
    history = CaptionHistory(tmp_path / "project")
    path = tmp_path / "a.txt"
    original = "une caméra\r\n".encode("latin-1")
    history.keep([Kept(path, original, b"two")], "Converted")
    history.keep([Kept(path, b"two", b"three")], "Replace in 1 caption")
    versions = history.versions_of(path)
    assert [(one.what, one.content) for one in versions] == [
        ("Replace in 1 caption", b"three"),
        ("Converted", b"two"),
        (FOUND, original),
    ]
    assert history.versions_of(tmp_path / "b.txt") == []


def test_what_is_typed_in_one_sitting_is_one_version(tmp_path):
    history = CaptionHistory(tmp_path)
    path = tmp_path / "a.txt"
    for before, after in ((None, b"a"), (b"a", b"ab"), (b"ab", b"abc")):
        history.keep([Kept(path, before, after)], TYPED)
    assert [one.content for one in history.versions_of(path)] == [b"abc"]


def test_what_others_wrote_in_between_is_kept_before_it_is_written_over(tmp_path):
    history = CaptionHistory(tmp_path)
    path = tmp_path / "a.txt"
    history.keep([Kept(path, b"old", b"mine")], TYPED)
    history.keep([Kept(path, b"theirs", b"mine again")], TYPED)
    assert [one.content for one in history.versions_of(path)] == [b"mine again", b"theirs", b"mine", b"old"]


def test_a_history_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "caption_history.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(CaptionHistoryError, match="no caption is written"):
        CaptionHistory(tmp_path).keep([Kept(tmp_path / "a.txt", None, b"a")], TYPED)
