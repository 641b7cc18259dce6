"""SAVE, TRAINING and ADVANCED: how each step is taken, what is kept, and how it is measured."""

from wan_studio.domain.project import Settings
from wan_studio.views.training.expert_fields import TIMESTEP_BIASES, TIMESTEP_TYPES
from wan_studio.views.training.specs import (
    ABOVE_ZERO,
    NUMBER,
    SHARE,
    WHOLE,
    WHOLE_OR_ZERO,
    FieldGroup,
    FieldSpec,
)


def _doubtful_rate(settings: Settings) -> str:
    training = settings.training
    if training.optimizer == "prodigy" and training.learning_rate < 0.1:
        return "Prodigy finds the size of its steps itself and multiplies it by this: use 1."
    if training.optimizer != "prodigy" and training.learning_rate > 0.01:
        return f"That is far above what {training.optimizer} usually takes: the loss will probably diverge."
    return ""


def _all_warmup(settings: Settings) -> str:
    training = settings.training
    return "All steps would be warm-up." if training.warmup_steps >= training.steps else ""


def _never_saved_before_the_end(settings: Settings) -> str:
    if settings.save.every < settings.training.steps:
        return ""
    return "Only the end of the run is saved: there are no more steps than this."


def _shifts(settings: Settings) -> bool:
    stages = settings.multistage
    types = {
        "both": (stages.high_timestep_type, stages.low_timestep_type),
        "high": (stages.high_timestep_type,),
    }
    own = types.get(stages.stages, (stages.low_timestep_type,))
    return "shift" in {kind or settings.training.timestep_type for kind in own}


def _preserves(settings: Settings) -> bool:
    return settings.training.diff_output_preservation or settings.training.blank_prompt_preservation


def _checkpoints(settings: Settings) -> bool:
    return settings.training.gradient_checkpointing


STEPS_FIELD = FieldSpec(
    name="training.steps",
    label="Steps",
    kind="integer",
    help="Optimizer steps over both experts together.",
    rule=WHOLE,
    step=100,
)
LEARNING_RATE_FIELD = FieldSpec(
    name="training.learning_rate",
    label="Learning rate",
    kind="number",
    help="How far each step goes; 1e-4 is the guides' value for the A14B model.",
    rule="It must be a number above 0 and at most 1, e.g. 1e-4.",
    remark=_doubtful_rate,
)
BATCH_SIZE_FIELD = FieldSpec(
    name="training.batch_size",
    label="Batch size",
    kind="integer",
    help="Clips of one bucket that are looked at together; more need more GPU memory.",
    rule=WHOLE,
    unit="clips",
)
BIAS_FIELD = FieldSpec(
    name="training.timestep_bias",
    label="Timestep bias",
    kind="choice",
    help="Which end of each expert's own interval is favored: high noise for motion, low noise for detail.",
    choices=TIMESTEP_BIASES,
)
SAVE_EVERY_FIELD = FieldSpec(
    name="save.every",
    label="Save every",
    kind="integer",
    help="Steps between checkpoints.",
    rule=WHOLE,
    unit="steps",
    step=50,
    remark=_never_saved_before_the_end,
)
KEEP_FIELD = FieldSpec(
    name="save.keep",
    label="Max step saves to keep",
    kind="integer",
    help="Older checkpoints are removed, but never those that you pin.",
    rule=WHOLE,
    unit="checkpoints",
)

