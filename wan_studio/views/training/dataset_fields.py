"""DATASETS: how clips become what trains, and how much each counts."""

from wan_studio.domain.frame_sampling import valid_frame_count
from wan_studio.domain.project import Settings
from wan_studio.views.training.specs import ABOVE_ZERO, NUMBER, SHARE, WHOLE, FieldGroup, FieldSpec


def _rounded_frames(settings: Settings) -> str:
    asked = settings.datasets.num_frames
    trains = valid_frame_count(asked)
    return "" if trains == asked else f"{trains} frames train: the model takes 4n + 1 of them."


def _flips(settings: Settings) -> str:
    if not settings.datasets.flip_horizontal:
        return ""
    return 'A mirrored camera move goes the other way: "left" and "right" in captions are swapped.'


def _alters_the_condition(settings: Settings) -> bool:
    datasets = settings.datasets
    return datasets.condition_noise > 0 or datasets.condition_blur > 0 or datasets.condition_quality < 100


FRAMES_FIELD = FieldSpec(
    name="datasets.num_frames",
    label="Num frames",
    kind="integer",
    help="Frames of each clip that train; rounded down to 4n + 1.",
    rule=WHOLE,
    unit="frames",
    step=4,
    remark=_rounded_frames,
)
RESOLUTIONS_FIELD = FieldSpec(
    name="datasets.resolutions",
    label="Resolutions",
    kind="resolutions",
    help="Each clip trains once at each, in a bucket of about this area and its own aspect.",
    rule="Choose one or more.",
    choices=tuple((size, str(size)) for size in (256, 512, 768, 1024)),
)
DATASETS = FieldGroup(
    "DATASETS",
    (
        FieldSpec(
            name="datasets.sampling",
            label="Frame sampling",
            kind="choice",
            help="Which part of a trimmed range trains. All but the last keep the motion as fast as it is.",
            choices=(
                ("real_speed", "Real speed, from the start"),
                ("middle", "Real speed, the middle"),
                ("random", "Real speed, random parts"),
                ("sliding", "Real speed, part after part"),
                ("whole_range", "Fit the whole range"),
            ),
        ),
        FieldSpec(
            name="datasets.windows",
            label="Parts of a clip",
            kind="integer",
            help="How many parts of each clip train, at most.",
            rule="It must be a whole number from 1 to 1000.",
            unit="parts",
            applies=lambda settings: settings.datasets.sampling in ("random", "sliding"),
        ),
        FieldSpec(
            name="datasets.window_stride",
            label="From part to part",
            kind="integer",
            help="From one part's start to the next one's; 16 are a second.",
            rule=WHOLE,
            unit="sixteenths of a second",
            applies=lambda settings: settings.datasets.sampling == "sliding",
        ),
        FieldSpec(
            name="datasets.allow_upscale",
            label="Allow upscaling",
            kind="switch",
            help="Enlarge pictures that are smaller than the resolution.",
        ),
        FieldSpec(
            name="datasets.flip_horizontal",
            label="Flip X",
            kind="switch",
            help="Train a copy of each clip mirrored left to right, too.",
            remark=_flips,
        ),
        FieldSpec(
            name="datasets.flip_vertical",
            label="Flip Y",
            kind="switch",
            help="Train a copy of each clip mirrored upside down, too.",
        ),
        FieldSpec(
            name="datasets.trigger",
            label="Own trigger word",
            kind="text",
            help="For this data set alone; empty takes the project's, from the Goal page.",
        ),
        FieldSpec(
            name="datasets.caption_dropout",
            label="Caption dropout rate",
            kind="number",
            help="Share of the draws that train without the caption.",
            rule=SHARE,
        ),
        FieldSpec(
            name="datasets.caption_dropout_to",
            label="Caption drops to",
            kind="choice",
            help="What a dropped caption becomes.",
            choices=(("empty", "Nothing at all"), ("trigger", "The trigger word alone")),
            applies=lambda settings: settings.datasets.caption_dropout > 0,
        ),
        FieldSpec(
            name="datasets.repeats",
            label="Num repeats",
            kind="integer",
            help="Times that each clip comes in one pass over the data.",
            rule=WHOLE,
        ),
        FieldSpec(
            name="datasets.weight",
            label="Sampling weight",
            kind="number",
            help="Further times, may be a fraction: 0.5 takes half of the clips in each pass, in turn.",
            rule=ABOVE_ZERO,
        ),
        FieldSpec(
            name="datasets.loss_weight",
            label="Loss weight",
            kind="number",
            help="What these clips count in the loss.",
            rule=NUMBER,
        ),
        FieldSpec(
            name="datasets.lora_strength",
            label="LoRA weight",
            kind="number",
            help="How strong the LoRA is while these clips train.",
            rule="It must be a number.",
        ),
        FieldSpec(
            name="datasets.condition_noise",
            label="Condition noise",
            kind="number",
            help="Noise added to the first frame that the model is given, as a standard deviation; 0 adds none.",
            rule=NUMBER,
        ),
        FieldSpec(
            name="datasets.condition_blur",
            label="Condition blur",
            kind="number",
            help="Blur of that first frame, as a standard deviation in pixels; 0 blurs nothing.",
            rule=NUMBER,
        ),
        FieldSpec(
            name="datasets.condition_quality",
            label="Condition quality",
            kind="integer",
            help="JPEG quality to which that first frame is compressed; 100 leaves it as it is.",
            rule="It must be a whole number from 1 to 100.",
        ),
        FieldSpec(
            name="datasets.condition_share",
            label="Condition share",
            kind="number",
            help="Share of the draws in which the first frame is altered by the three settings above.",
            rule=SHARE,
            applies=_alters_the_condition,
        ),
        FieldSpec(
            name="datasets.validation_share",
            label="Validation share",
            kind="number",
            help="Share of the clips that is held out, to measure the loss on what the LoRA has not seen; "
            "0 is off, and so it is below eight clips.",
            rule="It must be a number from 0 to 0.5.",
        ),
    ),
)
