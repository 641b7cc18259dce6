from fractions import Fraction

import pytest

from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.domain.clip_motion import ClipMotion, cuts_of, neighbouring_cut, scenes_in
from wan_studio.domain.trim_suggestion import motion_range, without_still_ends


def video(frames, fps=20):
    return SourceVideo(
        path="/clips/a.mp4",
        size_bytes=1,
        modified_ns=1,
        width=640,
        height=480,
        frame_pts=tuple(range(frames)),
        time_base=Fraction(1, fps),
        codec="h264",
    )


def motion(*parts, cuts=()):
    """Runs of (frames, change); a cut has a high score and a high change."""
    curve = [change for frames, change in parts for _ in range(frames)]
    scores = [0.0] * len(curve)
    for cut in cuts:
        scores[cut], curve[cut] = 40.0, 40.0
    return ClipMotion(tuple(curve), tuple(scores))


def test_a_still_head_and_tail_are_left_out_with_a_little_before_and_after():
    source = video(100)
    found = without_still_ends(source, motion((30, 0.02), (40, 1.5), (30, 0.02)), source.whole_range)
    # Frame 30 is the first that differs from the one before; 0.15 s are three frames.
    assert found.trim == TrimRange(26, 74)
    assert found.head_seconds == pytest.approx(1.3)
    assert found.tail_seconds == pytest.approx(1.3)


@pytest.mark.parametrize(
    "parts",
    [((100, 0.03),), ((100, 1.2),), ((8, 0.02), (84, 1.2), (8, 0.02))],
    ids=["nothing moves", "it moves all the time", "the still ends are short"],
)
def test_there_is_nothing_to_trim(parts):
    source = video(100)
    assert without_still_ends(source, motion(*parts), source.whole_range) is None


def test_only_the_chosen_range_counts():
    source = video(100)
    moves = motion((30, 0.02), (40, 1.5), (30, 0.02))
    assert without_still_ends(source, moves, TrimRange(35, 65)) is None
    assert without_still_ends(source, moves, TrimRange(35, 100)).trim == TrimRange(35, 74)


def test_noise_of_the_sensor_is_not_motion():
    source = video(100)
    found = without_still_ends(source, motion((40, 0.4), (30, 4.0), (30, 0.4)), source.whole_range)
    assert found.trim == TrimRange(36, 74)


def test_a_cut_is_not_taken_for_motion():
    source = video(100)
    moves = motion((50, 0.02), (50, 0.02), cuts=[50])
    assert without_still_ends(source, moves, source.whole_range) is None


def test_the_suggested_range_is_where_most_moves_and_as_long_as_what_trains():
    source = video(200)
    found = motion_range(source, motion((100, 0.5), (40, 3.0), (60, 0.5)), source.whole_range, 41)
    assert found.trim.start_frame in range(86, 101)
    assert found.trim.end_frame >= 139
    assert motion_range(source, motion((195, 0.02), (5, 3.0)), source.whole_range, 41).trim.end_frame == 200
    assert source.seconds_at(found.trim.frame_count) == pytest.approx(41 / 16, abs=0.06)


def test_the_suggested_range_never_holds_a_cut():
    source = video(200)
    moves = motion((100, 0.5), (100, 2.0), cuts=[120])
    found = motion_range(source, moves, source.whole_range, 41)
    assert found.trim.start_frame >= 120 or found.trim.end_frame <= 120


def test_a_short_clip_that_moves_all_the_time_is_fine_as_it_is():
    source = video(30)
    assert motion_range(source, motion((30, 1.0)), source.whole_range, 41) is None


def test_of_flashes_close_together_only_the_first_is_a_cut():
    source = video(100)
    assert cuts_of(source, motion((100, 0.1), cuts=[40, 42, 44, 60])) == (40, 60)


def test_scenes_are_the_parts_between_cuts():
    assert scenes_in(TrimRange(10, 50), (10, 20, 45, 50, 70)) == (
        TrimRange(10, 20),
        TrimRange(20, 45),
        TrimRange(45, 50),
    )


def test_the_neighbouring_cut_is_never_the_frame_itself():
    assert neighbouring_cut(20, (0, 20, 45), 1) == 45
    assert neighbouring_cut(20, (0, 20, 45), -1) == 0
    assert neighbouring_cut(45, (0, 20, 45), 1) is None
