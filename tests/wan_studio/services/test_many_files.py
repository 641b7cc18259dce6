import errno
import os
import threading

import pytest

from wan_studio.services import many_files
from wan_studio.services.many_files import reach_disk, replace_files


@pytest.mark.parametrize("threads", [1, 4])
def test_files_old_and_new_get_their_bytes_and_nothing_is_left_beside_them(tmp_path, monkeypatch, threads):
    monkeypatch.setattr(many_files, "_THREADS", threads)
    files = [(tmp_path / f"{number}.txt", b"new %d" % number) for number in range(50)]
    files.append((tmp_path / "made" / "for it" / "a.txt", b""))
    for path, _ in files[:25]:
        path.write_bytes(b"old")
    assert replace_files(files) == [None] * 51
    reach_disk([path for path, _ in files])
    assert [path.read_bytes() for path, _ in files] == [content for _, content in files]
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 51


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "a.txt"
    old, new = b"a" * 50_000, b"b" * 50_000
    path.write_bytes(old)
    seen, stop = set(), threading.Event()

    def read():
        while not stop.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(60):
        assert replace_files([(path, new if number % 2 else old)]) == [None]
    stop.set()
    reader.join()
    assert seen <= {old, new}


def test_one_file_that_cannot_be_written_does_not_keep_the_others(tmp_path):
    (tmp_path / "folder.txt").mkdir()
    found = replace_files([(tmp_path / "folder.txt", b"a"), (tmp_path / "b.txt", b"b")])
    assert isinstance(found[0], OSError)
    assert found[1] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.txt", "folder.txt"]


def test_a_full_disk_changes_no_file(tmp_path, monkeypatch):
    for name in "abc":
        (tmp_path / name).write_bytes(b"old")
    write = many_files._write

    def full(name, content):
        if ".b." in name:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(name, content)

    monkeypatch.setattr(many_files, "_write", full)
    found = replace_files([(tmp_path / name, b"new") for name in "abc"])
    assert {error.errno for error in found} == {errno.ENOSPC}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys("abc", b"old")


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_of_a_link_the_target_is_replaced(tmp_path):
    (tmp_path / "real.txt").write_bytes(b"old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    assert replace_files([(tmp_path / "link.txt", b"new")]) == [None]
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_bytes() == b"new"