SAVE = FieldGroup(
    "SAVE",
    (
        FieldSpec(
            name="save.dtype",
            label="Data type",
            kind="choice",
            help="Number type of the LoRA files.",
            choices=(("bf16", "bf16"), ("fp16", "fp16"), ("fp32", "fp32")),
        ),
    ),
)
TRAINING = FieldGroup(
    "TRAINING",
    (
        FieldSpec(
            name="training.gradient_accumulation",
            label="Gradient accumulation",
            kind="integer",
            help="Batches whose gradients are added up before a step.",
            rule=WHOLE,
            unit="batches",
        ),
        FieldSpec(
            name="training.optimizer",
            label="Optimizer",
            kind="choice",
            help="AdamW 8-bit learns as AdamW does and needs less memory; Prodigy finds its own step size.",
            choices=(
                ("adamw8bit", "AdamW 8-bit"),
                ("adamw", "AdamW"),
                ("adafactor", "Adafactor"),
                ("prodigy", "Prodigy"),
                ("lion", "Lion"),
            ),
        ),
        FieldSpec(
            name="training.lr_schedule",
            label="LR schedule",
            kind="choice",
            help="How the learning rate goes on after the warm-up: as it is, or down to zero.",
            choices=(("constant", "Constant"), ("cosine", "Cosine"), ("linear", "Linear")),
        ),
        FieldSpec(
            name="training.warmup_steps",
            label="Warm-up steps",
            kind="integer",
            help="Steps of each expert over which its learning rate rises from zero.",
            rule=WHOLE_OR_ZERO,
            unit="steps",
            step=10,
            remark=_all_warmup,
        ),
        FieldSpec(
            name="training.weight_decay",
            label="Weight decay",
            kind="number",
            help="Pulls the LoRA's weights towards zero.",
            rule=NUMBER,
        ),
        FieldSpec(
            name="training.max_grad_norm",
            label="Max gradient norm",
            kind="number",
            help="Longer gradients are shortened to this.",
            rule=ABOVE_ZERO,
        ),
        FieldSpec(
            name="training.loss",
            label="Loss type",
            kind="choice",
            help="How a miss is counted: squared, as it is, or squared when small and as it is when large.",
            choices=(("mse", "Mean squared error"), ("mae", "Mean absolute error"), ("huber", "Huber")),
        ),
        FieldSpec(
            name="training.huber_delta",
            label="Huber delta",
            kind="number",
            help="Where the Huber loss turns from squared to absolute.",
            rule=ABOVE_ZERO,
            applies=lambda settings: settings.training.loss == "huber",
        ),
        FieldSpec(
            name="training.timestep_type",
            label="Timestep type",
            kind="choice",
            help="From which noise levels is learnt most, within each expert's own interval.",
            choices=TIMESTEP_TYPES,
        ),
        FieldSpec(
            name="training.timestep_shift",
            label="Timestep shift",
            kind="number",
            help="Of the timestep type Shift: the higher, the more noise.",
            rule=ABOVE_ZERO,
            applies=_shifts,
        ),
        FieldSpec(
            name="training.stratified_timesteps",
            label="Stratified timesteps",
            kind="switch",
            help="Visit every part of the distribution in turn, so that short runs miss none.",
        ),
        FieldSpec(
            name="training.ema_decay",
            label="EMA decay",
            kind="number",
            help="Save and preview a moving average of the LoRA, e.g. with 0.99; 0 is off.",
            rule="It must be a number from 0 to below 1.",
        ),
        FieldSpec(
            name="training.diff_output_preservation",
            label="Diff. output preservation",
            kind="switch",
            help="Keep what the model shows for the caption when the class word stands in place of the trigger "
            "word. Needs a trigger word or a preservation prompt.",
        ),
        FieldSpec(
            name="training.diff_output_preservation_class",
            label="DOP class",
            kind="text",
            help='The word that stands in place of the trigger word, e.g. "person".',
            applies=lambda settings: settings.training.diff_output_preservation,
        ),
        FieldSpec(
            name="training.preservation_prompt",
            label="Preservation prompt",
            kind="text",
            help="Keep what the model shows for this prompt instead; empty makes it from the caption.",
            applies=lambda settings: settings.training.diff_output_preservation,
        ),
        FieldSpec(
            name="training.blank_prompt_preservation",
            label="Blank prompt preservation",
            kind="switch",
            help="Keep what the model shows without any prompt.",
        ),
        FieldSpec(
            name="training.preservation_multiplier",
            label="Preservation multiplier",
            kind="number",
            help="How much preservation counts beside what is learnt.",
            rule=NUMBER,
            applies=_preserves,
        ),
        FieldSpec(
            name="training.regularization_share",
            label="Regularization share",
            kind="number",
            help="Share of each expert's batches that comes from regularization data sets, where there are any.",
            rule=SHARE,
        ),
        FieldSpec(
            name="training.gradient_checkpointing",
            label="Gradient checkpointing",
            kind="switch",
            help="Compute some things twice instead of keeping them: slower, but far less GPU memory.",
        ),
        FieldSpec(
            name="training.kept_activations",
            label="Kept activations",
            kind="choice",
            help="What of each block is kept all the same: the more, the faster the step and the fuller the GPU.",
            choices=(("nothing", "Nothing"), ("attention", "Attention"), ("sums", "Attention and sums")),
            applies=_checkpoints,
        ),
        FieldSpec(
            name="training.kept_blocks",
            label="Kept blocks",
            kind="integer",
            help="Blocks, the last ones, of which everything is kept and nothing computed twice.",
            rule=WHOLE_OR_ZERO,
            unit="blocks",
            applies=_checkpoints,
        ),
        FieldSpec(
            name="training.seed",
            label="Seed",
            kind="integer",
            help="The same seed, clips and settings give the same LoRA on the same machine.",
            rule=WHOLE_OR_ZERO,
        ),
    ),
)
ADVANCED = FieldGroup(
    "ADVANCED",
    (
        FieldSpec(
            name="advanced.differential_guidance",
            label="Do differential guidance",
            kind="switch",
            help="Push the target past the truth, away from what the model shows now: learns faster.",
        ),
        FieldSpec(
            name="advanced.differential_guidance_scale",
            label="Guidance scale",
            kind="number",
            help="How far past the truth; 1 is the truth itself.",
            rule=ABOVE_ZERO,
            applies=lambda settings: settings.advanced.differential_guidance,
        ),
        FieldSpec(
            name="advanced.validation_every",
            label="Validation every",
            kind="integer",
            help="Steps between losses on held-out clips, always at the same noise; 0 is never. "
            "Clips are held out by Validation share, below.",
            rule=WHOLE_OR_ZERO,
            unit="steps",
            step=50,
        ),
        FieldSpec(
            name="advanced.validation_timesteps",
            label="Validation timesteps",
            kind="integer",
            help="Noise levels of each expert's interval at which that loss is measured.",
            rule=WHOLE,
            applies=lambda settings: settings.advanced.validation_every > 0,
        ),
    ),
)
