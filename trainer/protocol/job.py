"""The job: everything that one training run needs, decided beforehand.

The sections carry the names of the guides' panels. A field's default stands here or in a preset
of the app, never in both. Unknown fields are errors: a misspelt setting must not train silently
with its default.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

PROTOCOL_VERSION = 1
MINIATURE = "miniature"

Positive = Annotated[int, Meta(ge=1)]
NonNegative = Annotated[int, Meta(ge=0)]
Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
PixelSize = Annotated[int, Meta(ge=16, multiple_of=16)]
LearningRate = Annotated[float, Meta(gt=0.0, le=1.0)]
Rank = Annotated[int, Meta(ge=1, le=1024)]
Shift = Annotated[float, Meta(gt=0.0)]
Guidance = Annotated[float, Meta(ge=0.0)]
NonNegativeNumber = Annotated[float, Meta(ge=0.0)]
JpegQuality = Annotated[int, Meta(ge=1, le=100)]
FileName = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^\\/:*?\"<>|\x00-\x1f]+$")]


class Expert(StrEnum):
    """The two transformers of Wan 2.2 A14B, under the names that the files carry."""

    HIGH = "high_noise"
    LOW = "low_noise"


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every part of a job: immutable, by keyword, and strict about names."""


class GpuSection(Section, frozen=True, kw_only=True):
    """JOB, what a project's settings have of it: the GPUs that train.

    Attributes:
        gpu: Number of the GPU that trains.
        more_gpus: Numbers of further GPUs of this machine that train along.
        gpu_share: With several GPUs: each trains on its own part of every step's batches ("data"), or
            each of two trains one expert by itself ("experts"), which takes one of `more_gpus` and both
            stages: `gpu` then has the high-noise expert, and the previews.
    """

    gpu: NonNegative = 0
    more_gpus: tuple[NonNegative, ...] = ()
    gpu_share: Literal["data", "experts"] = "data"


class JobSection(GpuSection, frozen=True, kw_only=True):
    """JOB: the run's name (files and folders are named by it), its GPUs and the trigger word."""

    name: FileName
    trigger: str = ""


class ModelSection(Section, frozen=True, kw_only=True):
    """MODEL: the frozen base, and how it shares the GPU with everything else.

    The experts live in RAM, packed as they compute; `resident_blocks` is the one dial behind the two
    names that users know, Low VRAM and layer offloading.

    Attributes:
        base: A folder (diffusers layout, original release, or single files as ComfyUI has them), a
            repository of the Hugging Face Hub, or the name "miniature".
        high_noise: Weights of the high-noise expert, a file or folder; empty takes the base's own.
        low_noise: The same of the low-noise expert.
        vae: Weights of the VAE; empty takes the base's own.
        text_encoder: Weights of UMT5-XXL; empty takes the base's own.
        low_vram: Only the expert at work has blocks on the GPU; the other waits in RAM.
        layer_offloading: Share of each expert's blocks that stay in RAM and are sent to the GPU ahead
            of use, forward and backward.
        resident_blocks: Blocks of an expert that stay on the GPU; None takes what `layer_offloading`
            leaves.
        checkpoint_offloading: Keep what the backward pass needs of each block in RAM.
        feed_forward_chunks: Parts into which a clip's tokens are cut in the feed-forward layers.
        compile: Compile the passes between matrix products, for every size of clip once.
    """

    base: str = MINIATURE
    high_noise: str = ""
    low_noise: str = ""
    vae: str = ""
    text_encoder: str = ""
    low_vram: bool = True
    layer_offloading: Fraction = 0.0
    resident_blocks: NonNegative | None = None
    checkpoint_offloading: bool = False
    feed_forward_chunks: Annotated[int, Meta(ge=1, le=64)] = 1
    compile: bool = True

    def resident_of(self, blocks: int) -> int:
        """How many of an expert's blocks stay on the GPU."""
        if self.resident_blocks is not None:
            return min(self.resident_blocks, blocks)
        return round((1.0 - self.layer_offloading) * blocks)


