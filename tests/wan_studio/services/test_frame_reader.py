import random
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from tests.media import corner_colours, is_upright, make_video, number_in
from wan_studio.services import frame_reader
from wan_studio.services.frame_reader import FrameReader
from wan_studio.services.media_probe import UnreadableVideoError, probe

pytestmark = pytest.mark.media

VIDEOS = [
    ("cfr.mp4", {"fps": 25, "frames": 60, "gop": 60}),
    ("ntsc.mp4", {"fps": Fraction(30_000, 1001), "b_frames": 2, "frames": 60, "gop": 24}),
    ("slow.mkv", {"fps": 10, "b_frames": 2, "frames": 40}),
    ("fast.mkv", {"fps": 50, "b_frames": 2, "frames": 60, "sound": True}),
    ("vfr.mkv", {"times": [i * 0.02 + (i // 7) * 0.15 for i in range(60)], "b_frames": 2}),
    ("packed.avi", {"codec": "mpeg4", "b_frames": 2, "frames": 50, "gop": 12, "fps": 25}),
    ("vp9.webm", {"codec": "libvpx-vp9", "frames": 40, "gop": 20, "fps": 24}),
    ("stream.ts", {"b_frames": 2, "frames": 40, "fps": 25}),
    ("ten_bits.mp4", {"codec": "libx265", "pixel_format": "yuv420p10le", "b_frames": 2, "gop": 16}),
]


@pytest.mark.parametrize(("name", "options"), VIDEOS, ids=[name for name, _ in VIDEOS])
def test_every_frame_is_the_one_asked_for_in_any_order(tmp_path, monkeypatch, name, options):
    # A cache of a few frames: seeking and stepping must be exact by themselves.
    monkeypatch.setattr(frame_reader, "CACHE_BYTES", 100_000)
    monkeypatch.setattr(frame_reader, "STEP_FRAMES", 6)
    source = probe(make_video(tmp_path / name, **options))
    shuffled = random.Random(0).sample(range(source.frame_count), source.frame_count)
    backwards = list(range(source.frame_count))[::-1]
    with FrameReader(source) as reader:
        for number in [*range(source.frame_count), *shuffled, *backwards]:
            assert number_in(reader.read(number)) == number


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_frames_are_upright(tmp_path, rotation):
    source = probe(make_video(tmp_path / "a.mp4", rotation=rotation, frames=8))
    with FrameReader(source) as reader:
        picture = reader.read(5)
        assert picture.shape == (96, 128, 3)
        assert is_upright(picture), corner_colours(picture)
        assert number_in(picture) == 5
        small = reader.read_scaled(6, 64, 64)
        assert small.shape == (48, 64, 3)
        assert number_in(small) == 6


def test_a_scaled_frame_fits_keeps_the_aspect_and_is_never_enlarged(tmp_path):
    source = probe(make_video(tmp_path / "a.mp4", frames=4))
    with FrameReader(source) as reader:
        assert reader.read_scaled(0, 1000, 1000).shape == (96, 128, 3)
        assert reader.read_scaled(0, 64, 1000).shape == (48, 64, 3)
        assert reader.read_scaled(0, 1000, 24).shape == (24, 32, 3)
        assert reader.read_scaled(0, 1, 1).shape == (1, 1, 3)


def test_a_scaled_frame_has_square_pixels(tmp_path):
    source = replace(probe(make_video(tmp_path / "a.mp4", frames=4)), pixel_aspect=0.5)
    with FrameReader(source) as reader:
        assert reader.read(0).shape == (96, 128, 3)
        assert reader.read_scaled(0, 1000, 1000).shape == (96, 64, 3)


def test_colours_are_right_with_and_without_a_tag(tmp_path):
    for colorspace in ("", "bt601", "bt709"):
        source = probe(make_video(tmp_path / f"a{colorspace}.mp4", frames=2, colorspace=colorspace))
        with FrameReader(source) as reader:
            assert is_upright(reader.read(1), tolerance=8)


def test_frames_nearby_come_from_memory(tmp_path):
    path = make_video(tmp_path / "a.mp4", frames=40, gop=40)
    source = probe(path)
    with FrameReader(source) as reader:
        reader.read(30)
        path.unlink()
        assert [number_in(reader.read(number)) for number in range(30, 5, -1)] == list(range(30, 5, -1))


def test_a_picture_is_the_callers_own(tmp_path):
    source = probe(make_video(tmp_path / "a.mp4", frames=4))
    with FrameReader(source) as reader:
        first = reader.read(2)
        first[:] = 0
        assert number_in(reader.read(2)) == 2
        assert first.flags.c_contiguous
        assert first.dtype == np.uint8


def test_a_frame_beyond_the_end_is_an_error(tmp_path):
    source = probe(make_video(tmp_path / "a.mp4", frames=4))
    with FrameReader(source) as reader:
        for number in (-1, 4):
            with pytest.raises(IndexError):
                reader.read(number)


def test_a_file_that_vanished_or_changed_is_a_sentence(tmp_path):
    path = make_video(tmp_path / "a.mp4", frames=40)
    source = probe(path)
    path.unlink()
    with FrameReader(source) as reader, pytest.raises(UnreadableVideoError, match=r"a\.mp4"):
        reader.read(3)
    make_video(path, frames=4)
    with FrameReader(source) as reader, pytest.raises(UnreadableVideoError, match=r"a\.mp4"):
        reader.read(30)
    path.write_text("no video")
    with FrameReader(source) as reader, pytest.raises(UnreadableVideoError, match=r"a\.mp4"):
        reader.read(3)


def test_a_closed_reader_opens_again(tmp_path):
    source = probe(make_video(tmp_path / "a.mp4", frames=8))
    reader = FrameReader(source)
    reader.read(3)
    reader.close()
    assert number_in(reader.read(4)) == 4
    reader.close()
