"""Seconds of one step on a card: what its blocks compute, what is sent over PCIe meanwhile, the optimizer.

A phase (forward, backward) takes as long as the longer of its computation and its copies. Blocks are sent two
ahead of use and no further, so copies of blocks hide behind streamed blocks alone, while checkpoints leave and
return beside all of them.
"""

from dataclasses import dataclass
from functools import lru_cache

from wan_studio.domain.block_cost import (
    BLOCKS,
    BlockWork,
    Keep,
    Work,
    block_work,
)
from wan_studio.domain.card_rates import Rates
from wan_studio.domain.model_sizes import A14B, BFLOAT16_BYTES, FLOAT32_BYTES
from wan_studio.domain.step_plan import StepPlan, lora_parameters
from wan_studio.domain.workload import ClipShape

RING = 2
"""Blocks on the GPU through which the others are streamed; two stay in it at the turn of a pass."""

KERNELS_FORWARD, KERNELS_BACKWARD, KERNELS_CHUNK = 90, 210, 65
"""Kernels of a block, about; those of a further part of the feed-forward, both passes together."""
_OPTIMIZER_BYTES = {"adamw8bit": 28.0, "adamw": 40.0, "adafactor": 32.0, "prodigy": 60.0, "lion": 32.0}
"""Read and written for each trained number: gradient twice to clip it, weight, states."""
_AVERAGE_BYTES = 12.0


@dataclass(frozen=True, slots=True)
class Phase:
    """One pass through all blocks, in seconds.

    Attributes:
        compute: What the card computes.
        transfer: Copies in the direction that has more of them.
        seconds: What the pass takes: never less than either.
    """

    compute: float
    transfer: float
    seconds: float


@dataclass(frozen=True, slots=True)
class StepTime:
    """An optimizer step, in seconds.

    Attributes:
        seconds: Of the whole step, without switches of the expert.
        compute: What the card computes in it.
        transfer: Copies over PCIe, of which most or all are hidden.
        optimizer: The update, which is part of `seconds`.
        switch: What a step takes longer in which the other expert's turn begins.
    """

    seconds: float
    compute: float
    transfer: float
    optimizer: float
    switch: float

    @property
    def waiting(self) -> float:
        """Seconds in which the card waits for copies."""
        return max(0.0, self.seconds - self.compute - self.optimizer)


def seconds_of(work: Work, rates: Rates, plan: StepPlan) -> float:
    """What a card takes for an amount of work."""
    frozen = rates.eighth if plan.mode == "float8_compute" else rates.half
    return (
        work.frozen / frozen
        + work.low_rank / rates.half
        + work.attention / rates.attention
        + work.attention_gradient / rates.attention_gradient
        # In fp32 every tensor is twice as large.
        + work.traffic * (1.0 if rates.has_bfloat16 else 2.0) / rates.memory
    )


@lru_cache(maxsize=4096)
def step_time(plan: StepPlan, shape: ClipShape, batch: int, rates: Rates) -> StepTime:
    """Compute it.

    Args:
        plan: How the step is computed; its mode must run on the card.
        shape: Of the clips.
        batch: Clips of a micro-batch.
        rates: Of the card.
    """
    forward, backward = _phases(plan, shape, batch, rates)
    passes = [forward, backward] * (1 + plan.preserved)
    if plan.preserved:
        passes += [forward_pass(plan, shape, batch, rates)] * plan.preserved
    optimizer = _optimizer_seconds(plan, rates)
    return StepTime(
        seconds=plan.accumulation * sum(one.seconds for one in passes) + optimizer,
        compute=plan.accumulation * sum(one.compute for one in passes),
        transfer=plan.accumulation * sum(one.transfer for one in passes),
        optimizer=optimizer,
        switch=_switch_seconds(plan, forward.compute, rates),
    )


@lru_cache(maxsize=4096)
def forward_pass(plan: StepPlan, shape: ClipShape, batch: int, rates: Rates) -> Phase:
    """A forward pass without a backward pass: of a preview, of validation, of the base for preservation."""
    compute = _pass_seconds(plan, _work_of(plan, shape, batch).forward, KERNELS_FORWARD, rates)
    return _phase(plan, compute, blocks=max(0, plan.streamed), kept_bytes=0.0, rates=rates)


