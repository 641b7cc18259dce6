import os

import av
import pytest

from tests.media import make_video, number_in
from wan_studio.services.media_probe import UnreadableVideoError, probe
from wan_studio.services.thumbnail_cache import PosterError, ThumbnailCache

pytestmark = pytest.mark.media


def picture_of(path):
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_a_poster_is_180_pixels_high_and_from_a_third_of_the_way(tmp_path):
    source = probe(make_video(tmp_path / "a.mp4", width=640, height=360, frames=30))
    cache = ThumbnailCache(tmp_path / "posters")
    poster = cache.poster(source)
    picture = picture_of(poster)
    assert picture.shape == (180, 320, 3)
    assert number_in(picture) == 10
    assert [path.name for path in poster.parent.iterdir()] == [poster.name]


def test_a_poster_is_made_once_and_again_when_the_file_changes(tmp_path):
    path = make_video(tmp_path / "a.mp4", frames=8)
    cache = ThumbnailCache(tmp_path / "posters")
    first = cache.poster(probe(path))
    written = first.stat().st_mtime_ns
    assert cache.poster(probe(path)) == first
    assert first.stat().st_mtime_ns == written
    os.utime(path, ns=(1, 1))
    assert cache.poster(probe(path)) != first


def test_a_poster_of_a_gone_file_or_into_a_file_is_a_sentence(tmp_path):
    path = make_video(tmp_path / "a.mp4", frames=8)
    source = probe(path)
    (tmp_path / "taken").write_text("x")
    with pytest.raises(PosterError):
        ThumbnailCache(tmp_path / "taken").poster(source)
    path.unlink()
    with pytest.raises(UnreadableVideoError):
        ThumbnailCache(tmp_path / "posters").poster(source)


def test_a_strip_holds_twelve_moments_across_the_clip_and_is_made_once(tmp_path):
    source = probe(make_video(tmp_path / "a.mp4", width=320, height=180, frames=48))
    cache = ThumbnailCache(tmp_path / "posters")
    path = cache.strip(source)
    picture = picture_of(path)
    assert picture.shape == (108, 12 * 192, 3)
    moments = [number_in(picture[:, 192 * at : 192 * (at + 1)]) for at in range(12)]
    assert moments == [2 + 4 * at for at in range(12)]
    written = path.stat().st_mtime_ns
    assert cache.strip(source) == path
    assert path.stat().st_mtime_ns == written
    assert cache.poster(source) != path
