"""MODEL and QUANTIZATION: whose weights are the base's, and how they share the GPU with what trains."""

from wan_studio.domain.project import Settings
from wan_studio.views.training.specs import FieldGroup, FieldSpec

_OWN = "The base model's own"


def _no_fixed_blocks(settings: Settings) -> bool:
    return settings.model.resident_blocks is None


def _checkpoints(settings: Settings) -> bool:
    return settings.training.gradient_checkpointing


def _recovers(settings: Settings) -> bool:
    return settings.quantization.transformer == "nf4_recovered"


def _weights(field: str, label: str, what: str) -> FieldSpec:
    """A file in the place of a part of the base model."""
    return FieldSpec(
        name=f"model.{field}",
        label=label,
        kind="file",
        help=f"Weights of {what} in place of the base model's own.",
        optional=_OWN,
    )


MODEL = FieldGroup(
    "MODEL",
    (
        FieldSpec(
            name="model.low_vram",
            label="Low VRAM",
            kind="switch",
            help="Only the expert at work is on the GPU; the other waits in RAM.",
        ),
        FieldSpec(
            name="model.layer_offloading",
            label="Layer offloading",
            kind="percent",
            help="Share of an expert's blocks that stay in RAM and are sent to the GPU ahead of their use.",
            rule="It must be a number from 0 to 100.",
            unit="%",
            applies=_no_fixed_blocks,
        ),
        FieldSpec(
            name="model.resident_blocks",
            label="Resident blocks",
            kind="integer",
            help="Blocks of an expert that stay on the GPU; empty goes by Layer offloading.",
            rule="It must be a whole number of 0 or more, or empty.",
            optional="automatic",
            unit="blocks",
        ),
        FieldSpec(
            name="model.checkpoint_offloading",
            label="Checkpoint offloading",
            kind="switch",
            help="Keep in RAM what gradient checkpointing keeps of each block.",
            applies=_checkpoints,
        ),
        FieldSpec(
            name="model.feed_forward_chunks",
            label="Feed-forward chunks",
            kind="integer",
            help="Parts into which a clip is cut in the feed-forward layers: more parts need less memory at once.",
            rule="It must be a whole number from 1 to 64.",
            unit="parts",
        ),
        FieldSpec(
            name="model.compile",
            label="Compile",
            kind="switch",
            help="Compile what happens between matrix products: faster steps, after a slower start.",
        ),
        _weights("high_noise", "High noise weights", "the high noise expert"),
        _weights("low_noise", "Low noise weights", "the low noise expert"),
        _weights("vae", "VAE weights", "the VAE"),
        _weights("text_encoder", "Text encoder weights", "the text encoder"),
    ),
)
QUANTIZATION = FieldGroup(
    "QUANTIZATION",
    (
        FieldSpec(
            name="quantization.transformer",
            label="Transformer",
            kind="choice",
            help="How the frozen base is stored and computed; the LoRA always keeps its full precision.",
            choices=(
                ("none", "None (bf16)"),
                ("float8", "float8"),
                ("float8_compute", "float8, also computed in it"),
                ("nf4", "4 bits"),
                ("nf4_recovered", "4 bits with accuracy recovery"),
            ),
        ),
        FieldSpec(
            name="quantization.text_encoder",
            label="Text encoder",
            kind="choice",
            help="It works only while captions are cached: on the GPU, on it in 8 bits, or on the CPU.",
            choices=(("none", "None (bf16)"), ("float8", "float8"), ("cpu", "On the CPU")),
        ),
        FieldSpec(
            name="quantization.vae",
            label="VAE",
            kind="choice",
            help="bf16 takes about half the memory while clips are cached and previews decoded, and rounds both.",
            choices=(("none", "None (float32)"), ("bf16", "bf16")),
        ),
        FieldSpec(
            name="quantization.recovery_rank",
            label="Recovery rank",
            kind="integer",
            help="Size of the frozen branch that holds what 4 bits lose; it is computed from your clips.",
            rule="It must be a whole number from 1 to 1024.",
            step=8,
            applies=_recovers,
        ),
    ),
)
