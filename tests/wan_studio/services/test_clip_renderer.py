"""Exported clips hold their source's very frames: bit for bit in FFV1, nearest of all in H.264, each at its time."""

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.media import is_upright, make_video, number_in
from trainer.protocol.job import CropBox
from wan_studio.domain.clip import TrimRange
from wan_studio.domain.dataset_builder import ClipFiles
from wan_studio.domain.export_plan import ExportOptions, plan_export
from wan_studio.domain.project import Project, ProjectClip, Settings
from wan_studio.errors import AppError
from wan_studio.services.clip_renderer import RenderError, render
from wan_studio.services.frame_reader import FrameReader
from wan_studio.services.media_probe import UnreadableVideoError, probe

pytestmark = pytest.mark.media

TRIM = TrimRange(3, 20)
VARIABLE = [0.0]
for _at in range(23):
    VARIABLE.append(round(VARIABLE[-1] + (0.02, 0.04, 0.11, 0.033)[_at % 4], 4))

KINDS = {
    "H.264 with B-frames": ("a.mp4", {"b_frames": 2, "gop": 30, "fps": 25}),
    "29.97 fps": ("a.mp4", {"fps": Fraction(30000, 1001)}),
    "variable rate": ("a.mp4", {"times": VARIABLE}),
    "Matroska": ("a.mkv", {"fps": 30}),
    "MPEG-4 in AVI": ("a.avi", {"codec": "mpeg4", "fps": 24}),
    "transport stream": ("a.ts", {"fps": 25}),
    "10-bit HEVC": ("a.mp4", {"codec": "libx265", "pixel_format": "yuv420p10le"}),
    "full range": ("a.mp4", {"pixel_format": "yuvj420p", "colorspace": "bt709"}),
    "4:2:2": ("a.mp4", {"pixel_format": "yuv422p"}),
    "4:4:4 of odd size": ("a.mp4", {"pixel_format": "yuv444p", "width": 129, "height": 97}),
    "RGB": ("a.mkv", {"codec": "ffv1", "pixel_format": "bgr0"}),
    "rotated by 90": ("a.mp4", {"rotation": 90, "width": 96, "height": 128}),
    "rotated by 180": ("a.mp4", {"rotation": 180}),
    "rotated by 270": ("a.mov", {"rotation": 270, "width": 96, "height": 128}),
}


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def source(request, tmp_path):
    name, changes = request.param
    return probe(make_video(tmp_path / name, **{"frames": 24, **changes}))


def exported(source, target, *, codec="ffv1", trim=TRIM, crop=None, **settings):
    """The recipe of the first file of a project of this clip, rendered."""
    clip = ProjectClip(id="c1", source=source.path, caption_file="a.txt", trim=trim, crop=crop)
    project = Project(name="x", clips=(clip,), settings=Settings().with_values({"datasets": settings}))
    options = ExportOptions(codec=codec)
    files = plan_export(project, ClipFiles({"c1": source}, {}, {}), options).files
    recipe = files[-1].recipe
    render(source, recipe, target, lambda done, count: None)
    return recipe


def planes(frame):
    """Every plane of a decoded frame, (height, bytes of a line)."""
    found = []
    for plane, component in zip(frame.planes, frame.format.components, strict=False):
        item = 4 if len(frame.planes) == 1 else (2 if component.bits > 8 else 1)
        lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        found.append(lines[: plane.height, : plane.width * item].reshape(plane.height, plane.width, item))
    return found


