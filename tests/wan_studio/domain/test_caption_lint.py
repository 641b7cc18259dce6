import pytest

from wan_studio.domain.caption_lint import LintContext, Verdict, lint, lint_context, needs_attention
from wan_studio.domain.project import Project, Settings


def verdicts(caption, goal="motion", trigger="frung", tokens=0, **context):
    found = lint(caption, LintContext(goal, trigger, **context), tokens)
    return {one.name: one.verdict for one in found}


@pytest.mark.parametrize(
    "caption",
    [
        "orbit 360 around the frung",
        "the camera pans left",
        "a man walks",
        "she waves",
        "カメラが回る",
        "it rises slowly",
    ],
)
def test_a_motion_caption_names_its_motion(caption):
    assert verdicts(caption)["motion"] is Verdict.GOOD


@pytest.mark.parametrize(
    "caption",
    [
        "a stone castle at dusk",
        "a brown rug, a company",
        "portrait of a panda",
        "flowers and leaves in a bowl",
    ],
)
def test_a_motion_caption_without_a_move_is_worth_a_look(caption):
    assert verdicts(caption)["motion"] is Verdict.WARNING


def test_a_trigger_that_is_put_first_anyway_is_a_note_and_for_a_character_a_warning():
    assert verdicts("a castle turns")["trigger"] is Verdict.NOTE
    assert verdicts("a woman turns", goal="character")["trigger"] is Verdict.WARNING
    assert verdicts("[trigger] turns")["trigger"] is Verdict.GOOD
    assert verdicts("[trigger] turns", trigger="")["trigger"] is Verdict.WARNING
    assert "trigger" not in verdicts("it turns", trigger="")


def test_a_character_needs_its_kind():
    assert verdicts("[trigger], a woman, smiles", goal="character")["class"] is Verdict.GOOD
    assert verdicts("[trigger] smiles", goal="character")["class"] is Verdict.WARNING
    assert verdicts("[trigger], a mech", goal="character", class_word="mech")["class"] is Verdict.GOOD


def test_a_style_caption_leaves_the_look_alone():
    assert verdicts("a castle at dusk", goal="style")["style"] is Verdict.GOOD
    assert verdicts("a castle, anime style", goal="style")["style"] is Verdict.WARNING


def test_directions_in_mirrored_clips_are_told_and_doubtful_ones_are_warned_of():
    assert verdicts("it turns left", flips=("horizontal",))["flip"] is Verdict.NOTE
    assert verdicts("it turns right away", flips=("horizontal",))["flip"] is Verdict.WARNING
    assert verdicts("it turns", trigger="spin_left", flips=("horizontal",))["flip"] is Verdict.WARNING
    assert "flip" not in verdicts("it turns left")


def test_preservation_without_a_trigger_does_nothing():
    assert verdicts("it turns", trigger="", preserves=True)["preservation"] is Verdict.WARNING
    assert "preservation" not in verdicts("it turns", preserves=True)


def test_nothing_at_all_needs_attention_and_a_default_caption_is_judged_in_its_place():
    empty = lint("  \n", LintContext("motion", "frung"))
    assert [one.text for one in empty] == ["No caption"]
    assert needs_attention(empty)
    spoken_for = verdicts("", default_caption="the camera orbits")
    assert (spoken_for["caption"], spoken_for["motion"]) == (Verdict.NOTE, Verdict.GOOD)


def test_more_than_the_encoder_reads_is_too_long():
    assert verdicts("it turns", tokens=513)["length"] is Verdict.WARNING
    assert "length" not in verdicts("it turns", tokens=512)


def test_the_project_says_what_captions_are_judged_by():
    settings = Settings().with_values(
        {
            "datasets": {"flip_vertical": True, "trigger": "own", "default_caption": "it turns"},
            "training": {"diff_output_preservation": True, "diff_output_preservation_class": "robot"},
        }
    )
    project = Project(name="p", goal="character", trigger="frung", settings=settings)
    assert lint_context(project, "") == LintContext(
        "character", "own", "it turns", ("vertical",), True, "robot"
    )
