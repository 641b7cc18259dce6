"""Sampling against an oracle in exact fractions that knows nothing of the implementation."""

from fractions import Fraction

import pytest

from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.domain.frame_sampling import (
    Sampling,
    longest_real_speed_sample,
    sample_frames,
    sample_windows,
    valid_frame_count,
)


def video(times: list[Fraction], time_base: Fraction = Fraction(1, 90_000)) -> SourceVideo:
    return SourceVideo(
        path="/clips/a.mp4",
        size_bytes=1,
        modified_ns=1,
        width=64,
        height=48,
        frame_pts=tuple(round(time / time_base) for time in times),
        time_base=time_base,
        codec="h264",
    )


def constant(frames: int, rate: Fraction | int, time_base: Fraction = Fraction(1, 90_000)) -> SourceVideo:
    return video([Fraction(number) / rate for number in range(frames)], time_base)


def on_screen(times: list[Fraction], wanted: Fraction) -> int:
    return max(number for number, time in enumerate(times) if time <= wanted)


@pytest.mark.parametrize("rate", [10, 15, 16, 24, 25, 30, 50, 60, 120])
def test_real_speed_takes_the_frame_on_screen_at_each_sixteenth(rate):
    times = [Fraction(number, rate) for number in range(5 * rate)]
    sample = sample_frames(video(times), TrimRange(0, len(times)), 41)
    assert sample.frames == tuple(on_screen(times, Fraction(i, 16)) for i in range(41))
    assert sample.speed == 1.0
    assert not sample.is_shortened


def test_ntsc_rate_does_not_drift():
    times = [Fraction(number * 1001, 30_000) for number in range(300)]
    sample = sample_frames(video(times, Fraction(1, 30_000)), TrimRange(0, 300), 81)
    assert sample.frames == tuple(on_screen(times, Fraction(i, 16)) for i in range(81))


def test_a_variable_rate_is_sampled_by_time():
    distances = [Fraction(1, 30)] * 20 + [Fraction(1, 5)] * 5 + [Fraction(1, 60)] * 60
    times = [sum(distances[:number], Fraction(0)) for number in range(len(distances))]
    sample = sample_frames(video(times), TrimRange(0, len(times)), 33)
    assert sample.frames == tuple(on_screen(times, Fraction(i, 16)) for i in range(33))
    assert any(a == b for a, b in zip(sample.frames, sample.frames[1:], strict=False))


def test_a_trim_starts_at_its_own_first_frame():
    times = [Fraction(number, 30) for number in range(200)]
    sample = sample_frames(video(times), TrimRange(47, 200), 21)
    expected = tuple(on_screen(times, times[47] + Fraction(i, 16)) for i in range(21))
    assert sample.frames == expected
    assert sample.frames[0] == 47


def test_a_first_time_stamp_that_is_not_zero_shifts_nothing():
    times = [Fraction(number, 25) for number in range(100)]
    late = [time + Fraction(7, 3) for time in times]
    early = [time - Fraction(1, 10) for time in times]
    expected = sample_frames(video(times), TrimRange(0, 100), 41).frames
    assert sample_frames(video(late), TrimRange(0, 100), 41).frames == expected
    assert sample_frames(video(early), TrimRange(0, 100), 41).frames == expected


@pytest.mark.parametrize("first", range(6))
def test_milliseconds_of_matroska_neither_repeat_nor_skip_at_sixteen_a_second(first):
    source = constant(80, 16, Fraction(1, 1000))
    sample = sample_frames(source, TrimRange(first, 80), 41)
    assert sample.frames == tuple(range(first, first + 41))


def test_a_time_base_of_one_frame_is_taken_as_exact():
    times = [Fraction(number, 25) for number in range(60)]
    sample = sample_frames(video(times, Fraction(1, 25)), TrimRange(0, 60), 33)
    assert sample.frames == tuple(on_screen(times, Fraction(i, 16)) for i in range(33))


@pytest.mark.parametrize(
    ("frames", "rate", "longest"),
    # The last sixteenth that begins before the end, rounded down to 4n + 1.
    [
        (32, 16, 29),
        (33, 16, 33),
        (36, 16, 33),
        (37, 16, 37),
        (77, 30, 41),
        (47, 30, 25),
        (8, 30, 5),
        (7, 30, 1),
    ],
)
@pytest.mark.parametrize("time_base", [Fraction(1, 90_000), Fraction(1, 1000)])
def test_a_short_range_gives_the_largest_valid_count_that_it_holds(frames, rate, longest, time_base):
    source = constant(frames, rate, time_base)
    assert longest_real_speed_sample(source, source.whole_range) == longest
    sample = sample_frames(source, source.whole_range, 81)
    assert len(sample.frames) == longest
    assert sample.is_shortened
    assert sample.frames[-1] < frames


def test_whole_range_goes_from_the_first_to_the_last_frame_and_says_its_speed():
    source = constant(121, 30)
    sample = sample_frames(source, TrimRange(0, 121), 41, "whole_range")
    assert (sample.frames[0], sample.frames[-1]) == (0, 120)
    assert sample.frames == tuple(range(0, 121, 3))
    # 4 seconds are learnt as 40 / 16 seconds.
    assert sample.speed == pytest.approx(4 / 2.5)


