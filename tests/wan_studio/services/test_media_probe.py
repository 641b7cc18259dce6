from fractions import Fraction

import av
import numpy as np
import pytest

from tests.media import make_video, packet_times
from wan_studio.services.media_probe import UnreadableVideoError, probe

pytestmark = pytest.mark.media


def decoded_times(path) -> list[int]:
    with av.open(str(path)) as container:
        return [frame.pts for frame in container.decode(video=0)]


def write_picture(path, width=50, height=30):
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, : width // 2] = 200
    codec = {".png": "png", ".jpg": "mjpeg", ".webp": "libwebp"}[path.suffix]
    with path.open("wb") as file, av.open(file, "w", format="image2pipe") as container:
        stream = container.add_stream(codec, rate=1)
        stream.width, stream.height = width, height
        stream.pix_fmt = {"png": "rgb24", "mjpeg": "yuvj420p", "libwebp": "bgra"}[codec]
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1, 1)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {"fps": 25, "sound": True}),
        ("b.mp4", {"fps": Fraction(30_000, 1001), "b_frames": 2}),
        ("c.mkv", {"fps": 50, "b_frames": 2, "sound": True}),
        ("d.mkv", {"times": [0, 0.03, 0.1, 0.4, 0.45, 0.9]}),
        ("e.avi", {"codec": "mpeg4", "fps": 25, "b_frames": 2}),
        ("f.webm", {"codec": "libvpx", "fps": 10}),
        ("g.mov", {"codec": "mjpeg", "pixel_format": "yuvj420p"}),
        ("h.ts", {"fps": 25, "b_frames": 1}),
        ("i.mp4", {"codec": "libx265", "fps": 24, "b_frames": 2, "pixel_format": "yuv420p10le"}),
        ("j.webm", {"codec": "libvpx-vp9", "fps": 24}),
    ],
)
def test_the_index_is_the_time_stamps_that_the_decoder_gives(tmp_path, name, options):
    path = make_video(tmp_path / name, **options)
    source = probe(path)
    assert list(source.frame_pts) == decoded_times(path)
    assert source.frame_count == len(options.get("times", range(32)))
    assert (source.width, source.height) == (128, 96)
    assert source.has_sound == options.get("sound", False)
    assert not source.is_image


def test_rates_and_durations_come_from_time_stamps(tmp_path):
    source = probe(make_video(tmp_path / "a.mkv", fps=Fraction(30_000, 1001), frames=30))
    assert source.frames_per_second == pytest.approx(29.97, rel=2e-3)
    assert not source.has_variable_rate
    varied = probe(make_video(tmp_path / "b.mp4", times=[0, 0.03, 0.1, 0.4]))
    assert varied.has_variable_rate
    assert [varied.seconds_at(number) for number in range(4)] == pytest.approx([0, 0.03, 0.1, 0.4], abs=1e-4)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_video_has_its_upright_size(tmp_path, rotation):
    source = probe(make_video(tmp_path / "a.mp4", rotation=rotation))
    assert (source.width, source.height, source.rotation) == (128, 96, rotation)


def test_frames_cut_away_by_an_edit_list_are_not_counted(tmp_path):
    """A keyframe cut keeps frames before the wanted start in the file and hides them by an edit list."""
    whole = make_video(tmp_path / "whole.mp4", frames=32, fps=16, gop=16)
    cut = tmp_path / "cut.mp4"
    with av.open(str(whole)) as read, av.open(str(cut), "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        shift = round(Fraction(5, 16) / read.streams.video[0].time_base)
        for packet in read.demux(video=0):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                written.mux(packet)
    source = probe(cut)
    assert list(source.frame_pts) == decoded_times(cut)
    assert source.frame_count <= len(packet_times(cut))


@pytest.mark.parametrize("name", ["a.png", "b.jpg", "c.webp", "strange %03d name.png"])
def test_an_image_is_one_frame(tmp_path, name):
    source = probe(write_picture(tmp_path / name))
    assert source.is_image
    assert (source.width, source.height, source.frame_count) == (50, 30, 1)


def test_an_image_with_the_wrong_suffix_is_read_by_its_bytes(tmp_path):
    path = write_picture(tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert probe(path).is_image


def test_pixels_that_are_not_square_are_noticed(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 15)
        for number in range(4):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 16)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert probe(path).pixel_aspect == pytest.approx(16 / 15)


def test_hdr_is_recognised(tmp_path):
    path = make_video(
        tmp_path / "a.mp4",
        codec="libx265",
        pixel_format="yuv420p10le",
        encoder={"x265-params": "log-level=none:transfer=smpte2084:colorprim=bt2020:colormatrix=bt2020nc"},
    )
    assert probe(path).is_hdr
    assert not probe(make_video(tmp_path / "b.mp4")).is_hdr


def sound_only(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44_100)
        for start in range(0, 8192, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = 44_100, start, Fraction(1, 44_100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def cut_off(path, keep):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def test_a_text_named_as_a_video_is_refused(tmp_path):
    path = tmp_path / "notes.mp4"
    path.write_text("not a video at all\n" * 50)
    with pytest.raises(UnreadableVideoError, match=r"notes\.mp4 is not a video") as raised:
        probe(path)
    assert raised.value.hint


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(UnreadableVideoError, match="0 bytes"):
        probe(tmp_path / "a.mp4")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(UnreadableVideoError, match="does not exist"):
        probe(tmp_path / "gone.mp4")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(UnreadableVideoError, match="is not a file"):
        probe(tmp_path / "folder.mp4")


def test_sound_alone_is_refused(tmp_path):
    sound_only(tmp_path / "a.mp4")
    with pytest.raises(UnreadableVideoError, match="sound but no picture"):
        probe(tmp_path / "a.mp4")


def test_a_cut_off_mp4_is_refused(tmp_path):
    path = make_video(tmp_path / "a.mp4")
    cut_off(path, 0.6)
    with pytest.raises(UnreadableVideoError, match="cut off"):
        probe(path)


def test_a_cut_off_mp4_with_its_index_first_is_refused(tmp_path):
    whole = make_video(tmp_path / "a.mp4", frames=64)
    path = tmp_path / "b.mp4"
    with (
        av.open(str(whole)) as read,
        av.open(str(path), "w", options={"movflags": "faststart"}) as written,
    ):
        stream = written.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                written.mux(packet)
    cut_off(path, 0.6)
    with pytest.raises(UnreadableVideoError, match="cut off"):
        probe(path)


def test_a_cut_off_matroska_gives_the_frames_that_are_there(tmp_path):
    path = make_video(tmp_path / "a.mkv", frames=64)
    cut_off(path, 0.6)
    source = probe(path)
    assert 10 < source.frame_count < 64
    assert list(source.frame_pts) == decoded_times(path)


def test_time_stamps_that_run_backwards_are_refused(tmp_path):
    """H.264 with B-frames does not fit AVI: its time stamps would put frames in the wrong order."""
    path = make_video(tmp_path / "a.avi", b_frames=2)
    with pytest.raises(UnreadableVideoError, match="run backwards"):
        probe(path)


def test_a_cut_off_image_is_refused(tmp_path):
    path = write_picture(tmp_path / "a.png")
    cut_off(path, 0.3)
    with pytest.raises(UnreadableVideoError, match="not an image"):
        probe(path)


def test_names_in_other_scripts_work(tmp_path):
    assert probe(make_video(tmp_path / "春の 猫 é.mp4")).frame_count == 32
