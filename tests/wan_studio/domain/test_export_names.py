"""Names of exported files: plain, each once, and stable while clips are added."""

import pytest

from wan_studio.domain.export_names import ClipNames, folder_name, plain_name


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("Café, take 2 (final)", "Cafe_take_2_final"),
        ("a.b.c", "a_b_c"),
        ("[x]*?", "x"),
        ("con", "con_"),
        ("default", "default_"),
        ("踊り", ""),
        ("x" * 200, "x" * 60),
    ],
)
def test_a_name_becomes_letters_that_every_system_and_trainer_reads(given, plain):
    assert plain_name(given) == plain


def test_the_first_clip_has_its_name_alone_and_a_further_range_carries_its_id():
    names = ClipNames()
    assert names.stem("aaaaaaaa", "walk.mp4") == "walk"
    assert names.stem("bbbbbbbb", "Walk.mkv") == "Walk-bbbbbb"
    assert names.stem("bbbbbbbc", "walk.mp4") == "walk-bbbbbbbc"
    assert names.stem("aaaaaaaa", "walk.mp4") == "walk"
    assert names.stem("c1", "踊り.mp4") == "clip-c1"


def test_no_clip_is_called_as_a_window_or_mirrored_copy_of_another():
    names = ClipNames()
    assert names.stem("a", "walk.mp4") == "walk"
    assert names.stem("b", "walk-w01.mp4") == "walk-w01-b"
    assert names.stem("c", "run-flip_h.mp4") == "run-flip_h"
    assert names.stem("d", "run.mp4") == "run-d"


def test_folders_have_names_of_their_own():
    taken = set()
    assert [folder_name(name, taken) for name in ("clips", "Clips", "人")] == ["clips", "Clips-2", "clips-3"]
