"""The plans that a recommendation chooses from: what to train at, and how to hold it in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from wan_studio.domain.frame_sampling import valid_frame_count
from wan_studio.domain.machine import GIB, Machine
from wan_studio.domain.model_sizes import base_sizes
from wan_studio.domain.project import Settings
from wan_studio.domain.workload import ClipExtent

Changes = dict[str, Any]
"""New values by "section.field"."""

PLANNED = (
    "datasets.num_frames",
    "datasets.resolutions",
    "model.checkpoint_offloading",
    "model.compile",
    "model.feed_forward_chunks",
    "model.layer_offloading",
    "model.low_vram",
    "model.resident_blocks",
    "multistage.switch_every",
    "quantization.text_encoder",
    "quantization.transformer",
    "quantization.vae",
    "sample.in_tiles",
    "training.batch_size",
    "training.gradient_accumulation",
    "training.gradient_checkpointing",
    "training.kept_activations",
    "training.kept_blocks",
)
"""What a plan sets, whatever the project has there; the rank, which a plan leaves as it is, is not among them."""

BASE_RESOLUTION = 512
LARGER_RESOLUTIONS = (768, 1024)
ENOUGH_FRAMES = 21
"""Fewer frames that still teach motion, for cards on which more take too long or too much."""
LAST_RESORTS = ((384, 21), (384, 13), (256, 13), (256, 5))
"""Resolution and frames when nothing else fits."""
FEW_CLIPS = 3
"""A bucket that no more clips than this use costs memory for little."""
_FILLED_SHARE = 0.75
"""Of the clips, that have to be long enough for the frames that are recommended."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to train at."""

    resolutions: tuple[int, ...]
    frames: int

    @property
    def changes(self) -> Changes:
        """As settings."""
        return {"datasets.resolutions": list(self.resolutions), "datasets.num_frames": self.frames}


@dataclass(frozen=True, slots=True)
class Layout:
    """How experts and activations are held.

    Attributes:
        resident: Blocks of an expert on the GPU; None is as many as fit.
        offload: Whether what blocks keep waits in RAM.
        keep: What that is.
        chunks: Parts of the feed-forward.
        kept_blocks: Blocks that keep everything.
    """

    low_vram: bool
    resident: int | None
    offload: bool = False
    keep: str = "attention"
    chunks: int = 1
    kept_blocks: int = 0

    def changes(self, blocks: int, resident: int) -> Changes:
        """As settings; `resident` blocks of so many stay on the GPU."""
        return {
            "model.low_vram": self.low_vram,
            "model.layer_offloading": round(1.0 - resident / blocks, 4),
            "model.resident_blocks": None,
            "model.checkpoint_offloading": self.offload,
            "model.feed_forward_chunks": self.chunks,
            "training.gradient_checkpointing": True,
            "training.kept_activations": self.keep,
            "training.kept_blocks": self.kept_blocks,
        }


def layouts(blocks: int, *, spend: bool) -> Iterator[Layout]:
    """From the one that wants most of the GPU to the one that wants least; the first that fits is best.

    Both experts on the GPU come first; then one; then a part of one. What blocks keep goes to RAM before
    blocks do: it moves less, and only a step's worth of RAM.

    Args:
        blocks: Of an expert.
        spend: Whether to fill the GPU to save time.
    """
    if spend:
        yield Layout(low_vram=False, resident=blocks, kept_blocks=blocks)
        yield Layout(low_vram=True, resident=blocks, kept_blocks=blocks)
        for kept in (20, 10):
            yield Layout(low_vram=False, resident=blocks, kept_blocks=kept)
        yield Layout(low_vram=False, resident=blocks, keep="sums")
        yield Layout(low_vram=True, resident=blocks, keep="sums")
    yield Layout(low_vram=False, resident=blocks)
    yield Layout(low_vram=False, resident=blocks, offload=True)
    yield Layout(low_vram=True, resident=blocks)
    yield Layout(low_vram=True, resident=blocks, offload=True)
    yield Layout(low_vram=False, resident=blocks, keep="nothing")
    yield Layout(low_vram=True, resident=blocks, keep="nothing")
    yield Layout(low_vram=True, resident=None, offload=True)
    # Less RAM for what blocks keep, and then none.
    yield Layout(low_vram=True, resident=None, offload=True, keep="nothing")
    yield Layout(low_vram=True, resident=None)
    yield Layout(low_vram=True, resident=None, keep="nothing")
    yield Layout(low_vram=True, resident=0, offload=True, chunks=4)
    yield Layout(low_vram=True, resident=0, offload=True, keep="nothing", chunks=4)
    yield Layout(low_vram=True, resident=0, keep="nothing", chunks=4)


