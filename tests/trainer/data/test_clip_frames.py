"""Frames come by time stamp, upright, cropped and exactly the ones named."""

import os
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.media import (
    QUADRANT_COLOURS,
    is_upright,
    make_video,
    number_in,
    numbered_picture,
    numbers_in,
    packet_times,
)
from trainer.data.clip_frames import (
    ClipChangedError,
    UnreadableClipError,
    check_source,
    read_frames,
    read_image,
)
from trainer.protocol.job import ClipSpec, CropBox, TrainedSize


def whole(width: int, height: int, out_width: int = 64, out_height: int = 48) -> TrainedSize:
    return TrainedSize(
        width=out_width, height=out_height, crop=CropBox(left=0, top=0, width=width, height=height)
    )


SMALL = whole(128, 96)

FILES = [
    ("plain.mp4", {}),
    ("long_gop.mp4", {"gop": 250, "b_frames": 3}),
    ("open_gop.mkv", {"b_frames": 3, "encoder": {"x264-params": "open-gop=1"}}),
    ("open_gop.mp4", {"b_frames": 3, "encoder": {"x264-params": "open-gop=1"}}),
    ("sound.mkv", {"b_frames": 2, "sound": True}),
    ("stream.ts", {"b_frames": 2}),
    ("hevc.mp4", {"codec": "libx265", "b_frames": 2, "pixel_format": "yuv420p10le"}),
    ("old.avi", {"codec": "mpeg4", "sound": True}),
    ("old_b.avi", {"codec": "mpeg4", "b_frames": 2}),
    ("h264.avi", {"b_frames": 2}),
    ("web.webm", {"codec": "libvpx-vp9"}),
    ("lossless.mkv", {"codec": "ffv1"}),
    ("animation.gif", {"codec": "gif", "pixel_format": "rgb8"}),
]


@pytest.mark.parametrize(("name", "changes"), FILES)
def test_any_window_gives_exactly_the_frames_it_names(tmp_path, name, changes):
    path = make_video(tmp_path / name, frames=40, **changes)
    stamps = packet_times(path)
    for numbers in ([0, 1, 2], [7, 8, 9], [13, 17, 21, 25, 29], [3, 3, 3, 30, 30], [39], list(range(40))):
        frames = read_frames(path, [stamps[number] for number in numbers], SMALL)
        assert frames.shape == (len(numbers), 48, 64, 3)
        assert frames.dtype == np.uint8
        assert numbers_in(frames) == numbers


def test_a_variable_rate_is_read_by_its_times(tmp_path):
    times = [0, 0.03, 0.05, 0.4, 0.41, 0.9, 0.95, 1.6, 1.61, 2.0]
    for suffix in (".mp4", ".mkv"):
        path = make_video(tmp_path / f"variable{suffix}", times=times, gop=4, b_frames=2)
        stamps = packet_times(path)
        assert numbers_in(read_frames(path, [stamps[i] for i in (1, 3, 4, 7, 9)], SMALL)) == [1, 3, 4, 7, 9]


def test_a_time_between_frames_takes_the_frame_on_screen_and_a_time_before_all_the_first(tmp_path):
    path = make_video(tmp_path / "slow.mkv", times=[0.5, 1.0, 2.0, 3.0], gop=1)
    stamps = packet_times(path)
    window = [stamps[0] - 400, stamps[0] + 1, stamps[2] - 1, stamps[2] + 1, stamps[3]]
    assert numbers_in(read_frames(path, window, SMALL)) == [0, 0, 1, 2, 3]


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_rotated_video_is_turned_upright_before_the_crop(tmp_path, rotation):
    path = make_video(tmp_path / "phone.mp4", rotation=rotation, width=96, height=160)
    frames = read_frames(path, packet_times(path)[5:10], whole(96, 160, 96, 160))
    assert numbers_in(frames) == [5, 6, 7, 8, 9]
    assert all(is_upright(frame) for frame in frames)
    bottom_right = TrainedSize(width=16, height=16, crop=CropBox(left=82, top=146, width=14, height=14))
    cropped = read_frames(path, packet_times(path)[:1], bottom_right)
    assert np.abs(cropped.mean((0, 1, 2)) - QUADRANT_COLOURS["bottom right"]).max() < 20


def test_a_mirrored_display_matrix_is_mirrored_back(tmp_path):
    path = make_video(tmp_path / "mirror.mp4", rotation=180)
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    content[matrix : matrix + 4] = (-1 << 16).to_bytes(4, "big", signed=True)
    content[matrix + 16 : matrix + 20] = (1 << 16).to_bytes(4, "big")
    path.write_bytes(content)
    stored = numbered_picture(0, 128, 96)[::-1, ::-1]
    shown = read_frames(path, packet_times(path)[:1], whole(128, 96, 128, 96))[0]
    assert np.abs(shown.astype(int) - stored[:, ::-1]).mean() < 6