def expected_planes(frame, recipe):
    """What a decoded source frame's planes become, worked out anew by slicing."""
    crop = recipe.crop
    cut = []
    for plane in planes(frame):
        down, across = round(frame.height / plane.shape[0]), round(frame.width / plane.shape[1])
        rows = slice(crop.top // down, (crop.top + crop.height) // down)
        cut.append(plane[rows, crop.left // across : (crop.left + crop.width) // across])
    return [np.rot90(plane, recipe.rotation // 90) for plane in cut]


def assert_equal_planes(written, source, recipe):
    with FrameReader(source) as before, FrameReader(probe(written)) as after:
        assert after.source.frame_count == len(recipe.frames)
        for place, frame in enumerate(recipe.frames):
            wanted = expected_planes(before.decoded(frame), recipe)
            for one, other in zip(planes(after.decoded(place)), wanted, strict=True):
                assert np.array_equal(one, other)


def test_ffv1_holds_the_decoded_frames_bit_for_bit(source, tmp_path):
    written = tmp_path / "out.mkv"
    assert_equal_planes(written, source, exported(source, written))


def test_ffv1_holds_the_crop_bit_for_bit(source, tmp_path):
    written = tmp_path / "out.mkv"
    crop = CropBox(left=11, top=6, width=61, height=50)
    recipe = exported(source, written, crop=crop)
    assert_equal_planes(written, source, recipe)
    # The next even pixels inside the crop.
    assert probe(written).width in (60, 61 - 61 % 2)
    assert probe(written).height == 50


def test_every_frame_of_h264_is_nearest_to_its_own_source_frame_and_at_its_time(source, tmp_path):
    written = tmp_path / "out.mp4"
    recipe = exported(source, written, codec="h264")
    found = probe(written)
    assert found.frame_count == TRIM.frame_count
    assert (found.rotation, found.width, found.height) == (0, *recipe.size)
    with FrameReader(source) as before, FrameReader(found) as after:
        originals = [before.read(frame) for frame in recipe.frames]
        pictures = [after.read(place) for place in range(found.frame_count)]
    assert is_upright(pictures[0])
    height, width = pictures[0].shape[:2]
    for place, picture in enumerate(pictures):
        errors = [np.abs(one[:height, :width].astype(int) - picture).mean() for one in originals]
        assert int(np.argmin(errors)) == place
        # Colours did not shift: neither range nor matrix nor place of colour is lost. Turned by 180 degrees,
        # colour would lie at the right, for which files have no word.
        assert errors[place] < (2.5 if source.rotation == 180 else 1.2)
        start = source.seconds_at(recipe.frames[place]) - source.seconds_at(TRIM.start_frame)
        assert found.seconds_at(place) == pytest.approx(start, abs=0.0006)


def test_colour_tags_are_carried_over(tmp_path):
    source = probe(make_video(tmp_path / "a.mp4", frames=8, colorspace="bt709"))
    for codec, name in (("h264", "out.mp4"), ("ffv1", "out.mkv")):
        exported(source, tmp_path / name, codec=codec, trim=TrimRange(0, 6))
        with av.open(str(tmp_path / name)) as container:
            frame = next(container.decode(video=0))
        assert (int(frame.colorspace), int(frame.color_range)) == (1, 1)


@pytest.mark.parametrize("hdr", ["pq", "hlg"])
def test_hdr_is_written_tone_mapped_as_it_trains(hdr, tmp_path):
    source = probe(make_video(tmp_path / "a.mp4", frames=8, pixel_format="yuv420p10le", hdr=hdr))
    assert source.is_hdr
    exported(source, tmp_path / "out.mkv", trim=TrimRange(0, 6))
    written = probe(tmp_path / "out.mkv")
    assert not written.is_hdr
    with FrameReader(source) as before, FrameReader(written) as after:
        assert np.array_equal(after.read(2), before.read(2))
    exported(source, tmp_path / "out.mp4", codec="h264", trim=TrimRange(0, 6))
    written = probe(tmp_path / "out.mp4")
    with FrameReader(source) as before, FrameReader(written) as after:
        assert np.abs(after.read(2).astype(int) - before.read(2)).mean() < 1.5
        with av.open(str(tmp_path / "out.mp4")) as container:
            frame = next(container.decode(video=0))
    assert (int(frame.colorspace), int(frame.color_trc), int(frame.color_primaries)) == (1, 1, 1)


def test_a_mirrored_copy_is_the_picture_mirrored(tmp_path):
    source = probe(make_video(tmp_path / "a.mp4", frames=8))
    recipe = exported(source, tmp_path / "out.mkv", trim=TrimRange(0, 6), flip_horizontal=True)
    assert recipe.flip == "horizontal"
    with FrameReader(source) as before, FrameReader(probe(tmp_path / "out.mkv")) as after:
        wanted = expected_planes(before.decoded(2), recipe)
        for one, other in zip(planes(after.decoded(2)), wanted, strict=True):
            assert np.array_equal(one, other[:, ::-1])


@pytest.mark.parametrize("name", ["still.png", "still.jpg"])
def test_an_image_is_copied_byte_for_byte_or_cut_without_loss(tmp_path, name):
    picture = np.random.default_rng(1).integers(0, 255, (40, 60, 3), np.uint8)
    path = tmp_path / name
    av.VideoFrame.from_ndarray(picture, format="rgb24").save(path)
    source = probe(path)
    assert exported(source, tmp_path / "whole", trim=None).kind == "copy"
    assert (tmp_path / "whole").read_bytes() == path.read_bytes()
    crop = CropBox(left=3, top=5, width=21, height=17)
    assert exported(source, tmp_path / "cut.png", trim=None, crop=crop).kind == "image"
    with FrameReader(source) as before, FrameReader(probe(tmp_path / "cut.png")) as after:
        assert np.array_equal(after.read(0), before.read(0)[5:22, 3:24])


def test_a_source_that_changed_or_ends_early_leaves_nothing_behind(tmp_path):
    source = probe(make_video(tmp_path / "a.mkv", frames=24))
    whole = Path(source.path).read_bytes()
    Path(source.path).write_bytes(whole + b"x")
    with pytest.raises(UnreadableVideoError, match="has just changed"):
        exported(source, tmp_path / "out.mp4")

    Path(source.path).write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    os.utime(source.path, ns=(source.modified_ns, source.modified_ns))
    with pytest.raises(AppError):
        exported(source, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path):
    source = probe(make_video(tmp_path / "a.mp4", frames=8))
    with pytest.raises(RenderError, match=r"a\.mp4 could not be written"):
        exported(source, tmp_path / "none" / "out.mp4", trim=TrimRange(0, 6))


def test_the_numbers_in_the_pictures_are_those_of_the_range(tmp_path):
    source = probe(make_video(tmp_path / "a.mp4", frames=24, gop=250, b_frames=3))
    exported(source, tmp_path / "out.mp4", codec="h264")
    with FrameReader(probe(tmp_path / "out.mp4")) as reader:
        assert [number_in(reader.read(at)) for at in range(17)] == list(range(3, 20))
