"""The frames that the trimmer shows at in and out are the first and last ones that the trainer reads."""

from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QSize

from tests.media import make_video, number_in, numbers_in
from tests.wan_studio.bridge.pixels import pixels_of
from trainer.data.clip_frames import read_frames
from trainer.protocol.job import CropBox, TrainedSize
from trainer.protocol.tone_map import HLG, PQ, mapped
from wan_studio.bridge.frame_decoder import FrameDecoder, FrameRequest
from wan_studio.domain.clip import TrimRange
from wan_studio.domain.clip_ranges import snapped
from wan_studio.domain.frame_sampling import sample_frames
from wan_studio.services.decoder_process import DecoderProcess
from wan_studio.services.frame_reader import FrameReader
from wan_studio.services.media_probe import probe
from wan_studio.services.thumbnail_cache import ThumbnailCache
from wan_studio.services.trained_picture import trained_picture

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
    "rotated by 180": ("a.mp4", {"rotation": 180, "b_frames": 2}),
    "rotated by 270": ("a.mov", {"rotation": 270, "width": 96, "height": 128, "b_frames": 2}),
    "HEVC in 10 bits": ("a.mp4", {"codec": "libx265", "pixel_format": "yuv420p10le"}),
    "H.264 in 10 bits": ("a.mp4", {"pixel_format": "yuv420p10le", "colorspace": "bt709", "b_frames": 2}),
    "HDR10 in HEVC": ("a.mp4", {"codec": "libx265", "pixel_format": "yuv420p10le", "hdr": "pq"}),
    "HLG in HEVC": ("a.mkv", {"codec": "libx265", "pixel_format": "yuv420p10le", "hdr": "hlg"}),
    "PQ in H.264": ("a.mp4", {"pixel_format": "yuv420p10le", "hdr": "pq", "b_frames": 2}),
    "HLG rotated": ("a.mov", {"pixel_format": "yuv420p10le", "hdr": "hlg", "rotation": 90}),
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
            frame: reader.read_scaled(frame, 640, 480)
            for frame in sorted(frames, key=lambda frame: (frame * 37) % 101)
        }
    return [pictures[frame] for frame in frames]


def trained(source, frames, size=None):
    window = tuple(source.frame_pts[frame] for frame in frames)
    return read_frames(Path(source.path), window, size or whole_size(source))


def assert_same(shown, read):
    assert number_in(shown) == number_in(read)
    assert np.array_equal(shown, read)


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


def test_the_training_view_shows_the_very_pixels_that_the_trainer_reads(source):
    sample = sample_frames(source, TrimRange(20, source.frame_count), 9)
    size = TrainedSize(width=64, height=64, crop=CropBox(left=3, top=5, width=89, height=83))
    read = trained(source, sample.frames, size)
    with FrameReader(source) as reader:
        shown = [trained_picture(reader.read(frame), size) for frame in sample.frames]
    assert np.array_equal(np.stack(shown), read)


@pytest.mark.parametrize(("hdr", "transfer"), [("pq", PQ), ("hlg", HLG)])
def test_hdr_trains_as_the_formula_says_and_player_and_poster_show_it(qtbot, tmp_path, hdr, transfer):
    changes = {"codec": "libx265", "pixel_format": "yuv420p10le", "hdr": hdr, "frames": 12}
    source = probe(make_video(tmp_path / "hdr.mp4", **changes))
    assert source.is_hdr
    size = TrainedSize(width=128, height=96, crop=source.whole_picture)
    read = trained(source, (7,), size)[0]
    # The red of the top left corner, by its signals.
    red = np.array([255 * part for part in mapped((200 / 255, 40 / 255, 40 / 255), transfer)])
    assert np.abs(read[2:6, 2:60].mean((0, 1)) - red).max() < 8
    process = DecoderProcess()
    decoder = FrameDecoder(process=process)
    with qtbot.waitSignal(decoder.frame_ready, timeout=10_000) as blocker:
        decoder.request(FrameRequest(source, 7, size, QSize(640, 480)))
    assert np.array_equal(pixels_of(blocker.args[1]), read)
    decoder.stop()
    process.close()
    import av

    with av.open(str(ThumbnailCache(tmp_path / "posters").poster(source))) as container:
        poster = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(poster[2:6, 2:60].mean((0, 1)) - red).max() < 12
