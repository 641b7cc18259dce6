import pytest

from wan_studio.domain.direction_words import mirrored_caption, names_a_direction


@pytest.mark.parametrize(
    ("caption", "mirrored"),
    [
        ("the camera pans left", "the camera pans right"),
        ("The camera pans RIGHT, then Left.", "The camera pans LEFT, then Right."),
        ("on the right in the frame, a tree", "on the left in the frame, a tree"),
        ("drifts leftwards and rightward", "drifts rightwards and leftward"),
        ("turns clockwise", "turns counterclockwise"),
        ("Counter-clockwise, anticlockwise, counter clockwise", "Clockwise, clockwise, clockwise"),
        ("ANTI-CLOCKWISE", "CLOCKWISE"),
        ("left-hand side, top-right corner", "right-hand side, top-left corner"),
        ("a man left of a car turns right", "a man right of a car turns left"),
        ("the camera orbits right around a statue", "the camera orbits left around a statue"),
        ("from left to right", "from right to left"),
    ],
)
def test_a_horizontal_flip_turns_left_and_right_round(caption, mirrored):
    turned = mirrored_caption(caption, "horizontal")
    assert turned.text == mirrored
    assert turned.swapped
    assert turned.kept == ()


@pytest.mark.parametrize(
    "caption",
    [
        "a bright, upright copyright sign",
        "leftovers of a rightly delightful night",
        "looks up at the top, above the bottom",
        "orbit_left",
        "",
    ],
)
def test_other_words_are_left_alone_without_a_word(caption):
    turned = mirrored_caption(caption, "horizontal")
    assert (turned.text, turned.swapped, turned.kept) == (caption, (), ())


@pytest.mark.parametrize(
    ("caption", "kept"),
    [
        ("it stops right now", "right now"),
        ("he runs right away", "right away"),
        ("a dog right behind the door", "right behind"),
        ("she walks right past the camera", "right past"),
        ("it is all right", "all right"),
        ("a right angle of light", "right angle"),
        ("she left the room", "left the"),
        ("a toy left behind", "left behind"),
        ("nothing is left", "is left"),
        ("镜头向左移动", "左"),
    ],
)
def test_what_may_mean_something_else_stays_and_is_named(caption, kept):
    turned = mirrored_caption(caption, "horizontal")
    assert turned.text == caption
    assert turned.kept == (kept,)


@pytest.mark.parametrize(
    ("caption", "mirrored"),
    [
        ("the camera tilts up", "the camera tilts down"),
        ("moves upwards above the top shelf", "moves downwards below the bottom shelf"),
        ("Up and down, turning clockwise", "Down and up, turning counterclockwise"),
        ("in the upper left corner", "in the lower left corner"),
        ("top-down view, BOTTOM edge", "bottom-down view, TOP edge"),
    ],
)
def test_a_vertical_flip_turns_up_and_down_round(caption, mirrored):
    assert mirrored_caption(caption, "vertical").text == mirrored


@pytest.mark.parametrize(
    "caption",
    [
        "slows down",
        "a close up",
        "lights up",
        "a man in a top hat",
        "lowers the arm",
        "the sun rises",
        "he sits down",
        "she is getting up",
    ],
)
def test_up_and_down_as_part_of_another_meaning_stay_and_are_named(caption):
    turned = mirrored_caption(caption, "vertical")
    assert turned.text == caption
    assert len(turned.kept) == 1


def test_a_close_up_is_no_direction():
    assert mirrored_caption("a close-up of make-up", "vertical").kept == ()


def test_half_a_turn_leaves_the_sense_of_rotation():
    turned = mirrored_caption("turns clockwise, moving up and left", "both")
    assert turned.text == "turns clockwise, moving down and right"


@pytest.mark.parametrize("flip", ["horizontal", "vertical", "both"])
def test_turning_twice_gives_the_caption_back(flip):
    caption = "A car drives left, the lens tilts DOWN; it spins clockwise Below the upper edge."
    assert mirrored_caption(mirrored_caption(caption, flip).text, flip).text == caption


def test_the_trigger_stays_wherever_it_stands():
    turned = mirrored_caption("orbit left, the car turns left", "horizontal", trigger="orbit left")
    assert turned.text == "orbit left, the car turns right"


@pytest.mark.parametrize(
    ("trigger", "flip", "tells"),
    [
        ("spin_left", "horizontal", True),
        ("spinLeft", "horizontal", True),
        ("spin_left", "vertical", False),
        ("tilt-up", "both", True),
        ("brightcam", "horizontal", False),
        ("leftovers", "horizontal", False),
        ("left", "none", False),
    ],
)
def test_a_trigger_that_tells_a_direction_is_noticed(trigger, flip, tells):
    assert names_a_direction(trigger, flip) is tells


def test_no_flip_changes_nothing():
    assert mirrored_caption("left", "none").text == "left"