def test_odd_sizes_and_odd_crops_are_cut_at_the_pixel(tmp_path):
    path = make_video(tmp_path / "odd.mkv", width=131, height=97, codec="ffv1", pixel_format="bgr0")
    crop = CropBox(left=13, top=7, width=48, height=32)
    frame = read_frames(path, packet_times(path)[4:5], TrainedSize(width=48, height=32, crop=crop))[0]
    assert np.array_equal(frame, numbered_picture(4, 131, 97)[7:39, 13:61])


@pytest.mark.parametrize(
    ("colorspace", "pixel_format", "size"),
    [
        ("bt709", "yuv444p", (128, 96)),
        ("bt601", "yuv444p", (128, 96)),
        ("", "yuv444p", (128, 96)),
        ("bt709", "yuv444p10le", (128, 96)),
        ("bt601", "yuvj444p", (128, 96)),
    ],
)
def test_colours_are_those_that_were_coded(tmp_path, colorspace, pixel_format, size):
    lossless = {"codec": "ffv1"} if "j" not in pixel_format else {"encoder": {"crf": "0"}}
    path = make_video(
        tmp_path / "colour.mkv", frames=1, colorspace=colorspace, pixel_format=pixel_format, **lossless
    )
    frame = read_frames(path, packet_times(path), whole(*size, 128, 96))[0]
    assert np.abs(frame.astype(int) - numbered_picture(0, 128, 96)).max() <= 4


