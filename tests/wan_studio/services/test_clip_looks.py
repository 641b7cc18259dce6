import numpy as np
import pytest

from tests.media import make_video
from wan_studio.domain.clip_record import Candidate
from wan_studio.services.clip_looks import look_at
from wan_studio.services.duplicates import find_duplicates
from wan_studio.services.media_probe import probe

pytestmark = pytest.mark.media


def drawn(path, draw, frames=48, size=(96, 128), options=None):
    """A video of pictures that a function draws."""
    from fractions import Fraction

    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=16)
        stream.height, stream.width, stream.pix_fmt = size[0], size[1], "yuv420p"
        stream.options = options or {"crf": "18", "preset": "ultrafast"}
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(draw(number), format="rgb24")
            frame = frame.reformat(size[1], size[0], "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 16)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def scene(seed, move=lambda number: number):
    """Waves of grey in a few directions that slide to the right."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:96, 0:128] / np.array([96, 128])[:, None, None]
    waves = sum(
        np.sin(2 * np.pi * (down * rows + across * columns) + generator.uniform(0, 6))
        for down, across in generator.integers(1, 4, (5, 2))
    )
    picture = (150 + 90 * waves / np.abs(waves).max()).astype(np.uint8)

    def draw(number):
        return np.repeat(np.roll(picture, move(number), axis=1)[:, :, None], 3, axis=2)

    return draw


def test_a_still_start_and_end_are_measured(tmp_path):
    path = drawn(tmp_path / "a.mp4", scene(1, lambda number: min(max(number - 16, 0), 20)))
    look = look_at(probe(path))
    assert look.still_head_seconds == pytest.approx(1.0, abs=0.15)
    assert look.still_tail_seconds == pytest.approx(0.7, abs=0.2)


def test_a_clip_in_which_nothing_moves_has_no_still_ends_to_cut(tmp_path):
    look = look_at(probe(drawn(tmp_path / "a.mp4", scene(1, lambda _: 0))))
    assert (look.still_head_seconds, look.still_tail_seconds) == (0.0, 0.0)


def test_black_bars_are_found_and_the_picture_inside_them(tmp_path):
    inside = scene(2)

    def draw(number):
        picture = inside(number).copy()
        picture[:16] = picture[-16:] = 0
        return picture

    box = look_at(probe(drawn(tmp_path / "a.mp4", draw))).picture
    assert box is not None
    assert (box.left, box.width) == (0, 128)
    assert 16 <= box.top <= 19
    assert 96 - 2 * 19 <= box.height <= 64
    assert look_at(probe(drawn(tmp_path / "b.mp4", inside))).picture is None


def candidate(path, **changes):
    source = probe(path)
    values = {"clip_id": path.stem, "place": str(path), "seconds": source.duration_seconds, "look": look_at(source), "worth": (source.width,)}  # fmt: skip
    return Candidate(**{**values, **changes})


def test_a_copy_and_a_poor_smaller_version_are_found_and_other_clips_are_not(tmp_path):
    first = drawn(tmp_path / "first.mp4", scene(1))
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(first.read_bytes())
    poor = drawn(tmp_path / "poor.mp4", scene(1), size=(64, 86), options={"crf": "36"})
    other = drawn(tmp_path / "other.mp4", scene(5))
    marks = find_duplicates([candidate(path) for path in (poor, first, copy, other)])
    assert set(marks) == {"poor", "first", "copy"}
    assert len({mark.group for mark in marks.values()}) == 1
    assert [marks[name].is_exact for name in ("first", "copy", "poor")] == [True, True, False]
    assert [name for name, mark in marks.items() if mark.is_best] == ["first"]


def test_parts_of_one_file_are_no_copies_of_each_other(tmp_path):
    path = make_video(tmp_path / "a.mp4", frames=30)
    assert find_duplicates([candidate(path), candidate(path, clip_id="b")]) == {}


def test_flat_pictures_resemble_nothing(tmp_path):
    grey = [np.full((96, 128, 3), level, np.uint8) for level in (80, 90)]
    paths = [drawn(tmp_path / f"{at}.mp4", lambda _, at=at: grey[at]) for at in (0, 1)]
    assert find_duplicates([candidate(path) for path in paths]) == {}
