"""What a run takes beside its steps: previews, validation, caching, loading, saving, compiling; in seconds."""

from dataclasses import dataclass

from trainer.protocol.job import Expert
from wan_studio.domain.block_cost import BLOCK_PARAMETERS, BLOCKS
from wan_studio.domain.card_rates import Rates
from wan_studio.domain.project import Settings
from wan_studio.domain.step_plan import StepPlan, lora_parameters
from wan_studio.domain.step_time import block_bytes, forward_pass
from wan_studio.domain.workload import ClipShape, Workload

BOUNDARY = 0.9
"""Noise level between the experts of Wan 2.2 I2V A14B, where a job sets none."""

DISK_BYTES_PER_SECOND = 1.5e9
"""An NVMe disk with files of several GB; an assumption, as long as the machine's own was not measured."""

_H200_HALF, _H200_MEMORY = 683e12, 2.8e12
_ENCODE_H200 = 2 * 0.38 / (512 * 512 * 41)
"""Seconds that the VAE takes to encode one pixel of one frame on an H200: 0.38 s were measured for 41 frames
of 512 x 512 in bf16. The trainer's VAE computes in 32 bits on tensor cores, at half their rate."""
_DECODE = 1.8
"""Times as long to decode; its decoder is the larger half. Not measured."""
_READ_SECONDS = 0.4
"""To decode and resize one window of a clip on the CPU."""
_LOAD_VAE_SECONDS = 2.0

_EXPERT_PARAMETERS = 14.3e9
_TEXT_ENCODER_PARAMETERS = 5.7e9
_TEXT_TOKENS = 512
_CPU_FLOPS = 0.3e12
_START_SECONDS = 15.0
"""Until PyTorch and diffusers are imported and the GPU is ready."""
_RECOVERY_SECONDS = 400.0
"""Of one expert's low-rank branches at the first start, with the passes that gather statistics. Not measured."""

COMPILE_SECONDS = 12.0
"""What the first step of each size takes longer: 5 to 30 s were measured."""

_STATE_BYTES = {"adamw8bit": 2.1, "adamw": 8.0, "adafactor": 1.0, "prodigy": 16.0, "lion": 4.0}
_FILE_BYTES = {"bf16": 2.0, "fp16": 2.0, "fp32": 4.0}
_FEWEST_TO_VALIDATE = 8


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What all of these depend on.

    Attributes:
        settings: Of the run.
        workload: What it computes.
        rates: Of the card.
        plans: How each expert computes.
        steps: Optimizer steps of each.
        factor: What measured steps were longer than computed ones; the same is taken of forward passes.
    """

    settings: Settings
    workload: Workload
    rates: Rates
    plans: dict[Expert, StepPlan]
    steps: dict[Expert, int]
    factor: float = 1.0

    @property
    def total_steps(self) -> int:
        """Of both experts."""
        return sum(self.steps.values())

    @property
    def trained(self) -> tuple[Expert, ...]:
        """Experts that train."""
        return tuple(expert for expert, steps in self.steps.items() if steps)


def times_due(every: int, steps: int) -> int:
    """How often something comes that is done every so many steps and at the end; never for 0."""
    return 0 if every == 0 else -(-steps // every)


def encode_seconds(shape: ClipShape, rates: Rates) -> float:
    """Of the VAE, for one clip. Its convolutions are bound partly by products, partly by memory."""
    slower = (_H200_HALF / rates.half * _H200_MEMORY / rates.memory) ** 0.5
    return _ENCODE_H200 * shape.width * shape.height * shape.frames * slower


def decode_seconds(shape: ClipShape, rates: Rates) -> float:
    """Of the VAE, for one preview."""
    return _DECODE * encode_seconds(shape, rates)


def preview_round_seconds(run: RunFacts) -> float:
    """One round of previews: every row is denoised by both experts in turn, decoded and written."""
    sample = run.settings.sample
    seconds = 0.0
    for number, shape in enumerate(run.workload.previews):
        row = sample.rows[number] if number < len(sample.rows) else None
        steps = (row.steps if row else None) or sample.steps
        high = high_noise_steps(steps, sample.shift, run.settings.multistage.boundary or BOUNDARY)
        guidance = {Expert.HIGH: sample.guidance_high, Expert.LOW: sample.guidance_low}
        if row is not None:
            own = {Expert.HIGH: row.guidance_high, Expert.LOW: row.guidance_low}
            guidance = {expert: guidance[expert] if value is None else value for expert, value in own.items()}
        for expert, count in ((Expert.HIGH, high), (Expert.LOW, steps - high)):
            passes = count * (2 if guidance[expert] > 1 else 1)
            seconds += passes * run.factor * forward_pass(run.plans[expert], shape, 1, run.rates).seconds
        seconds += decode_seconds(shape, run.rates) + _LOAD_VAE_SECONDS
    return seconds


def preview_rounds(run: RunFacts) -> int:
    """How often previews are rendered."""
    sample = run.settings.sample
    if not sample.every:
        return 0
    return times_due(sample.every, run.total_steps) + int(sample.at_start)


def high_noise_steps(steps: int, shift: float, boundary: float) -> int:
    """How many of a sampler's steps the high-noise expert takes: those whose noise level is not below the boundary."""
    count = 0
    for number in range(steps):
        # Levels from 1 down to 0.001, evenly spread before they are shifted.
        even = 1 - (1 - 0.001) * number / steps
        count += shift * even / (1 + (shift - 1) * even) >= boundary
    return count