def test_the_matrix_is_bt709_by_an_independent_computation(tmp_path):
    path = tmp_path / "flat.mkv"
    luma, blue_difference, red_difference = 150, 110, 150
    with av.open(str(path), "w") as container:
        for_709 = container.add_stream("ffv1", rate=16)
        for_709.width, for_709.height, for_709.pix_fmt = 1280, 64, "yuv444p"
        frame = av.VideoFrame(1280, 64, "yuv444p")
        for plane, value in zip(frame.planes, (luma, blue_difference, red_difference), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        frame.pts = 0
        container.mux(for_709.encode(frame))
        container.mux(for_709.encode(None))
    y = (luma - 16) / 219
    pb, pr = (blue_difference - 128) / 224, (red_difference - 128) / 224
    red, blue = y + 2 * (1 - 0.2126) * pr, y + 2 * (1 - 0.0722) * pb
    green = (y - 0.2126 * red - 0.0722 * blue) / 0.7152
    # The file has no tag: high definition means BT.709.
    shown = read_frames(path, [0], whole(1280, 64, 1280, 64))[0, 30, 600]
    assert np.abs(shown - 255 * np.array([red, green, blue])).max() <= 2


def test_resizing_down_averages_rather_than_picks(tmp_path):
    path = make_video(tmp_path / "v.mkv", width=512, height=512, codec="ffv1", pixel_format="bgr0", frames=1)
    frame = read_frames(path, [0], whole(512, 512, 64, 64))[0]
    expected = numbered_picture(0, 512, 512).reshape(64, 8, 64, 8, 3).mean((1, 3))
    assert np.abs(frame - expected).mean() < 3


@pytest.mark.parametrize(("suffix", "tolerance"), [("png", 0), ("jpg", 16), ("webp", 16), ("bmp", 0)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_still_image_is_one_upright_frame(tmp_path, suffix, tolerance, orientation):
    upright = Image.fromarray(numbered_picture(181, 96, 80))
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    stored = upright if undo is None or suffix == "bmp" else upright.transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"still.{suffix}"
    options = {"quality": 95} if suffix in ("jpg", "webp") else {}
    stored.save(path, **options, **({} if suffix == "bmp" else {"exif": exif.tobytes()}))
    frames = read_frames(path, [0, 0, 0, 0, 0], whole(96, 80, 96, 80))
    assert numbers_in(frames) == [181] * 5
    assert is_upright(frames[0])
    assert np.abs(frames[0].astype(int) - np.asarray(upright)).mean() <= tolerance
    assert np.array_equal(read_image(path), frames[0])


def test_images_with_transparency_grey_and_sixteen_bits_become_rgb(tmp_path):
    ramp = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    Image.fromarray((ramp >> 8).astype(np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray(numbered_picture(3, 64, 48)).convert("RGBA").save(tmp_path / "alpha.png")
    deep, grey = read_image(tmp_path / "deep.png"), read_image(tmp_path / "grey.png")
    assert deep.shape == grey.shape == (48, 64, 3)
    assert np.abs(deep.astype(int) - grey).max() <= 1
    assert np.array_equal(grey[..., 0], (ramp >> 8).astype(np.uint8))
    assert number_in(read_image(tmp_path / "alpha.png")) == 3


def test_a_seek_does_not_lose_the_encoder_version_that_only_the_first_packet_names(tmp_path):
    # Before version 151 x264 coded 4:4:4 in a way of its own, and the decoder goes by the version.
    # Here the version is a lie: a decoder that knows it gets the picture wrong, at once and after a seek.
    path = make_video(tmp_path / "v.mp4", pixel_format="yuv444p", encoder={"preset": "medium"}, gop=4)
    stamps = packet_times(path)
    assert numbers_in(read_frames(path, stamps[20:25], SMALL)) == [20, 21, 22, 23, 24]
    content = path.read_bytes()
    version = content.index(b"x264 - core ") + len(b"x264 - core ")
    path.write_bytes(content[:version] + b"148" + content[version + 3 :])
    assert numbers_in(read_frames(path, stamps, SMALL)) != list(range(32))
    assert numbers_in(read_frames(path, stamps[20:25], SMALL)) != [20, 21, 22, 23, 24]


def test_the_first_frame_of_a_video_serves_as_a_control_image(tmp_path):
    assert number_in(read_image(make_video(tmp_path / "v.mp4", first_number=9))) == 9


def test_a_name_in_another_script_is_read(tmp_path):
    path = make_video(tmp_path / "手話 ü.mp4")
    assert numbers_in(read_frames(path, packet_times(path)[:3], SMALL)) == [0, 1, 2]


def spoilt(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "bad.mp4"
    if kind == "text":
        path.write_text("this is no video\n" * 50)
    if kind == "empty":
        path.write_bytes(b"")
    if kind == "headless":
        path.write_bytes(make_video(tmp_path / "whole.mp4").read_bytes()[:3000])
    if kind == "folder":
        path.mkdir()
    if kind == "sound only":
        with av.open(str(path), "w") as container:
            sound = container.add_stream("aac", rate=44_100)
            frame = av.AudioFrame.from_ndarray(
                np.zeros((2, 1024), np.float32), format="fltp", layout="stereo"
            )
            frame.sample_rate = 44_100
            container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
    return path


@pytest.mark.parametrize("kind", ["missing", "text", "empty", "headless", "folder", "sound only"])
def test_what_is_no_video_is_refused_by_name(tmp_path, kind):
    path = spoilt(tmp_path, kind)
    with pytest.raises(UnreadableClipError) as caught:
        read_frames(path, [0, 1024], SMALL)
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert caught.value.kind == "unreadable_clip"
    with pytest.raises(UnreadableClipError):
        read_image(path)


def test_a_file_cut_short_before_the_wanted_frames_is_refused_and_earlier_frames_still_read(tmp_path):
    path = make_video(tmp_path / "long.mkv", frames=64, gop=4, width=256, height=192)
    stamps = packet_times(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert numbers_in(read_frames(path, stamps[:5], whole(256, 192))) == [0, 1, 2, 3, 4]
    for window in (stamps[40:60], stamps[60:61], stamps[8:60]):
        with pytest.raises(UnreadableClipError, match=r"long\.mkv"):
            read_frames(path, window, whole(256, 192))


def test_a_fast_start_file_cut_short_is_refused(tmp_path):
    plain = make_video(tmp_path / "plain.mp4", frames=64, gop=4, width=256, height=192)
    path = tmp_path / "front.mp4"
    with av.open(str(plain)) as source, av.open(str(path), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    stamps = packet_times(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert numbers_in(read_frames(path, stamps[:5], whole(256, 192))) == [0, 1, 2, 3, 4]
    with pytest.raises(UnreadableClipError):
        read_frames(path, stamps[30:62], whole(256, 192))


def test_a_crop_beyond_the_picture_is_refused(tmp_path):
    path = make_video(tmp_path / "v.mp4")
    with pytest.raises(UnreadableClipError, match="crop"):
        read_frames(path, [0], whole(129, 96))


def spec_of(path: Path) -> ClipSpec:
    found = path.stat()
    return ClipSpec(
        source=str(path),
        source_bytes=found.st_size,
        source_modified_ns=found.st_mtime_ns,
        windows=((0,),),
        sizes=(SMALL,),
        caption="",
    )


def test_a_source_that_changed_since_the_job_was_made_is_told_apart(tmp_path):
    path = make_video(tmp_path / "v.mp4")
    clip = spec_of(path)
    check_source(clip)
    os.utime(path, ns=(0, 12345))
    with pytest.raises(ClipChangedError, match=r"v\.mp4"):
        check_source(clip)
    path.unlink()
    with pytest.raises(UnreadableClipError, match="not there"):
        check_source(clip)