def block_bytes(plan: StepPlan, *, has_bfloat16: bool = True) -> int:
    """Of one block's weights as they are stored and sent."""
    dtype_bytes = BFLOAT16_BYTES if has_bfloat16 else FLOAT32_BYTES
    return A14B.expert.block_bytes(plan.mode, plan.recovery_rank, dtype_bytes)


def kept_bytes(plan: StepPlan, keep: Keep, shape: ClipShape, batch: int) -> int:
    """What one block keeps for its backward pass, in bf16; of one that autograd computes, its input alone."""
    kept = keep if plan.by_hand else "nothing"
    return A14B.expert.kept_bytes(kept, shape.tokens, batch, BFLOAT16_BYTES, chunks=plan.chunks)


def _work_of(plan: StepPlan, shape: ClipShape, batch: int) -> BlockWork:
    """Of all blocks together."""
    usual = block_work(plan.block(plan.keep), shape.tokens, batch)
    whole = plan.kept_blocks if plan.by_hand else 0
    if not whole:
        return BlockWork(usual.forward.times(BLOCKS), usual.backward.times(BLOCKS))
    kept = block_work(plan.block("everything"), shape.tokens, batch)
    return BlockWork(
        usual.forward.times(BLOCKS - whole) + kept.forward.times(whole),
        usual.backward.times(BLOCKS - whole) + kept.backward.times(whole),
    )


def _phases(plan: StepPlan, shape: ClipShape, batch: int, rates: Rates) -> tuple[Phase, Phase]:
    work = _work_of(plan, shape, batch)
    forward = _pass_seconds(plan, work.forward, KERNELS_FORWARD, rates)
    backward = _pass_seconds(plan, work.backward, KERNELS_BACKWARD, rates)
    # What the first and the last two blocks of a pass need is there from the pass before.
    blocks = max(0, plan.streamed - RING)
    kept = 0.0
    if plan.checkpoint_offloading:
        whole = plan.kept_blocks if plan.by_hand else 0
        kept = (BLOCKS - whole) * kept_bytes(plan, plan.keep, shape, batch)
        kept += whole * kept_bytes(plan, "everything", shape, batch)
        kept *= 1.0 if rates.has_bfloat16 else 2.0
    return (
        _phase(plan, forward, blocks, kept, rates, is_outward=True),
        _phase(plan, backward, blocks, kept, rates),
    )


def _pass_seconds(plan: StepPlan, work: Work, kernels: int, rates: Rates) -> float:
    parts = (plan.chunks - 1 if plan.by_hand else 0) * KERNELS_CHUNK * kernels
    count = BLOCKS * (kernels + parts / (KERNELS_FORWARD + KERNELS_BACKWARD))
    return max(seconds_of(work, rates, plan) + count * rates.kernel_gap, count * rates.kernel_launch)


def _phase(
    plan: StepPlan, compute: float, blocks: int, kept_bytes: float, rates: Rates, *, is_outward: bool = False
) -> Phase:
    """A pass whose copies run beside it.

    Args:
        plan: How many blocks are streamed.
        compute: Seconds of all blocks.
        blocks: Blocks that are sent.
        kept_bytes: Of all blocks' checkpoints.
        rates: Of the card.
        is_outward: Whether checkpoints go to RAM, beside blocks that come from there; else both come.
    """
    share = plan.streamed / BLOCKS
    sent = blocks * block_bytes(plan, has_bfloat16=rates.has_bfloat16) / rates.link
    kept = kept_bytes / rates.link
    beside = max(sent, kept * share) if is_outward else sent + kept * share
    streamed = max(compute * share, beside)
    resident = max(compute * (1 - share), kept * (1 - share))
    return Phase(compute, beside + kept * (1 - share), streamed + resident)


def _switch_seconds(plan: StepPlan, forward: float, rates: Rates) -> float:
    """The other expert's first two blocks are waited for, its resident ones come while it computes."""
    if not plan.low_vram:
        return 0.0
    one = block_bytes(plan, has_bfloat16=rates.has_bfloat16) / rates.link
    share = plan.resident / BLOCKS
    late = max(0.0, plan.resident * one - forward * share)
    return min(RING, BLOCKS) * one + late


def _optimizer_seconds(plan: StepPlan, rates: Rates) -> float:
    size = _OPTIMIZER_BYTES.get(plan.optimizer, 40.0) + (_AVERAGE_BYTES if plan.has_average else 0.0)
    return lora_parameters(plan) * size / rates.memory
