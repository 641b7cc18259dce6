"""MULTISTAGE and TARGET: which experts train, where one differs from the other, and the LoRA's shape."""

from collections.abc import Callable
from dataclasses import replace

from wan_studio.domain.project import Settings
from wan_studio.views.training.specs import WHOLE, Choices, FieldGroup, FieldSpec

STAGES: Choices = (
    ("both", "High and low noise"),
    ("high", "High noise only"),
    ("low", "Low noise only"),
)
TIMESTEP_TYPES: Choices = (
    ("linear", "Linear"),
    ("sigmoid", "Sigmoid"),
    ("shift", "Shift"),
    ("weighted", "Weighted"),
)
TIMESTEP_BIASES: Choices = (
    ("balanced", "Balanced"),
    ("high_noise", "Favor high noise"),
    ("low_noise", "Favor low noise"),
)
_COMMON = "common value"


def _both_train(settings: Settings) -> bool:
    return settings.multistage.stages == "both"


def _ends_early(settings: Settings) -> str:
    stages = settings.multistage
    most = [stages.high_steps] * (stages.stages != "low") + [stages.low_steps] * (stages.stages != "high")
    known = [steps for steps in most if steps is not None]
    if len(known) < len(most) or sum(known) >= settings.training.steps:
        return ""
    return f"The run ends after {sum(known)} steps: then every expert has its most."


def _trains(prefix: str) -> Callable[[Settings], bool]:
    other = "low" if prefix == "high" else "high"
    return lambda settings: settings.multistage.stages != other


def _shifts(prefix: str) -> Callable[[Settings], bool]:
    def applies(settings: Settings) -> bool:
        own = getattr(settings.multistage, f"{prefix}_timestep_type")
        return _trains(prefix)(settings) and (own or settings.training.timestep_type) == "shift"

    return applies


def _expert_fields(prefix: str) -> tuple[FieldSpec, ...]:
    """What one expert may have of its own."""
    part = "High noise expert" if prefix == "high" else "Low noise expert"
    start = f"multistage.{prefix}_"
    fields = (
        FieldSpec(
            name=f"{start}steps",
            label="Most steps",
            kind="integer",
            help="Then all turns are the other expert's; empty sets no end.",
            rule="It must be a whole number of 1 or more, or empty.",
            optional="no end",
            unit="steps",
            step=100,
            remark=_ends_early,
        ),
        FieldSpec(
            name=f"{start}learning_rate",
            label="Learning rate",
            kind="number",
            help="Its own; empty takes the common one.",
            rule="It must be a number above 0 and at most 1, or empty.",
            optional=_COMMON,
        ),
        FieldSpec(
            name=f"{start}rank",
            label="Linear rank",
            kind="integer",
            help="Its own; empty takes the common one.",
            rule="It must be a whole number from 1 to 1024, or empty.",
            optional=_COMMON,
            step=8,
        ),
        FieldSpec(
            name=f"{start}timestep_type",
            label="Timestep type",
            kind="choice",
            help="From which noise levels of its own interval it learns most.",
            choices=((None, "Common value"), *TIMESTEP_TYPES),
        ),
        FieldSpec(
            name=f"{start}timestep_bias",
            label="Timestep bias",
            kind="choice",
            help="Which end of its own interval is favored.",
            choices=((None, "Common value"), *TIMESTEP_BIASES),
        ),
        FieldSpec(
            name=f"{start}timestep_shift",
            label="Timestep shift",
            kind="number",
            help="Of the timestep type Shift; empty takes the common one.",
            rule="It must be a number above 0, or empty.",
            optional=_COMMON,
            applies=_shifts(prefix),
        ),
    )
    return tuple(replace(spec, part=part, applies=spec.applies or _trains(prefix)) for spec in fields)


STAGES_FIELD = FieldSpec(
    name="multistage.stages",
    label="Stages",
    kind="choice",
    help="Which of the two experts train.",
    choices=STAGES,
)
SWITCH_EVERY_FIELD = FieldSpec(
    name="multistage.switch_every",
    label="Switch every",
    kind="integer",
    help="Optimizer steps that one expert takes before the other takes over.",
    rule=WHOLE,
    unit="steps",
    applies=_both_train,
)
RANK_FIELD = FieldSpec(
    name="target.rank",
    label="Linear rank",
    kind="integer",
    help="How much the LoRA can hold: 16 for a motion, 32 for a style or a face.",
    rule="It must be a whole number from 1 to 1024.",
    step=8,
)

MULTISTAGE = FieldGroup(
    "MULTISTAGE",
    (
        FieldSpec(
            name="multistage.high_share",
            label="High noise share",
            kind="number",
            help="Share of the steps that the high noise expert gets; 0.5 gives both the same.",
            rule="It must be a number between 0 and 1.",
            applies=_both_train,
        ),
        FieldSpec(
            name="multistage.boundary",
            label="Boundary",
            kind="number",
            help="Noise level that divides the experts; empty takes the model's own, 0.9 for Wan 2.2 I2V.",
            rule="It must be a number between 0 and 1, or empty.",
            optional="the model's",
        ),
        FieldSpec(
            name="multistage.boundary_overlap",
            label="Boundary overlap",
            kind="number",
            help="How far past the boundary each expert also trains, as a noise level; 0 keeps them apart.",
            rule="It must be a number from 0 to 0.5.",
        ),
        *_expert_fields("high"),
        *_expert_fields("low"),
    ),
)
TARGET = FieldGroup(
    "TARGET",
    (
        FieldSpec(
            name="target.type",
            label="Target type",
            kind="choice",
            help="LoRA is what every tool reads; DoRA also learns each weight's size; LoKr is smaller.",
            choices=(("lora", "LoRA"), ("dora", "DoRA"), ("lokr", "LoKr")),
        ),
        FieldSpec(
            name="target.alpha",
            label="Alpha",
            kind="number",
            help="Strength that the LoRA is trained with, times the rank; empty means a strength of one.",
            rule="It must be a number above 0, or empty.",
            optional="= rank",
        ),
        FieldSpec(
            name="target.dropout",
            label="Dropout",
            kind="number",
            help="Share of the LoRA's inputs that is dropped while training; 0 drops none.",
            rule="It must be a number from 0 to below 1.",
        ),
        FieldSpec(
            name="target.only_if_contains",
            label="Only if contains",
            kind="words",
            help="Train only layers whose name holds one of these words, with commas between; "
            'for example "self_attn". Empty trains all.',
        ),
        FieldSpec(
            name="target.ignore_if_contains",
            label="Ignore if contains",
            kind="words",
            help="Do not train layers whose name holds one of these words, with commas between.",
        ),
        FieldSpec(
            name="target.start_high",
            label="Start from, high noise",
            kind="file",
            help="A LoRA file that the high noise expert goes on from.",
            optional="A new LoRA",
            applies=_trains("high"),
        ),
        FieldSpec(
            name="target.start_low",
            label="Start from, low noise",
            kind="file",
            help="A LoRA file that the low noise expert goes on from.",
            optional="A new LoRA",
            applies=_trains("low"),
        ),
    ),
)