class QuantizationSection(Section, frozen=True, kw_only=True):
    """QUANTIZATION: how the frozen base is stored and computed; the LoRA never is.

    Attributes:
        transformer: Of the linears in the experts' blocks: none (bf16); float8 (stored in 8 bits,
            computed in bf16); float8_compute (matrix products in 8 bits too, on cards that have
            them); nf4 (4 bits); nf4_recovered (4 bits and a frozen low-rank branch with what they
            lost, computed from the user's own clips).
        text_encoder: none (bf16 on the GPU), float8 (stored in 8 bits), or cpu (bf16 in RAM).
        vae: none (float32) or bf16, which halves the memory of encoding clips and decoding previews and rounds
            what is cached.
        recovery_rank: Of the low-rank branch.
    """

    transformer: Literal["none", "float8", "float8_compute", "nf4", "nf4_recovered"] = "none"
    text_encoder: Literal["none", "float8", "cpu"] = "none"
    vae: Literal["none", "bf16"] = "none"
    recovery_rank: Rank = 64


TimestepType = Literal["linear", "sigmoid", "shift", "weighted"]
TimestepBias = Literal["balanced", "high_noise", "low_noise"]


class MultistageSection(Section, frozen=True, kw_only=True):
    """MULTISTAGE: which experts train, how they take turns, and where one differs from the other.

    Fields that begin with `high_` or `low_` override the field of the same name in TARGET or
    TRAINING for that expert; None takes the common value.

    Attributes:
        switch_every: Optimizer steps of one turn.
        high_share: Share of the steps that the high-noise expert gets when both train; kept by giving
            it that share of the turns, whatever their length.
        boundary: Noise level (0..1) that divides the experts; None takes the model's own (0.9);
            0.875 reproduces ai-toolkit.
        boundary_overlap: How far past the boundary each expert also trains, as a noise level.
        high_steps: Most optimizer steps of the high-noise expert; then all turns are the other's.
        low_steps: The same for the low-noise expert.
    """

    stages: Literal["both", "high", "low"] = "both"
    switch_every: Positive = 10
    high_share: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.5
    boundary: Annotated[float, Meta(gt=0.0, lt=1.0)] | None = None
    boundary_overlap: Annotated[float, Meta(ge=0.0, le=0.5)] = 0.0
    high_steps: Positive | None = None
    low_steps: Positive | None = None
    high_learning_rate: LearningRate | None = None
    low_learning_rate: LearningRate | None = None
    high_rank: Rank | None = None
    low_rank: Rank | None = None
    high_timestep_type: TimestepType | None = None
    low_timestep_type: TimestepType | None = None
    high_timestep_bias: TimestepBias | None = None
    low_timestep_bias: TimestepBias | None = None
    high_timestep_shift: Shift | None = None
    low_timestep_shift: Shift | None = None

    def override(self, expert: Expert, field: str) -> Any:
        """The expert's own value of a field of TARGET or TRAINING; None where it has none."""
        return getattr(self, f"{'high' if expert is Expert.HIGH else 'low'}_{field}")


class TargetSection(Section, frozen=True, kw_only=True):
    """TARGET: the shape of the LoRA.

    Attributes:
        type: LoRA; DoRA (weight-decomposed); LoKr (Kronecker factors).
        alpha: Strength times rank; None means alpha = rank, a strength of one.
        dropout: Share of the LoRA's inputs dropped while training.
        only_if_contains: Layers (original names, e.g. "self_attn") to train; empty trains all ten
            linears of every block.
        ignore_if_contains: Layers not to train.
        start_high: Path of a LoRA file that the high-noise expert starts from; empty starts anew.
        start_low: The same for the low-noise expert.
    """

    type: Literal["lora", "dora", "lokr"] = "lora"
    rank: Rank = 16
    alpha: Annotated[float, Meta(gt=0.0)] | None = None
    dropout: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.0
    only_if_contains: tuple[str, ...] = ()
    ignore_if_contains: tuple[str, ...] = ()
    start_high: str = ""
    start_low: str = ""


class SaveSection(Section, frozen=True, kw_only=True):
    """SAVE: type of the LoRA files, steps between checkpoints, checkpoints kept beside pinned ones."""

    dtype: Literal["bf16", "fp16", "fp32"] = "bf16"
    every: Positive = 250
    keep: Positive = 4