def validation_seconds(run: RunFacts) -> float:
    """All measurements on held-out clips: a forward pass for each clip, expert and noise level."""
    share, every = run.settings.datasets.validation_share, run.settings.advanced.validation_every
    clips = run.workload.captions
    held_out = int(share * clips) if clips >= _FEWEST_TO_VALIDATE else 0
    if not held_out:
        return 0.0
    levels = run.settings.advanced.validation_timesteps
    one = sum(
        use.share * forward_pass(run.plans[expert], use.shape, 1, run.rates).seconds
        for expert in run.trained
        for use in run.workload.buckets
    )
    return times_due(every, run.total_steps) * held_out * levels * one * run.factor


def caching_seconds(run: RunFacts) -> float:
    """Every window and every caption once, before the first step of the first start."""
    data, work = run.settings.datasets, run.workload
    is_altered = data.condition_share > 0 and (data.condition_blur > 0 or data.condition_quality < 100)
    # The clip, its first frame before grey, and that once more where it is altered.
    encodings = 3 if is_altered else 2
    window = sum(use.share * encode_seconds(use.shape, run.rates) for use in work.buckets)
    latents = work.windows * (encodings * window + _READ_SECONDS)
    latents += sum(encode_seconds(shape, run.rates) for shape in work.previews)
    prompts = work.captions + len(work.previews) + 1
    flops = 2.0 * _TEXT_ENCODER_PARAMETERS * _TEXT_TOKENS
    rate = _CPU_FLOPS if run.settings.quantization.text_encoder == "cpu" else run.rates.half
    text = 2.0 * _TEXT_ENCODER_PARAMETERS / DISK_BYTES_PER_SECOND + prompts * flops / rate
    return latents + text + _LOAD_VAE_SECONDS


def loading_seconds(run: RunFacts, *, is_first: bool) -> float:
    """Until the experts are ready.

    Args:
        run: Its experts are those that train, and both if it renders previews.
        is_first: Whether they still have to be read in 16 bits and quantized; later starts read what
            the first one left on disk.
    """
    experts = 2 if run.settings.sample.every else len(run.trained)
    plan = next(iter(run.plans.values()))
    whole = 2.0 * _EXPERT_PARAMETERS
    if plan.mode == "none":
        size = whole
    else:
        packed = BLOCKS * block_bytes(plan)
        rest = 2.0 * (_EXPERT_PARAMETERS - BLOCKS * BLOCK_PARAMETERS)
        size = whole + packed if is_first else packed + rest
    recovery = _RECOVERY_SECONDS if is_first and plan.mode == "nf4_recovered" else 0.0
    return _START_SECONDS + experts * (size / DISK_BYTES_PER_SECOND + recovery)


def saving_seconds(run: RunFacts) -> float:
    """All checkpoints: the LoRA pair, its full numbers and the optimizer's, written and read over for digests."""
    training, save = run.settings.training, run.settings.save
    each = _FILE_BYTES[save.dtype] + 4.0 + _STATE_BYTES.get(training.optimizer, 8.0)
    each += 4.0 if training.ema_decay > 0 else 0.0
    size = each * sum(lora_parameters(run.plans[expert]) for expert in run.trained)
    return times_due(save.every, run.total_steps) * 2 * size / DISK_BYTES_PER_SECOND


def compiling_seconds(run: RunFacts) -> float:
    """The first step of every size; where some blocks keep everything, their passes are others."""
    if not run.settings.model.compile:
        return 0.0
    plan = next(iter(run.plans.values()))
    shapes = {use.shape for use in run.workload.buckets}
    previews = set(run.workload.previews) - shapes
    return COMPILE_SECONDS * (len(shapes) * (1.5 if plan.kept_blocks else 1.0) + 0.4 * len(previews))
