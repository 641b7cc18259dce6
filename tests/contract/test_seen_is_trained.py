"""The frames that the trimmer shows at in and out are the first and last ones that the trainer reads."""

import numpy as np
import pytest
from PySide6.QtCore import QSize

from tests.media import make_video, number_in, numbers_in
from tests.wan_studio.bridge.pixels import pixels_of
from trainer.data.clip_frames import read_frames
from trainer.protocol.job import TrainedSize
from wan_studio.bridge.frame_requests import FrameRequest, picture_of
from wan_studio.domain.clip import TrimRange
from wan_studio.domain.clip_ranges import snapped
from wan_studio.domain.frame_sampling import sample_frames
from wan_studio.services.frame_reader import FrameReader
from wan_studio.services.media_probe import probe

pytestmark = pytest.mark.media

VARIABLE = [0.0]
for _at in range(119):
    VARIABLE.append(round(VARIABLE[-1] + (0.02, 0.04, 0.11, 0.033)[_at % 4], 4))

KINDS = {
    "constant 25 fps": ("a.mp4", {"fps": 25}),
    "16 fps": ("a.mp4", {"fps": 16}),
    "10 fps": ("a.mp4", {"fps": 10}),
    "50 fps": ("a.mp4", {"fps": 50, "frames": 200}),
    "29.97 fps": ("a.mp4", {"fps": "30000/1001"}),
    "variable rate": ("a.mp4", {"times": VARIABLE}),
    "variable rate in Matroska": ("a.mkv", {"times": VARIABLE}),
    "B-frames and long groups": ("a.mp4", {"b_frames": 3, "gop": 250, "fps": 30}),
    "MPEG-4": ("a.mp4", {"codec": "mpeg4", "fps": 24, "gop": 30}),
    "MPEG-4 in AVI": ("a.avi", {"codec": "mpeg4", "fps": 24, "gop": 30}),
    "Matroska without a frame count": ("a.mkv", {"fps": 30, "b_frames": 2}),
    "rotated by 90": ("a.mp4", {"rotation": 90, "width": 96, "height": 128}),
    "rotated by 270": ("a.mov", {"rotation": 270, "width": 96, "height": 128, "b_frames": 2}),
    "HEVC in 10 bits": ("a.mp4", {"codec": "libx265", "pixel_format": "yuv420p10le"}),
    "transport stream": ("a.ts", {"fps": 25, "b_frames": 2}),
}


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def source(request, tmp_path):
    name, changes = request.param
    return probe(make_video(tmp_path / name, **{"frames": 120, **changes}))


def whole_size(source):
    return TrainedSize(width=source.width, height=source.height, crop=source.whole_picture)


def seen(source, frames):
    """The pictures of the player, each asked for on its own, out of order."""
    with FrameReader(source) as reader:
        pictures = {
            frame: pixels_of(picture_of(reader, FrameRequest(source, frame, None, QSize(640, 480))))
            for frame in sorted(frames, key=lambda frame: (frame * 37) % 101)
        }
    return [pictures[frame] for frame in frames]


def trained(source, frames):
    from pathlib import Path

    window = tuple(source.frame_pts[frame] for frame in frames)
    return read_frames(Path(source.path), window, whole_size(source))


def assert_same(shown, read):
    assert number_in(shown) == number_in(read)
    # Two ways through the converters: rounding apart, the very picture.
    assert np.abs(shown.astype(int) - read).mean() < 2.5


@pytest.mark.parametrize("start", [0, 37])
def test_the_frames_at_in_and_out_of_a_fitted_range_are_the_first_and_last_trained(source, start):
    trim = snapped(source, TrimRange(start, source.frame_count), 17)
    sample = sample_frames(source, trim, 17)
    assert len(sample.frames) == 17
    assert sample.frames[0] == trim.start_frame
    read = trained(source, sample.frames)
    assert numbers_in(read) == list(sample.frames)
    at_in, at_last = seen(source, (sample.frames[0], sample.frames[-1]))
    assert_same(at_in, read[0])
    assert_same(at_last, read[-1])


def test_fitted_to_the_whole_range_the_first_and_last_seen_frames_train(source):
    trim = TrimRange(11, source.frame_count - 7)
    sample = sample_frames(source, trim, 17, "whole_range")
    assert (sample.frames[0], sample.frames[-1]) == (11, source.frame_count - 8)
    read = trained(source, sample.frames)
    at_in, at_out = seen(source, (11, source.frame_count - 8))
    assert_same(at_in, read[0])
    assert_same(at_out, read[-1])


def test_the_training_view_shows_the_pictures_that_the_trainer_reads(source):
    sample = sample_frames(source, TrimRange(20, source.frame_count), 9)
    size = TrainedSize(width=64, height=64, crop=source.whole_picture)
    from pathlib import Path

    read = read_frames(Path(source.path), tuple(source.frame_pts[f] for f in sample.frames), size)
    with FrameReader(source) as reader:
        for frame, picture in zip(sample.frames, read, strict=True):
            shown = pixels_of(picture_of(reader, FrameRequest(source, frame, size, QSize(640, 480))))
            assert shown.shape == picture.shape
            assert np.abs(shown.astype(int) - picture).mean() < 8
            assert number_in(shown) == number_in(picture)
