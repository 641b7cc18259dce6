from pathlib import Path

import pytest

from tests.media import make_video
from wan_studio.domain.folder_news import WatchedClip
from wan_studio.services.folder_scan import scan
from wan_studio.services.media_probe import probe
from wan_studio.services.probe_cache import ProbeCache
from wan_studio.services.relink import find_moved

pytestmark = pytest.mark.media


@pytest.fixture
def cache(tmp_path):
    return ProbeCache(tmp_path / "cache")


@pytest.fixture
def old(tmp_path, cache):
    """A file that was probed and is gone; its bytes."""
    (tmp_path / "old").mkdir()
    path = make_video(tmp_path / "old" / "a.mp4", frames=20)
    cache.source(path, probe)
    content = path.read_bytes()
    path.unlink()
    return path, content


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_file_of_the_same_name_and_size_is_the_one(tmp_path, cache, old):
    path, content = old
    moved = put(tmp_path / "new" / "deep" / "A.mp4", content)
    put(tmp_path / "new" / "a.mp4", content + b"longer")
    assert find_moved({"x": path}, [tmp_path / "new"], cache) == {"x": moved}


def test_a_renamed_file_is_known_by_its_bytes(tmp_path, cache, old):
    path, content = old
    put(tmp_path / "new" / "other.mp4", bytes(len(content)))
    moved = put(tmp_path / "new" / "renamed.mp4", content)
    assert find_moved({"x": path, "y": path}, [tmp_path / "new"], cache) == {"x": moved, "y": moved}


def test_another_file_of_the_same_name_is_not_taken_for_it(tmp_path, cache, old):
    put(tmp_path / "new" / "a.mp4", b"something else")
    assert find_moved({"x": old[0]}, [tmp_path / "new"], cache) == {}


def test_without_memory_a_name_decides_where_only_one_has_it(tmp_path, cache):
    moved = put(tmp_path / "new" / "b.mp4", b"1")
    assert find_moved({"x": tmp_path / "b.mp4"}, [tmp_path / "new"], cache) == {"x": moved}
    put(tmp_path / "new" / "deep" / "b.mp4", b"2")
    assert find_moved({"x": tmp_path / "b.mp4"}, [tmp_path / "new"], cache) == {}
    (tmp_path / "empty").mkdir()
    assert find_moved({"x": tmp_path / "b.mp4"}, [tmp_path / "empty"], cache) == {}


def test_a_scan_tells_new_changed_vanished_and_returned_files(tmp_path):
    same, changed, returned = (
        put(tmp_path / f"{name}.mp4", b"1") for name in ("same", "changed", "returned")
    )
    put(tmp_path / "new10.mp4", b"1")
    put(tmp_path / "new9.mp4", b"1")
    put(tmp_path / "note.txt", b"1")
    put(tmp_path / ".hidden.mp4", b"1")
    stamp = (1, same.stat().st_mtime_ns)
    clips = [
        WatchedClip("same", str(same), stamp, is_missing=False),
        WatchedClip("changed", str(changed), (2, 2), is_missing=False),
        WatchedClip("returned", str(returned), None, is_missing=True),
        WatchedClip("gone", str(tmp_path / "gone.mp4"), (1, 1), is_missing=False),
        WatchedClip("away", str(tmp_path / "no such folder" / "b.mp4"), None, is_missing=True),
    ]
    news = scan(clips)
    assert news.changed == {"changed", "returned"}
    assert news.vanished == {"gone"}
    assert [path.name for path in news.new] == ["new9.mp4", "new10.mp4"]