def quantizations(machine: Machine) -> tuple[str, ...]:
    """Ways to store the base, from 16 bits to 4.

    8 bits are more exact than 4 and, where the card multiplies in them, faster than 16. Plain 4 bits are for
    machines whose RAM does not suffice to measure the clips for the recovery.
    """
    gpu = machine.gpu
    if gpu is not None and gpu.has_float8:
        return "float8_compute", "nf4_recovered", "nf4"
    return "none", "float8", "nf4_recovered", "nf4"


def holds(mode: str, layout: Layout, blocks: int) -> bool:
    """Whether a layout is worth trying for a way to store: 16 bits only where both experts stay on the GPU."""
    return mode != "none" or (layout.resident == blocks and not layout.low_vram)


def wishes(
    settings: Settings, clips: Sequence[ClipExtent], wanted_frames: int, resolutions: Sequence[int]
) -> Iterator[Wish]:
    """What to train at, the most wanted first: size before frames, as the guides drop them.

    Args:
        settings: Of the project.
        clips: Those that train; empty where they are not known.
        wanted_frames: By the goal.
        resolutions: That may be used, ascending.
    """
    most = min(wanted_frames, usual_frames(settings, clips, wanted_frames))
    for count in range(len(resolutions), 0, -1):
        yield Wish(tuple(resolutions[:count]), most)
    base = tuple(resolutions[:1])
    for frames in (33, ENOUGH_FRAMES, 13):
        if frames < most:
            yield Wish(base, frames)
    for resolution, frames in LAST_RESORTS:
        if resolution < base[0] and frames <= most:
            yield Wish((resolution,), frames)


def usual_frames(settings: Settings, clips: Sequence[ClipExtent], wanted: int) -> int:
    """The most frames, 4n+1, that most moving clips fill at 16 a second; as wanted where any number can be."""
    moving = sorted((clip.longest for clip in clips if clip.longest > 1), reverse=True)
    if not moving or settings.datasets.sampling == "whole_range":
        return valid_frame_count(wanted)
    filled = moving[min(len(moving) - 1, int(_FILLED_SHARE * len(moving)))]
    return valid_frame_count(min(wanted, max(filled, 5)))


def usable_resolutions(settings: Settings, clips: Sequence[ClipExtent]) -> tuple[int, ...]:
    """Resolutions that more than a few clips are large enough for, ascending; at least one."""
    if not clips or settings.datasets.allow_upscale:
        return (BASE_RESOLUTION, *LARGER_RESOLUTIONS)
    larger = [side for side in LARGER_RESOLUTIONS if large_clips(clips, side) > FEW_CLIPS]
    return (BASE_RESOLUTION, *larger)


def large_clips(clips: Sequence[ClipExtent], side: int) -> int:
    """How many clips have at least the pixels of a square of this side."""
    return sum(clip.width * clip.height >= side * side * 0.98 for clip in clips)


def blocks_of(settings: Settings) -> int:
    """Blocks of an expert of the project's base."""
    return base_sizes(settings.model.base).expert.layers


def nested(changes: Changes) -> dict[str, dict[str, Any]]:
    """Values by section and field, as `Settings.with_values` takes them."""
    sections: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        section, _, field = name.partition(".")
        sections.setdefault(section, {})[field] = value
    return sections


@dataclass(frozen=True, slots=True)
class Limits:
    """What a plan may take.

    Attributes:
        vram: Of the GPU's memory, head-room left.
        ram: Of RAM.
        pinned: Of RAM that the GPU reaches by itself.
        disk: Of the disk; None where it is not known.
    """

    vram: int
    ram: int
    pinned: int
    disk: int | None


def limits(machine: Machine, headroom: float) -> Limits:
    """What a plan may take of a machine.

    Args:
        machine: Has a GPU.
        headroom: Share of the GPU's free memory that is left free; never less than half a GiB.
    """
    gpu = machine.gpu
    assert gpu is not None
    spare = max(GIB // 2, round(headroom * gpu.free_bytes))
    ram = machine.ram_available_bytes - max(GIB // 2, round(0.03 * machine.ram_total_bytes))
    pinned = machine.ram_total_bytes // 2 if machine.is_windows else machine.ram_total_bytes
    return Limits(gpu.free_bytes - spare, ram, pinned, machine.disk_free_bytes)
