from fractions import Fraction

import pytest

from wan_studio.domain.clip import EmptyTrimError, SourceVideo, TrimRange


def video(pts: tuple[int, ...], time_base: Fraction = Fraction(1, 1000)) -> SourceVideo:
    return SourceVideo(
        path="/clips/a.mkv",
        size_bytes=1,
        modified_ns=1,
        width=64,
        height=48,
        frame_pts=pts,
        time_base=time_base,
        codec="h264",
    )


def test_a_trim_without_frames_cannot_be_made():
    for start, end in ((3, 3), (4, 3), (-1, 3)):
        with pytest.raises(EmptyTrimError):
            TrimRange(start, end)


def test_every_frame_is_on_screen_from_its_own_time_to_the_next():
    source = video((500, 533, 567, 700, 733))
    for number in range(5):
        assert source.frame_at(source.seconds_at(number)) == number
    assert source.frame_at(0.199) == 2
    assert source.frame_at(0.2) == 3
    assert source.frame_at(-5) == 0
    assert source.frame_at(99) == 4


def test_duration_counts_the_last_frame():
    source = video((0, 40, 80, 120))
    assert source.duration_seconds == pytest.approx(0.16)
    assert source.frames_per_second == pytest.approx(25)


def test_rounded_milliseconds_are_no_variable_rate():
    assert not video(tuple(round(number * 1000 / 30) for number in range(60))).has_variable_rate
    assert video((0, 33, 67, 200, 233)).has_variable_rate


def test_an_image_has_no_duration():
    still = video((0,))
    assert still.is_image
    assert still.duration_seconds == 0
    assert still.frames_per_second == 0