def test_no_sample_leaves_the_trimmed_range():
    source = constant(300, 24)
    for rule in ("real_speed", "middle", "random", "sliding", "whole_range"):
        for trim in (TrimRange(10, 11), TrimRange(10, 12), TrimRange(290, 300), TrimRange(0, 300)):
            sample = sample_frames(source, trim, 81, rule)
            assert min(sample.frames) >= trim.start_frame
            assert max(sample.frames) < trim.end_frame
            assert len(sample.frames) % 4 == 1
            assert list(sample.frames) == sorted(sample.frames)


def test_an_image_is_one_frame():
    still = video([Fraction(0)])
    assert still.is_image
    assert sample_frames(still, still.whole_range, 41).frames == (0,)


@pytest.mark.parametrize(("asked", "taken"), [(1, 1), (4, 1), (5, 5), (40, 37), (41, 41), (81, 81), (0, 1)])
def test_frame_counts_are_rounded_down_to_4n_plus_1(asked, taken):
    assert valid_frame_count(asked) == taken


def sixteenths(times: list[Fraction], first: int, out: int) -> list[int]:
    """The frame on screen at every sixteenth of a second that begins inside the range."""
    end = times[out] if out < len(times) else times[-1] + (times[1] - times[0])
    shown, wanted = [], times[first]
    while wanted < end:
        shown.append(on_screen(times, wanted))
        wanted += Fraction(1, 16)
    return shown


RATES = [Fraction(16), Fraction(24), Fraction(30_000, 1001), Fraction(50), Fraction(10)]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("trim", [TrimRange(0, 150), TrimRange(31, 149)])
def test_windows_are_runs_of_the_sixteenths_where_the_rule_puts_them(rate, trim):
    times = [Fraction(number) / rate for number in range(150)]
    source = video(times, Fraction(1, 30_000))
    all_shown = sixteenths(times, trim.start_frame, trim.end_frame)

    def runs(starts):
        return [tuple(all_shown[start : start + 17]) for start in starts]

    def taken(rule, **fields):
        return [sample.frames for sample in sample_windows(source, trim, Sampling(17, rule, **fields))]

    spare = len(all_shown) - 17
    assert taken("real_speed", windows=5) == runs([0])
    assert taken("middle", windows=5) == runs([spare // 2])
    assert taken("sliding", windows=3, stride=9) == runs([0, 9, 18])
    assert taken("sliding", windows=1000, stride=5) == runs(range(0, spare + 1, 5))
    drawn = taken("random", windows=5, seed="a")
    possible = runs(range(spare + 1))
    places = [possible.index(window) for window in drawn]
    assert places == sorted(set(places))
    assert len(places) == 5
    assert sorted(taken("random", windows=10_000)) == sorted(set(possible))


def test_random_windows_depend_on_the_seed_alone_and_reach_everywhere():
    source = constant(200, 16)

    def starts(seed, windows=4):
        samples = sample_windows(source, source.whole_range, Sampling(41, "random", windows, seed=seed))
        return [sample.frames[0] for sample in samples]

    assert starts("1/a") == starts("1/a")
    assert starts("1/a") != starts("1/b")
    seen = [start for number in range(400) for start in starts(str(number))]
    # 160 possible starts: each is drawn 10 times in 400 draws of 4 on average; thirds are even.
    assert set(seen) == set(range(160))
    for third in (range(53), range(53, 106), range(106, 159)):
        assert sum(start in third for start in seen) / len(seen) == pytest.approx(53 / 160, abs=0.03)


@pytest.mark.parametrize("rule", ["real_speed", "middle", "random", "sliding"])
def test_a_range_too_short_for_two_windows_gives_what_fits(rule):
    exact = constant(17, 16)
    windows = sample_windows(exact, exact.whole_range, Sampling(17, rule, 4, 1))
    assert [sample.frames for sample in windows] == [tuple(range(17))]
    short = constant(11, 16)
    windows = sample_windows(short, short.whole_range, Sampling(17, rule, 4, 1))
    assert all(len(sample.frames) == 9 and sample.is_shortened for sample in windows)
    starts = [sample.frames[0] for sample in windows]
    assert starts == {"real_speed": [0], "middle": [1], "random": [0, 1, 2], "sliding": [0, 1, 2]}[rule]


@pytest.mark.parametrize("rule", ["real_speed", "middle", "random", "sliding", "whole_range"])
def test_an_image_is_one_window_by_every_rule(rule):
    still = video([Fraction(0)])
    assert [s.frames for s in sample_windows(still, still.whole_range, Sampling(41, rule, 4))] == [(0,)]


def test_single_frames_of_a_clip_are_windows_too():
    source = constant(33, 16)
    frames = [s.frames for s in sample_windows(source, source.whole_range, Sampling(1, "sliding", 3, 16))]
    assert frames == [(0,), (16,), (32,)]
    assert sample_frames(source, source.whole_range, 1, "middle").frames == (16,)


def test_a_slow_source_gives_no_window_twice():
    source = constant(6, 2)
    windows = sample_windows(source, source.whole_range, Sampling(5, "sliding", 1000, 1))
    frames = [sample.frames for sample in windows]
    assert len(frames) == len(set(frames))
