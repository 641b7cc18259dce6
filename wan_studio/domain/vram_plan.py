"""How much memory a run takes: on the GPU phase by phase and part by part, in RAM, and on the disk.

Weights, LoRA, optimizer and what blocks keep are computed from shapes (`model_sizes`); what a pass needs
beside them is counted in rows of activations, measured once (`memory_constants`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from wan_studio.domain import memory_constants as constants
from wan_studio.domain.model_sizes import (
    BFLOAT16_BYTES,
    FLOAT32_BYTES,
    BaseSizes,
    base_sizes,
)
from wan_studio.domain.project import Settings
from wan_studio.domain.workload import ClipShape, Workload

RING_SLOTS = 2
"""Blocks on the GPU through which all streamed ones pass."""
OPTIMIZER_BYTES = {"adamw8bit": 2 + 8 / 256, "adamw": 8, "adafactor": 0.02, "prodigy": 16, "lion": 4}
"""Of state for each trained weight: moments, in 8 bits with a scale for 256 of them, in float32, factored
into rows and columns, with a start point and a running sum beside two moments, or one moment."""
SAVED_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}


class Part(StrEnum):
    """What memory is taken for, in words for the user."""

    BLOCKS = "Experts' blocks"
    RING = "Streaming buffers"
    EMBEDDINGS = "Embeddings and norms"
    LORA = "LoRA"
    OPTIMIZER = "Optimizer"
    GRADIENTS = "Gradients"
    KEPT = "Kept activations"
    WORK = "Activations at work"
    TEXT_ENCODER = "Text encoder"
    VAE = "VAE"
    RESERVE = "Allocator's reserve"
    CUDA = "CUDA and driver"
    MASTERS = "Experts' blocks in RAM"
    PROCESS = "Trainer and window"


class Phase(StrEnum):
    """Of a run, as far as memory goes."""

    TEXT = "caching captions"
    LATENTS = "caching clips"
    TRAINING = "training"
    PREVIEW = "previews"


@dataclass(frozen=True, slots=True)
class PhaseMemory:
    """What one phase takes at its peak.

    Attributes:
        parts: Bytes by part; parts of no size are left out.
        shape: Of the clip, where the phase depends on it.
    """

    phase: Phase
    parts: tuple[tuple[Part, int], ...]
    shape: ClipShape | None = None

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(size for _, size in self.parts)

    @property
    def reserved(self) -> int:
        """What torch reserves of it: all but CUDA's own."""
        return sum(size for part, size in self.parts if part is not Part.CUDA)

    def of(self, part: Part) -> int:
        """Bytes of one part."""
        return dict(self.parts).get(part, 0)


@dataclass(frozen=True, slots=True)
class DiskUse:
    """Bytes that a run leaves on the disk, the base model not counted."""

    cache: int
    quantized: int
    checkpoints: int

    @property
    def total(self) -> int:
        """All together."""
        return self.cache + self.quantized + self.checkpoints


@dataclass(frozen=True, slots=True)
class MemoryForecast:
    """What a run takes.

    Attributes:
        phases: On the GPU, in their order; training once for each shape.
        ram: In RAM, the phase with the most.
        disk: On the disk.
        error: Share by which the GPU's peak may be off, either way.
        is_measured: Whether measurements of this machine corrected it.
    """

    phases: tuple[PhaseMemory, ...]
    ram: PhaseMemory
    disk: DiskUse
    error: float = 0.05
    is_measured: bool = False

    @property
    def peak(self) -> PhaseMemory:
        """The phase that takes most of the GPU."""
        return max(self.phases, key=lambda one: one.total)

    @property
    def training(self) -> PhaseMemory:
        """The shape that takes most of the GPU while training."""
        return max((one for one in self.phases if one.phase is Phase.TRAINING), key=lambda one: one.total)

    def of(self, phase: Phase) -> tuple[PhaseMemory, ...]:
        """All entries of a phase."""
        return tuple(one for one in self.phases if one.phase is phase)


