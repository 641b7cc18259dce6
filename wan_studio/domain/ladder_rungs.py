"""The rungs of the ladder down from a lack of memory: what each changes, the mildest way first."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from wan_studio.domain.machine import Machine
from wan_studio.domain.plan_space import Changes, blocks_of
from wan_studio.domain.project import Settings

OFFLOADED_SHARES = (0.3, 0.6, 1.0)
CHUNKS = (4, 16)
FEWER_FRAMES = (41, 33, 21)
_SMALLEST_PREVIEW = 256


class Rung(StrEnum):
    """A kind of change, in the order to try."""

    TEXT = "captions"
    VAE = "vae"
    PREVIEWS = "previews"
    CHECKPOINTS = "checkpoints"
    BLOCKS = "blocks"
    CHUNKS = "chunks"
    KEPT = "kept activations"
    BUCKET = "largest size"
    FRAMES = "frames"
    EIGHT_BITS = "8 bits"
    FOUR_BITS = "4 bits"


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to stand on a rung.

    Attributes:
        words: What is changed, to follow "with".
    """

    rung: Rung
    changes: Changes
    words: str


def choices_of(rung: Rung, settings: Settings, machine: Machine) -> Iterator[Choice]:
    """Ways to stand on a rung, the mildest first; none where the settings are on it already."""
    for changes, words in _CHOICES[rung](settings, machine):
        yield Choice(rung, changes, words)


_Ways = Iterator[tuple[Changes, str]]


def _text(settings: Settings, _: Machine) -> _Ways:
    mode = settings.quantization.text_encoder
    if mode == "none":
        yield {"quantization.text_encoder": "float8"}, "the text encoder in 8 bits"
    if mode != "cpu":
        yield {"quantization.text_encoder": "cpu"}, "captions encoded on the CPU"


def _vae(settings: Settings, _: Machine) -> _Ways:
    if settings.quantization.vae == "none":
        yield {"quantization.vae": "bf16"}, "clips encoded and decoded in half the memory"


def _previews(settings: Settings, _: Machine) -> _Ways:
    sample = settings.sample
    if not sample.in_tiles:
        yield {"sample.in_tiles": True}, "previews decoded in tiles"
    smaller = [
        msgspec.structs.replace(
            row,
            size=msgspec.structs.replace(
                row.size, width=_three_quarters(row.size.width), height=_three_quarters(row.size.height)
            ),
        )
        for row in sample.rows
    ]
    if tuple(smaller) != sample.rows:
        rows = [msgspec.to_builtins(row) for row in smaller]
        yield {"sample.in_tiles": True, "sample.rows": rows}, "previews at three quarters of their size"


def _checkpoints(settings: Settings, _: Machine) -> _Ways:
    training = settings.training
    less: Changes = {}
    if not training.gradient_checkpointing or training.kept_blocks:
        less = {"training.gradient_checkpointing": True, "training.kept_blocks": 0}
        yield less, "blocks computed twice instead of kept"
    if not settings.model.checkpoint_offloading:
        yield {**less, "model.checkpoint_offloading": True}, "what the backward pass needs waiting in RAM"


def _blocks(settings: Settings, _: Machine) -> _Ways:
    model, blocks = settings.model, blocks_of(settings)
    if not model.low_vram and settings.multistage.stages == "both":
        yield {"model.low_vram": True}, "only the expert at work on the GPU"
    waiting = 1.0 - model.resident_of(blocks) / blocks
    for share in OFFLOADED_SHARES:
        if share > waiting:
            changes = {"model.low_vram": True, "model.resident_blocks": None, "model.layer_offloading": share}
            yield changes, f"{share:.0%} of the blocks waiting in RAM"


def _chunks(settings: Settings, _: Machine) -> _Ways:
    for parts in CHUNKS:
        if parts > settings.model.feed_forward_chunks:
            yield {"model.feed_forward_chunks": parts}, f"feed-forward layers passed in {parts} parts"


def _kept(settings: Settings, _: Machine) -> _Ways:
    kept = settings.training.kept_activations
    if kept == "sums":
        yield {"training.kept_activations": "attention"}, "the sums inside blocks computed twice"
    if kept != "nothing":
        yield {"training.kept_activations": "nothing"}, "attention computed twice"


def _bucket(settings: Settings, _: Machine) -> _Ways:
    sides = sorted(settings.datasets.resolutions)
    if len(sides) > 1:
        yield {"datasets.resolutions": sides[:-1]}, f"the size {sides[-1]} left out"


def _frames(settings: Settings, _: Machine) -> _Ways:
    for frames in FEWER_FRAMES:
        if frames < settings.datasets.num_frames:
            yield {"datasets.num_frames": frames}, f"{frames} frames of each clip"


def _eight_bits(settings: Settings, machine: Machine) -> _Ways:
    if settings.quantization.transformer == "none":
        gpu = machine.gpu
        mode = "float8_compute" if gpu is not None and gpu.has_float8 else "float8"
        yield {"quantization.transformer": mode}, "the base in 8 bits"


def _four_bits(settings: Settings, _: Machine) -> _Ways:
    if not settings.quantization.transformer.startswith("nf4"):
        yield {"quantization.transformer": "nf4_recovered"}, "the base in 4 bits, with recovery"
        yield {"quantization.transformer": "nf4"}, "the base in 4 bits"


_CHOICES = {
    Rung.TEXT: _text,
    Rung.VAE: _vae,
    Rung.PREVIEWS: _previews,
    Rung.CHECKPOINTS: _checkpoints,
    Rung.BLOCKS: _blocks,
    Rung.CHUNKS: _chunks,
    Rung.KEPT: _kept,
    Rung.BUCKET: _bucket,
    Rung.FRAMES: _frames,
    Rung.EIGHT_BITS: _eight_bits,
    Rung.FOUR_BITS: _four_bits,
}


def _three_quarters(side: int) -> int:
    return min(side, max(_SMALLEST_PREVIEW, side * 3 // 4 // 16 * 16))
