"""SAMPLE: how previews are rendered; their rows have an editor of their own."""

from wan_studio.domain.project import Settings
from wan_studio.views.training.specs import ABOVE_ZERO, NUMBER, WHOLE, WHOLE_OR_ZERO, FieldSpec


def _renders(settings: Settings) -> bool:
    return settings.sample.every > 0


def _comes_too_late(settings: Settings) -> str:
    if settings.sample.every <= settings.training.steps:
        return ""
    return "The run has fewer steps: previews come only at its end."


EVERY_FIELD = FieldSpec(
    name="sample.every",
    label="Sample every",
    kind="integer",
    help="Steps between previews; 0 renders none.",
    rule=WHOLE_OR_ZERO,
    unit="steps",
    step=50,
    remark=_comes_too_late,
)
SAMPLE = (
    FieldSpec(
        name="sample.at_start",
        label="First sample",
        kind="switch",
        help="Render previews before the first step, too, to compare with.",
        applies=_renders,
    ),
    FieldSpec(
        name="sample.sampler",
        label="Sampler",
        kind="choice",
        help="How noise is taken away: UniPC is the model's own.",
        choices=(("unipc", "UniPC"), ("euler", "Euler")),
        applies=_renders,
    ),
    FieldSpec(
        name="sample.steps",
        label="Sample steps",
        kind="integer",
        help="Denoising steps of a preview; more take longer and look better.",
        rule=WHOLE,
        applies=_renders,
    ),
    FieldSpec(
        name="sample.guidance_high",
        label="Guidance scale, high noise",
        kind="number",
        help="How firmly the prompt is followed while the high noise expert is at work.",
        rule=NUMBER,
        applies=_renders,
    ),
    FieldSpec(
        name="sample.guidance_low",
        label="Guidance scale, low noise",
        kind="number",
        help="The same for the low noise expert.",
        rule=NUMBER,
        applies=_renders,
    ),
    FieldSpec(
        name="sample.shift",
        label="Flow shift",
        kind="number",
        help="Shift of the sampler's noise levels: the higher, the more steps go to strong noise.",
        rule=ABOVE_ZERO,
        applies=_renders,
    ),
    FieldSpec(
        name="sample.in_tiles",
        label="Previews in tiles",
        kind="switch",
        help="Decode previews in overlapping tiles, in a fraction of the memory; seams may be seen.",
    ),
    FieldSpec(
        name="sample.walk_seed",
        label="Walk seed",
        kind="switch",
        help="Take another seed at each round of previews.",
        applies=_renders,
    ),
    FieldSpec(
        name="sample.negative_prompt",
        label="Negative prompt",
        kind="text",
        help="What previews should not show; it works where the guidance scale is above 1.",
        applies=_renders,
    ),
)
SAMPLE_FIELDS: tuple[FieldSpec, ...] = (EVERY_FIELD, *SAMPLE)