class Kept(NamedTuple):
    """What blocks keep, in bytes: the first, the last, and all of them."""

    first: int
    last: int
    total: int


@dataclass(frozen=True, slots=True)
class MemoryModel:
    """Computes forecasts for one machine.

    Attributes:
        dtype_bytes: Of a number in the type that computes: 2, or 4 on cards without bfloat16.
        is_windows: Whose driver takes more for itself.
    """

    dtype_bytes: int = 2
    is_windows: bool = False

    def forecast(self, settings: Settings, work: Workload) -> MemoryForecast:
        """What a run with these settings takes for this workload."""
        sizes = base_sizes(settings.model.base)
        trainings = tuple(self.training(settings, sizes, use.shape) for use in work.buckets)
        previews = tuple(self.preview(settings, sizes, shape) for shape in sorted(set(work.previews)))
        encoded = max((use.shape for use in work.buckets), key=lambda one: one.width * one.height)
        phases = (
            *self._caching_text(settings, sizes),
            self.vae(Phase.LATENTS, settings, sizes, encoded),
            *trainings,
            *previews,
        )
        return MemoryForecast(phases, self._ram(settings, sizes, work), disk_use(settings, work))

    def training(self, settings: Settings, sizes: BaseSizes, shape: ClipShape) -> PhaseMemory:
        """A step at one shape.

        Two moments compete: the first block of the backward pass, when all blocks still keep theirs, and
        the last, when all gradients are there. Where a step has several backward passes (accumulation,
        preservation) the gradients are there from the start.
        """
        training, model = settings.training, settings.model
        row = self._row_bytes(settings, sizes, shape)
        mode = settings.quantization.transformer
        rows = constants.BACKWARD_ROWS[self._keep(settings)]
        if self._by_autograd(settings):
            rows = constants.AUTOGRAD_ROWS
        else:
            if mode != "float8_compute":
                rows -= constants.PLAIN_ROWS_SAVED
            if model.feed_forward_chunks > 1 and training.kept_activations in ("nothing", "attention"):
                rows -= constants.CHUNKED_ROWS_SAVED
        # A LoRA's products with all tokens, at its rank instead of the model's width.
        rows += 10 * settings.target.rank / sizes.expert.width
        work = round(rows * row) + constants.STEP_BYTES + self._dense_weight(settings, sizes)
        trained = self._lora_weights(settings, sizes) * FLOAT32_BYTES
        blocks = sizes.expert.layers
        kept = self._kept(settings, sizes, shape)
        at_once = training.gradient_accumulation > 1 or self._preserves(settings)
        gradients = trained if at_once else trained // blocks
        if model.checkpoint_offloading:
            kept_first = kept_last = constants.BLOCKS_IN_FLIGHT * kept.last
        else:
            kept_first, kept_last = kept.total, kept.first
        first, last = kept_first + gradients, kept_last + trained
        is_last = last > first
        return self._with_cuda(
            Phase.TRAINING,
            [
                *self._resident(settings, sizes),
                (Part.GRADIENTS, trained if is_last else gradients),
                (Part.KEPT, kept_last if is_last else kept_first),
                (Part.WORK, work),
                (Part.RESERVE, constants.RESERVE_BYTES + round(constants.RESERVE_ROWS * row)),
            ],
            shape,
        )

    def preview(self, settings: Settings, sizes: BaseSizes, shape: ClipShape) -> PhaseMemory:
        """A row of previews: denoising, or decoding, whichever needs more; all that trains stays there.

        But for blocks that lie in RAM as well: decoding has their memory meanwhile.
        """
        resident = list(self._resident(settings, sizes))
        row = shape.tokens * sizes.expert.width * self.dtype_bytes
        work = (
            round(constants.FORWARD_ROWS * row) + constants.STEP_BYTES + self._dense_weight(settings, sizes)
        )
        reserve = constants.RESERVE_BYTES + round(constants.RESERVE_ROWS * row)
        denoising = [*resident, (Part.WORK, work), (Part.RESERVE, reserve)]
        lent = (Part.BLOCKS, Part.RING) if self._has_masters(settings, sizes) else ()
        staying = [(part, size) for part, size in resident if part not in lent]
        decoding = self.vae(Phase.PREVIEW, settings, sizes, shape, staying)
        return max(self._with_cuda(Phase.PREVIEW, denoising, shape), decoding, key=lambda one: one.total)

    def _caching_text(self, settings: Settings, sizes: BaseSizes) -> Iterable[PhaseMemory]:
        mode = settings.quantization.text_encoder
        if mode == "cpu":
            return
        encoder = sizes.text_encoder_bytes(mode, self.dtype_bytes)
        work = constants.TEXT_WORK_BYTES + (constants.TEXT_ROUNDING_BYTES if mode == "float8" else 0)
        # A small encoder works with little.
        yield self._with_cuda(
            Phase.TEXT, [(Part.TEXT_ENCODER, encoder), (Part.WORK, min(work, encoder))], None
        )

    def vae(
        self,
        phase: Phase,
        settings: Settings,
        sizes: BaseSizes,
        shape: ClipShape,
        resident: Iterable[tuple[Part, int]] = (),
    ) -> PhaseMemory:
        """Encoding, or for previews decoding, beside what is on the GPU anyway: four frames at a time.

        The reserve is torch's: the pieces that the VAE asks for differ in size from layer to layer.
        """
        encodes = phase is Phase.LATENTS
        work = constants.ENCODE_BYTES_PER_PIXEL if encodes else constants.DECODE_BYTES_PER_PIXEL
        reserve = constants.ENCODE_RESERVE_PER_PIXEL if encodes else constants.DECODE_RESERVE_PER_PIXEL
        is_half = settings.quantization.vae == "bf16" and self.dtype_bytes == BFLOAT16_BYTES
        share = (constants.HALF_VAE_SHARE if is_half else 1.0) * sizes.vae_width / 96
        pixels = shape.width * shape.height
        if settings.sample.in_tiles and not encodes:
            pixels = min(pixels, constants.TILE_PIXELS)
        parts = [
            *resident,
            (Part.VAE, sizes.vae_weights * (BFLOAT16_BYTES if is_half else FLOAT32_BYTES)),
            (Part.WORK, round(pixels * work * share)),
            (Part.RESERVE, constants.RESERVE_BYTES + round(pixels * reserve * share)),
        ]
        return self._with_cuda(phase, parts, shape)

    def _resident(self, settings: Settings, sizes: BaseSizes) -> Iterable[tuple[Part, int]]:
        """What stays on the GPU from the first step to the last."""
        expert, model = sizes.expert, settings.model
        loaded, blocks = experts_loaded(settings), sizes.expert.layers
        resident = model.resident_of(blocks)
        ring = min(RING_SLOTS, blocks - resident)
        # With Low VRAM the experts share one set of slots.
        sets = 1 if model.low_vram else loaded
        block = self.block_bytes(settings, sizes)
        yield Part.BLOCKS, sets * resident * block
        yield Part.RING, sets * ring * block
        yield Part.EMBEDDINGS, loaded * expert.rest_bytes(self.dtype_bytes)
        weights = self._lora_weights(settings, sizes)
        copies = 2 if settings.training.ema_decay else 1
        yield Part.LORA, loaded * weights * FLOAT32_BYTES * copies
        state = OPTIMIZER_BYTES[settings.training.optimizer]
        yield Part.OPTIMIZER, round(experts_trained(settings) * weights * state)

    def block_bytes(self, settings: Settings, sizes: BaseSizes) -> int:
        """One block of an expert as it is stored."""
        chosen = settings.quantization
        return sizes.expert.block_bytes(chosen.transformer, chosen.recovery_rank, self.dtype_bytes)

    def _lora_weights(self, settings: Settings, sizes: BaseSizes) -> int:
        """Of one expert; a LoKr has about the square root of each layer's numbers, DoRA a length for each row."""
        target, expert = settings.target, sizes.expert
        plain = expert.lora_weights(target.rank)
        if target.type == "lokr":
            return plain // 4
        extra = sum(rows for rows, _ in expert.linear_shapes) * expert.layers if target.type == "dora" else 0
        return plain + extra

    def _row_bytes(self, settings: Settings, sizes: BaseSizes, shape: ClipShape) -> int:
        """One activation of all tokens of a batch."""
        return settings.training.batch_size * shape.tokens * sizes.expert.width * self.dtype_bytes

    def _kept(self, settings: Settings, sizes: BaseSizes, shape: ClipShape) -> Kept:
        """What blocks keep from their forward pass for their backward pass; the last ones may keep everything."""
        blocks = sizes.expert.layers
        whole = (
            min(settings.training.kept_blocks, blocks) if settings.training.gradient_checkpointing else blocks
        )
        usual = self._kept_bytes(settings, sizes, shape, settings.training.kept_activations)
        every = self._kept_bytes(settings, sizes, shape, "everything") if whole else 0
        first = usual if whole < blocks else every
        return Kept(first, every if whole else usual, (blocks - whole) * usual + whole * every)

    def _kept_bytes(self, settings: Settings, sizes: BaseSizes, shape: ClipShape, keep: str) -> int:
        """What one block keeps; of one that autograd computes, its input alone."""
        batch, chunks = settings.training.batch_size, settings.model.feed_forward_chunks
        kept = "nothing" if self._by_autograd(settings) else keep
        return sizes.expert.kept_bytes(kept, shape.tokens, batch, self.dtype_bytes, chunks=chunks)

    @staticmethod
    def _keep(settings: Settings) -> str:
        """What the block keeps where the backward pass begins, the last."""
        training = settings.training
        is_whole = not training.gradient_checkpointing or training.kept_blocks > 0
        return "everything" if is_whole else training.kept_activations

    @staticmethod
    def _by_autograd(settings: Settings) -> bool:
        """Whether blocks are computed by autograd: all but a plain LoRA."""
        return settings.target.type != "lora" or settings.target.dropout > 0

    @staticmethod
    def _preserves(settings: Settings) -> bool:
        training = settings.training
        return training.diff_output_preservation or training.blank_prompt_preservation

    def _dense_weight(self, settings: Settings, sizes: BaseSizes) -> int:
        """The largest weight as it computes, where it is stored in another form: made for each product."""
        if settings.quantization.transformer in ("none", "float8_compute"):
            return 0
        return sizes.expert.width * sizes.expert.feed_forward * self.dtype_bytes

    def _with_cuda(self, phase: Phase, parts: list[tuple[Part, int]], shape: ClipShape | None) -> PhaseMemory:
        cuda = constants.CONTEXT_BYTES + (constants.WINDOWS_BYTES if self.is_windows else 0)
        whole = (*parts, (Part.CUDA, cuda))
        return PhaseMemory(phase, tuple((part, size) for part, size in whole if size), shape)

    # ---- RAM ----------------------------------------------------------------------------------

    def _ram(self, settings: Settings, sizes: BaseSizes, work: Workload) -> PhaseMemory:
        """The phase with the most RAM: captions on the CPU, or training."""
        process = (Part.PROCESS, constants.PROCESS_RAM_BYTES + constants.WINDOW_RAM_BYTES)
        training = PhaseMemory(
            Phase.TRAINING,
            tuple(
                one
                for one in (
                    (Part.MASTERS, self.master_bytes(settings, sizes)),
                    (Part.KEPT, self._kept_in_ram(settings, sizes, work)),
                    process,
                )
                if one[1]
            ),
            work.largest,
        )
        if settings.quantization.text_encoder != "cpu":
            return training
        encoder = sizes.text_encoder_bytes("none", self.dtype_bytes)
        text = PhaseMemory(Phase.TEXT, ((Part.TEXT_ENCODER, encoder), process))
        return max(training, text, key=lambda one: one.total)

    def master_bytes(self, settings: Settings, sizes: BaseSizes) -> int:
        """Pinned masters of the experts' blocks: where some are streamed, or an idle expert makes room."""
        blocks = sizes.expert.layers
        whole = experts_loaded(settings) * blocks * self.block_bytes(settings, sizes)
        streamed = whole if self._has_masters(settings, sizes) else 0
        if settings.quantization.transformer != "nf4_recovered":
            return streamed
        # The clips are measured with one expert in 8 bits, streamed, before anything else is loaded.
        return max(streamed, blocks * sizes.expert.block_bytes("float8", 0, self.dtype_bytes))

    @staticmethod
    def _has_masters(settings: Settings, sizes: BaseSizes) -> bool:
        """Whether blocks lie in RAM: where some are streamed, or an idle expert makes room."""
        model, blocks = settings.model, sizes.expert.layers
        return model.resident_of(blocks) < blocks or (model.low_vram and experts_loaded(settings) > 1)

    def _kept_in_ram(self, settings: Settings, sizes: BaseSizes, work: Workload) -> int:
        if not settings.model.checkpoint_offloading:
            return 0
        return self._kept(settings, sizes, work.largest).total