class TrainingSection(Section, frozen=True, kw_only=True):
    """TRAINING: optimizer steps over both experts together, and how each step is taken.

    Attributes:
        warmup_steps: Steps of each expert over which its learning rate rises from zero.
        timestep_shift: Of the timestep type "shift".
        stratified_timesteps: Draw timesteps so that every part of the distribution is visited in turn.
        huber_delta: Where the Huber loss turns from squared to absolute.
        ema_decay: Decay of the moving average of the LoRA that is saved and previewed; 0 is off.
        diff_output_preservation: Keep the base's output for the caption in which the trigger is
            replaced by the class word (or for `preservation_prompt`, if set).
        blank_prompt_preservation: Keep the base's output for the empty prompt.
        preservation_multiplier: Weight of the preservation loss.
        regularization_share: Share of each expert's batches taken from regularization data sets,
            where there are any.
        gradient_checkpointing: Compute each block again in the backward pass instead of keeping all
            that happened in it.
        kept_activations: What is kept all the same, of every block: nothing but its input; also the
            output of attention, its dearest part; or also the sums in between.
        kept_blocks: Blocks, the last ones, that keep everything and compute nothing again.
    """

    steps: Positive = 2000
    learning_rate: LearningRate = 1e-4
    batch_size: Positive = 1
    gradient_accumulation: Positive = 1
    optimizer: Literal["adamw8bit", "adamw", "adafactor", "prodigy", "lion"] = "adamw8bit"
    lr_schedule: Literal["constant", "cosine", "linear"] = "constant"
    warmup_steps: NonNegative = 0
    weight_decay: Annotated[float, Meta(ge=0.0)] = 1e-4
    max_grad_norm: Annotated[float, Meta(gt=0.0)] = 1.0
    loss: Literal["mse", "mae", "huber"] = "mse"
    huber_delta: Annotated[float, Meta(gt=0.0)] = 0.1
    timestep_type: TimestepType = "linear"
    timestep_bias: TimestepBias = "balanced"
    timestep_shift: Shift = 5.0
    stratified_timesteps: bool = False
    ema_decay: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.0
    diff_output_preservation: bool = False
    diff_output_preservation_class: str = "person"
    preservation_prompt: str = ""
    blank_prompt_preservation: bool = False
    preservation_multiplier: Annotated[float, Meta(ge=0.0)] = 1.0
    regularization_share: Fraction = 0.5
    gradient_checkpointing: bool = True
    kept_activations: Literal["nothing", "attention", "sums"] = "attention"
    kept_blocks: NonNegative = 0
    seed: NonNegative = 42


