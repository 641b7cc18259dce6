"""The job: everything that one training run needs, decided beforehand.

The sections carry the names of the guides' panels. A field's default stands here or in a preset
of the app, never in both. Unknown fields are errors: a misspelt setting must not train silently
with its default.
"""

from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta, Struct

PROTOCOL_VERSION = 1
MINIATURE = "miniature"

Positive = Annotated[int, Meta(ge=1)]
NonNegative = Annotated[int, Meta(ge=0)]
Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
PixelSize = Annotated[int, Meta(ge=16, multiple_of=16)]
FileName = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^\\/:*?\"<>|\x00-\x1f]+$")]


class Expert(StrEnum):
    """The two transformers of Wan 2.2 A14B, under the names that the files carry."""

    HIGH = "high_noise"
    LOW = "low_noise"


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every part of a job: immutable, by keyword, and strict about names."""


class JobSection(Section, frozen=True, kw_only=True):
    """JOB: the run's name (files and folders are named by it), the GPU and the trigger word."""

    name: FileName
    gpu: NonNegative = 0
    trigger: str = ""


class ModelSection(Section, frozen=True, kw_only=True):
    """MODEL: the frozen base, a folder in the diffusers layout or the name "miniature"."""

    base: str = MINIATURE


class MultistageSection(Section, frozen=True, kw_only=True):
    """MULTISTAGE: which experts train and how they take turns.

    Attributes:
        switch_every: Optimizer steps that one expert takes before the other takes over.
        boundary: Noise level (0..1) that divides the experts; None takes the model's own.
    """

    stages: Literal["both", "high", "low"] = "both"
    switch_every: Positive = 10
    boundary: Annotated[float, Meta(gt=0.0, lt=1.0)] | None = None


class TargetSection(Section, frozen=True, kw_only=True):
    """TARGET: the shape of the LoRA; alpha None means alpha = rank, a scale of one."""

    rank: Annotated[int, Meta(ge=1, le=1024)] = 16
    alpha: Annotated[float, Meta(gt=0.0)] | None = None


class SaveSection(Section, frozen=True, kw_only=True):
    """SAVE: type of the LoRA files, steps between checkpoints, checkpoints kept."""

    dtype: Literal["bf16", "fp16", "fp32"] = "bf16"
    every: Positive = 250
    keep: Positive = 4


class TrainingSection(Section, frozen=True, kw_only=True):
    """TRAINING: optimizer steps over both experts together, and how each step is taken."""

    steps: Positive = 2000
    learning_rate: Annotated[float, Meta(gt=0.0, le=1.0)] = 1e-4
    batch_size: Positive = 1
    gradient_accumulation: Positive = 1
    weight_decay: Annotated[float, Meta(ge=0.0)] = 1e-4
    max_grad_norm: Annotated[float, Meta(gt=0.0)] = 1.0
    gradient_checkpointing: bool = True
    seed: NonNegative = 42


class CropBox(Section, frozen=True, kw_only=True):
    """Part of the upright source picture, in pixels: left, top, width, height."""

    left: NonNegative
    top: NonNegative
    width: Positive
    height: Positive


class BucketSize(Section, frozen=True, kw_only=True):
    """Width and height in pixels."""

    width: PixelSize
    height: PixelSize


class TrainedSize(Section, frozen=True, kw_only=True):
    """How a clip's picture becomes a bucket's: cut `crop` out of the upright frame, resize to width x height.

    The crop already has the bucket's aspect (non-square pixels accounted for), so resizing never distorts.
    """

    width: PixelSize
    height: PixelSize
    crop: CropBox


class ClipSpec(Section, frozen=True, kw_only=True):
    """One clip as it trains.

    Attributes:
        source: Absolute path of the video or image; it is only ever read.
        source_bytes: Size of the file when the job was made; with the time below, its identity.
        source_modified_ns: Modification time of the file when the job was made.
        windows: For each cached window, the presentation time stamps of its frames in units of
            the stream's time base; 4n+1 of them. A time stamp may repeat (slow sources).
        sizes: The bucket of each chosen resolution, with the part of the picture that fills it.
        caption: Final prompt text: trigger filled in, default caption applied.
    """

    source: str
    source_bytes: NonNegative
    source_modified_ns: int
    windows: Annotated[tuple[Annotated[tuple[int, ...], Meta(min_length=1)], ...], Meta(min_length=1)]
    sizes: Annotated[tuple[TrainedSize, ...], Meta(min_length=1)]
    caption: str


class DatasetSection(Section, frozen=True, kw_only=True):
    """DATASETS: one list of clips.

    Attributes:
        num_frames: Frames asked for; a clip too short for them has fewer in its windows.
        resolutions: Side of the square whose area a bucket keeps, in pixels.
        repeats: Times that each clip appears in one pass over the data.
    """

    name: str
    clips: Annotated[tuple[ClipSpec, ...], Meta(min_length=1)]
    num_frames: Positive
    resolutions: Annotated[tuple[PixelSize, ...], Meta(min_length=1)]
    repeats: Positive = 1


class SampleRow(Section, frozen=True, kw_only=True):
    """One preview: a prompt that is always paired with a first frame.

    Attributes:
        image: Path of the control image; empty takes the first frame of `clip`.
        clip: Index into the clips of all data sets in their order.
    """

    prompt: str
    image: str = ""
    clip: NonNegative = 0
    size: BucketSize
    num_frames: Positive
    seed: NonNegative = 42


class SampleSection(Section, frozen=True, kw_only=True):
    """SAMPLE: previews, rendered with both experts' current LoRAs.

    Attributes:
        every: Optimizer steps between previews; 0 renders none.
        guidance_high: Classifier-free guidance while the high-noise expert denoises.
        guidance_low: The same for the low-noise expert.
        shift: Flow shift of the sampler's noise levels.
    """

    every: NonNegative = 250
    rows: tuple[SampleRow, ...] = ()
    steps: Positive = 20
    guidance_high: Annotated[float, Meta(ge=0.0)] = 3.5
    guidance_low: Annotated[float, Meta(ge=0.0)] = 3.5
    shift: Annotated[float, Meta(gt=0.0)] = 5.0
    negative_prompt: str = ""


class JobSpec(Section, frozen=True, kw_only=True):
    """One training run, whole: it can be repeated from this alone.

    Attributes:
        cache_folder: Latents and text embeddings, shared by the runs of a project.
    """

    job: JobSection
    model: ModelSection
    multistage: MultistageSection = MultistageSection()
    target: TargetSection = TargetSection()
    save: SaveSection = SaveSection()
    training: TrainingSection = TrainingSection()
    datasets: Annotated[tuple[DatasetSection, ...], Meta(min_length=1)]
    sample: SampleSection = SampleSection()
    cache_folder: str
    protocol_version: int = PROTOCOL_VERSION

    @property
    def clips(self) -> tuple[ClipSpec, ...]:
        """The clips of all data sets, in their order."""
        return tuple(clip for dataset in self.datasets for clip in dataset.clips)