def experts_trained(settings: Settings) -> int:
    """How many experts this run trains."""
    return 2 if settings.multistage.stages == "both" else 1


def experts_loaded(settings: Settings) -> int:
    """How many experts this run needs: previews need both."""
    return 2 if settings.sample.every else experts_trained(settings)


def disk_use(settings: Settings, work: Workload) -> DiskUse:
    """Bytes that a run leaves on the disk.

    Latents are float32, 16 channels for the clip and 16 for its condition; captions bfloat16, 200 rows of
    the text encoder as a guess; checkpoints hold the LoRAs, and float32 weights with the optimizer's state
    to go on from.
    """
    sizes = base_sizes(settings.model.base)
    expert = sizes.expert
    latents = sum(
        use.share * use.shape.latent_frames * use.shape.width * use.shape.height / 64 for use in work.buckets
    )
    cache = round(work.windows * latents * 32 * FLOAT32_BYTES) + work.captions * 200 * expert.text_width * 2
    chosen = settings.quantization
    quantized = 0
    if chosen.transformer != "none":
        block = expert.block_bytes(chosen.transformer, chosen.recovery_rank, 2)
        quantized = experts_loaded(settings) * expert.layers * block
    weights = experts_trained(settings) * expert.lora_weights(settings.target.rank)
    copies = 2 if settings.training.ema_decay else 1
    state = FLOAT32_BYTES * copies + OPTIMIZER_BYTES[settings.training.optimizer]
    one = weights * (SAVED_BYTES[settings.save.dtype] + state)
    return DiskUse(cache, quantized, round((settings.save.keep + 1) * one))


def corrected(
    forecast: MemoryForecast, factor: Callable[[PhaseMemory], float], error: float
) -> MemoryForecast:
    """The forecast with what torch reserves scaled to what this machine has measured.

    Args:
        forecast: Computed.
        factor: Measured bytes over computed ones, of each phase.
        error: Share by which it may still be off.
    """
    phases = tuple(_scaled(one, factor(one)) for one in forecast.phases)
    return replace(forecast, phases=phases, error=error, is_measured=True)


def _scaled(memory: PhaseMemory, factor: float) -> PhaseMemory:
    """What differs from the computed sum is told as work, or taken from activations: weights have their size."""
    change = round(memory.reserved * (factor - 1.0))
    sizes = dict(memory.parts)
    for part in (Part.WORK, Part.RESERVE, Part.KEPT):
        if part in sizes and change:
            before = sizes[part]
            sizes[part] = max(0, before + change)
            change -= sizes[part] - before
    return replace(memory, parts=tuple((part, size) for part, size in sizes.items() if size))
