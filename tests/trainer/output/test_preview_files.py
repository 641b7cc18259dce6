"""A preview has every frame at its time, opens anywhere, and is never half there."""

import json
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.media import is_upright, number_in, numbered_picture
from trainer.output.preview_files import PreviewWriteError, read_previews, write_preview


def numbered(count: int, width: int = 96, height: int = 64) -> np.ndarray:
    return np.stack([numbered_picture(number, width, height) for number in range(count)])


@pytest.mark.parametrize("count", [1, 5, 41, 81])
def test_the_video_has_exactly_the_frames_at_sixteen_a_second(tmp_path, count):
    files = write_preview(tmp_path / "step_000010", 0, numbered(count), 16, {"prompt": "p"})
    with av.open(str(files.video)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.frames == count
        assert stream.average_rate == 16
        frames = list(container.decode(stream))
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(n, 16) for n in range(count)]
    assert [number_in(frame.to_ndarray(format="rgb24")) for frame in frames] == list(range(count))


def test_colours_come_back_and_are_tagged(tmp_path):
    files = write_preview(tmp_path, 0, numbered(3), 16, {})
    with av.open(str(files.video)) as container:
        frame = next(container.decode(video=0))
    assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (1, 1, 1, 1)
    shown = frame.to_ndarray(format="rgb24").astype(int)
    # The middles of the quadrants' edges, away from the squares: 4:2:0 colour bleeds at their borders.
    assert np.abs(shown[1:4, 1:5] - (200, 40, 40)).max() < 8
    assert np.abs(shown[-4:-1, -5:-1] - (200, 190, 40)).max() < 8


def test_odd_sizes_gain_a_row_and_a_column_and_lose_nothing(tmp_path):
    frames = numbered(4, width=97, height=65)
    files = write_preview(tmp_path, 0, frames, 16, {})
    with av.open(str(files.video)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [picture.shape for picture in pictures] == [(66, 98, 3)] * 4
    assert all(np.abs(p[:65, :97].astype(int) - f).mean() < 8 for p, f in zip(pictures, frames, strict=True))
    assert [number_in(picture) for picture in pictures] == [0, 1, 2, 3]
    assert (read_previews(tmp_path)[0]["width"], read_previews(tmp_path)[0]["height"]) == (98, 66)


def test_the_poster_is_the_first_frame_in_its_colours(tmp_path):
    frames = numbered(4)[1:]
    files = write_preview(tmp_path, 0, frames, 16, {})
    assert files.poster.read_bytes()[:3] == b"\xff\xd8\xff"
    with av.open(str(files.poster)) as container:
        poster = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert number_in(poster) == 1
    assert is_upright(poster, tolerance=8)
    assert np.abs(poster.astype(int) - frames[0]).mean() < 4


def test_the_list_is_kept_up_to_date_row_by_row(tmp_path):
    write_preview(tmp_path, 1, numbered(5), 16, {"prompt": "鳥", "seed": 7})
    write_preview(tmp_path, 0, numbered(9), 16, {"prompt": "b"})
    write_preview(tmp_path, 1, numbered(1), 16, {"prompt": "c"})
    listed = json.loads((tmp_path / "previews.json").read_text(encoding="utf-8"))["previews"]
    assert [(entry["row"], entry["prompt"], entry["frames"]) for entry in listed] == [
        (0, "b", 9),
        (1, "c", 1),
    ]
    assert listed[1] == {
        "row": 1,
        "prompt": "c",
        "video": "01.mp4",
        "poster": "01.jpg",
        "fps": 16.0,
        "frames": 1,
        "width": 96,
        "height": 64,
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "00.jpg",
        "00.mp4",
        "01.jpg",
        "01.mp4",
        "previews.json",
    ]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"previews": 3}', '{"previews": [1, {"row": "x"}]}'])
def test_a_damaged_list_is_begun_anew(tmp_path, content):
    (tmp_path / "previews.json").write_text(content)
    write_preview(tmp_path, 0, numbered(1), 16, {})
    assert [entry["row"] for entry in read_previews(tmp_path)] == [0]


def test_a_disk_that_fills_up_leaves_no_half_file_and_keeps_the_old_preview(tmp_path):
    resource = pytest.importorskip("resource", reason="needs a file size limit")
    files = write_preview(tmp_path, 0, numbered(2), 16, {"prompt": "old"})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    noise = np.random.default_rng(0).integers(0, 256, (20, 128, 128, 3), np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(PreviewWriteError) as caught:
            write_preview(tmp_path, 0, noise, 16, {"prompt": "new"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(files.video) in caught.value.message
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_that_cannot_be_made_is_a_named_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PreviewWriteError, match="file"):
        write_preview(tmp_path / "file" / "step_000001", 0, numbered(1), 16, {})


@pytest.mark.parametrize(
    "frames",
    [np.zeros((0, 8, 8, 3), np.uint8), np.zeros((2, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8)],
)
def test_what_is_no_clip_is_refused(tmp_path, frames):
    with pytest.raises(ValueError, match="uint8"):
        write_preview(tmp_path, 0, frames, 16, {})
    assert not list(tmp_path.iterdir())