class AdvancedSection(Section, frozen=True, kw_only=True):
    """ADVANCED.

    Attributes:
        differential_guidance: Push the target past the truth, away from the prediction.
        differential_guidance_scale: How far; 1 is the plain target.
        validation_every: Steps between losses on the held-out clips, at fixed noise; 0 is never.
        validation_timesteps: Noise levels of each expert's interval at which they are measured.
    """

    differential_guidance: bool = False
    differential_guidance_scale: Annotated[float, Meta(gt=0.0)] = 3.0
    validation_every: NonNegative = 100
    validation_timesteps: Positive = 4


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
        flip: How the upright picture is mirrored; the caption is already changed to match.
    """

    source: str
    source_bytes: NonNegative
    source_modified_ns: int
    windows: Annotated[tuple[Annotated[tuple[int, ...], Meta(min_length=1)], ...], Meta(min_length=1)]
    sizes: Annotated[tuple[TrainedSize, ...], Meta(min_length=1)]
    caption: str
    flip: Literal["none", "horizontal", "vertical", "both"] = "none"


class DatasetSection(Section, frozen=True, kw_only=True):
    """DATASETS: one list of clips.

    Three numbers that peers mix up: `weight` is how often its clips are drawn, `loss_weight` what
    they count in the loss, `lora_strength` how strong the LoRA is while they train.

    Attributes:
        role: Train on it; train on it to keep what the base knows (its own share of the batches, no
            trigger); or only measure the validation loss on it.
        num_frames: Frames asked for; a clip too short for them has fewer in its windows.
        resolutions: Side of the square whose area a bucket keeps, in pixels.
        repeats: Times that each clip appears in one pass over the data.
        weight: Further times, may be a fraction: 0.5 takes half of the clips in each pass, in turn.
        caption_dropout: Share of draws that train without the caption.
        caption_dropout_to: What a dropped caption becomes: truly empty, or the trigger word alone.
        trigger: The data set's own trigger word (for dropout and preservation); empty takes the job's.
        condition_share: Share of draws in which the first frame that the model is given is altered, as
            pictures at inference differ from frames of clips: by all three below that are set.
        condition_noise: Noise added to its latents, as a standard deviation; 0 adds none.
        condition_blur: Standard deviation of a Gaussian blur, in the bucket's pixels; 0 blurs nothing.
        condition_quality: JPEG quality (1..100) to which it is compressed; 100 leaves it as it is.
    """

    name: str
    clips: Annotated[tuple[ClipSpec, ...], Meta(min_length=1)]
    role: Literal["training", "regularization", "validation"] = "training"
    num_frames: Positive
    resolutions: Annotated[tuple[PixelSize, ...], Meta(min_length=1)]
    repeats: Positive = 1
    weight: Annotated[float, Meta(gt=0.0)] = 1.0
    loss_weight: Annotated[float, Meta(ge=0.0)] = 1.0
    lora_strength: float = 1.0
    caption_dropout: Fraction = 0.0
    caption_dropout_to: Literal["empty", "trigger"] = "empty"
    trigger: str = ""
    condition_share: Fraction = 0.5
    condition_noise: NonNegativeNumber = 0.0
    condition_blur: NonNegativeNumber = 0.0
    condition_quality: JpegQuality = 100


class SampleRow(Section, frozen=True, kw_only=True):
    """One preview: a prompt that is always paired with a first frame.

    Attributes:
        image: Path of the control image; empty takes the first frame of `clip`.
        clip: Index into the clips of all data sets in their order.
        steps: Denoising steps; None takes the section's, as do the three below.
    """

    prompt: str
    image: str = ""
    clip: NonNegative = 0
    size: BucketSize
    num_frames: Positive
    seed: NonNegative = 42
    steps: Positive | None = None
    guidance_high: Guidance | None = None
    guidance_low: Guidance | None = None
    negative_prompt: str | None = None


class SampleSection(Section, frozen=True, kw_only=True):
    """SAMPLE: previews, rendered with both experts' current LoRAs.

    Attributes:
        every: Optimizer steps between previews; 0 renders none.
        at_start: Also before the first step, to compare with.
        sampler: UniPC (the model's own) or Euler, both on flow matching's noise levels.
        walk_seed: Add the number of the preview round to each row's seed.
        guidance_high: Classifier-free guidance while the high-noise expert denoises.
        guidance_low: The same for the low-noise expert.
        shift: Flow shift of the sampler's noise levels.
        in_tiles: Decode in overlapping tiles, in a fraction of the memory; seams may be seen. A preview that does
            not fit whole is decoded so in any case.
    """

    every: NonNegative = 250
    at_start: bool = True
    sampler: Literal["unipc", "euler"] = "unipc"
    walk_seed: bool = False
    rows: tuple[SampleRow, ...] = ()
    steps: Positive = 20
    guidance_high: Guidance = 3.5
    guidance_low: Guidance = 3.5
    shift: Annotated[float, Meta(gt=0.0)] = 5.0
    negative_prompt: str = ""
    in_tiles: bool = False


class JobSpec(Section, frozen=True, kw_only=True):
    """One training run, whole: it can be repeated from this alone.

    Attributes:
        cache_folder: Latents and text embeddings, shared by the runs of a project.
    """

    job: JobSection
    model: ModelSection
    quantization: QuantizationSection = QuantizationSection()
    multistage: MultistageSection = MultistageSection()
    target: TargetSection = TargetSection()
    save: SaveSection = SaveSection()
    training: TrainingSection = TrainingSection()
    advanced: AdvancedSection = AdvancedSection()
    datasets: Annotated[tuple[DatasetSection, ...], Meta(min_length=1)]
    sample: SampleSection = SampleSection()
    cache_folder: str
    protocol_version: int = PROTOCOL_VERSION

    @property
    def clips(self) -> tuple[ClipSpec, ...]:
        """The clips of all data sets, in their order."""
        return tuple(clip for dataset in self.datasets for clip in dataset.clips)
