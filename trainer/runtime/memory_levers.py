"""What to change when memory ran out: the levers that are left, the cheapest first."""

from collections.abc import Iterator
from dataclasses import dataclass

from trainer.protocol.job import ModelSection, QuantizationSection, TrainingSection
from trainer.protocol.memory_settings import MEMORY_SETTINGS
from trainer.runtime.out_of_memory import Doing

OFFLOADED_SHARES = (0.3, 0.6, 1.0)
MOST_CHUNKS = 16
FEWEST_FRAMES = 5
SMALLEST_SIDE = 256
TRAINING = (Doing.FORWARD, Doing.BACKWARD, Doing.UPDATE, Doing.VALIDATING, Doing.OTHER)


@dataclass(frozen=True, slots=True)
class Lever:
    """One change.

    Attributes:
        setting: `section.field=value`.
        effect: What it does, to follow the setting after a colon.
    """

    setting: str
    effect: str

    @property
    def resumes(self) -> bool:
        """Whether the run can go on with it: the result does not depend on it."""
        return self.setting.partition("=")[0] in MEMORY_SETTINGS


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """The parts of a job that decide how much memory it takes.

    Attributes:
        frames: Of the longest clips.
        resolution: The largest, the side of a square in pixels.
    """

    model: ModelSection
    quantization: QuantizationSection
    training: TrainingSection
    frames: int
    resolution: int


def levers(doing: Doing, settings: MemorySettings) -> list[Lever]:
    """What is left to change against a lack of memory in this work, in the order to try."""
    match doing:
        case Doing.LOADING:
            return [*_blocks(settings), *_float8(settings), *_four_bits(settings)]
        case Doing.CACHING_TEXT:
            return list(_text_encoder(settings))
        case Doing.CACHING_LATENTS | Doing.PREVIEWING:
            return [*_vae(settings), *_smaller_clips(settings)]
        case _:
            # What costs nothing where the link to the card is fast comes before what costs time, and what
            # changes the numbers comes last.
            return [
                *_kept_whole(settings),
                *_checkpoints(settings),
                *_blocks(settings),
                *_chunks(settings),
                *_kept(settings),
                *_float8(settings),
                *_four_bits(settings),
                *_smaller_clips(settings),
            ]


def advice(left: list[Lever], *, has_begun: bool = True) -> str:
    """What to do, in a sentence: the first lever; for a run that could go on, or one that is planned."""
    if not left:
        return (
            "Nothing is left to set against it: close other programs that use the GPU, or use a larger one."
        )
    first = left[0]
    if not has_begun:
        return f"Set {first.setting}: {first.effect}."
    if first.resumes:
        return f"Resume with --set {first.setting}: {first.effect}."
    # Whatever the run could go on with comes before.
    return f"Start a new run with --set {first.setting}: {first.effect}."


def _kept_whole(settings: MemorySettings) -> Iterator[Lever]:
    training = settings.training
    if not training.gradient_checkpointing:
        yield Lever("training.gradient_checkpointing=true", "blocks are computed twice instead of being kept")
    elif training.kept_blocks:
        yield Lever("training.kept_blocks=0", "no block is kept whole")
    if training.gradient_checkpointing and training.kept_activations == "sums":
        # Before they are sent to RAM: so much would take longer on the way than the blocks compute.
        yield Lever("training.kept_activations=attention", "the sums inside a block are computed twice")


def _kept(settings: MemorySettings) -> Iterator[Lever]:
    training = settings.training
    if training.gradient_checkpointing and training.kept_activations != "nothing":
        yield Lever("training.kept_activations=nothing", "only the input of each block is kept")


def _blocks(settings: MemorySettings) -> Iterator[Lever]:
    model = settings.model
    if not model.low_vram:
        yield Lever("model.low_vram=true", "only the expert at work has blocks on the GPU")
    if model.resident_blocks is not None:
        if model.resident_blocks:
            fewer = model.resident_blocks // 2
            yield Lever(f"model.resident_blocks={fewer}", f"{fewer} blocks of each expert stay on the GPU")
        return
    for share in OFFLOADED_SHARES:
        if share > model.layer_offloading:
            yield Lever(f"model.layer_offloading={share:g}", f"{share:.0%} of the blocks wait in RAM")
            return


def _float8(settings: MemorySettings) -> Iterator[Lever]:
    if settings.quantization.transformer == "none":
        yield Lever("quantization.transformer=float8", "the base takes half the memory")


def _checkpoints(settings: MemorySettings) -> Iterator[Lever]:
    if not settings.model.checkpoint_offloading:
        yield Lever("model.checkpoint_offloading=true", "what the backward pass needs waits in RAM")


def _chunks(settings: MemorySettings) -> Iterator[Lever]:
    chunks = settings.model.feed_forward_chunks
    if chunks < MOST_CHUNKS:
        more = min(4 * chunks, MOST_CHUNKS)
        yield Lever(
            f"model.feed_forward_chunks={more}", f"clips pass the feed-forward layers in {more} parts"
        )


def _four_bits(settings: MemorySettings) -> Iterator[Lever]:
    if not settings.quantization.transformer.startswith("nf4"):
        yield Lever("quantization.transformer=nf4", "the base takes a quarter of the memory")


def _text_encoder(settings: MemorySettings) -> Iterator[Lever]:
    if settings.quantization.text_encoder == "none":
        yield Lever("quantization.text_encoder=float8", "the text encoder takes half the memory")
    if settings.quantization.text_encoder != "cpu":
        yield Lever("quantization.text_encoder=cpu", "captions are encoded on the CPU")


def _vae(settings: MemorySettings) -> Iterator[Lever]:
    if settings.quantization.vae == "none":
        yield Lever("quantization.vae=bf16", "clips are encoded and decoded in half the memory")


def _smaller_clips(settings: MemorySettings) -> Iterator[Lever]:
    if settings.training.batch_size > 1:
        fewer = settings.training.batch_size // 2
        yield Lever(f"training.batch_size={fewer}", "fewer clips at once")
    if settings.frames > FEWEST_FRAMES:
        # Three quarters, and of the form 4n + 1.
        frames = max(FEWEST_FRAMES, (settings.frames * 3 // 4 - 1) // 4 * 4 + 1)
        yield Lever(f"datasets.num_frames={frames}", f"{frames} frames of each clip")
    if settings.resolution > SMALLEST_SIDE:
        side = max(SMALLEST_SIDE, settings.resolution * 3 // 4 // 16 * 16)
        yield Lever(f"datasets.resolutions={side}", f"smaller pictures, {side} x {side} pixels in area")
