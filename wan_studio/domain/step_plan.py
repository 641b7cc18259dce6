"""What of a run's settings decides how long a step takes and how much memory: the key of a measurement."""

from functools import lru_cache
from typing import Annotated, Literal, Protocol

from msgspec import Meta, Struct

from trainer.protocol.job import (
    Expert,
    ModelSection,
    MultistageSection,
    QuantizationSection,
    TargetSection,
    TrainingSection,
)
from wan_studio.domain.block_cost import BLOCKS, GROUPS, BlockPlan, Keep, Mode

Count = Annotated[int, Meta(ge=0)]


class PlannedSections(Protocol):
    """What decides about steps, of a project's settings and of a job alike."""

    @property
    def model(self) -> ModelSection: ...
    @property
    def quantization(self) -> QuantizationSection: ...
    @property
    def multistage(self) -> MultistageSection: ...
    @property
    def target(self) -> TargetSection: ...
    @property
    def training(self) -> TrainingSection: ...


class StepPlan(Struct, frozen=True, kw_only=True):
    """How one expert's steps are computed; equal plans take equally long on one machine.

    Attributes:
        mode: As `quantization.transformer`.
        keep: What blocks keep; everything without gradient checkpointing.
        kept_blocks: Blocks that keep everything.
        resident: Blocks that stay on the GPU.
        low_vram: Whether the other expert's blocks leave the GPU.
        checkpoint_offloading: Whether what blocks keep waits in RAM.
        chunks: Parts of the feed-forward.
        compiled: Whether the passes are.
        kind: Of the LoRA.
        has_dropout: Whether LoRA inputs are dropped; then blocks are not computed by hand.
        rank: Of the LoRA.
        only: As `target.only_if_contains`.
        ignored: As `target.ignore_if_contains`.
        recovery_rank: Of the frozen side branch; 0 without.
        accumulation: Micro-batches of a step.
        preserved: Prompts whose output is held to the base's, in every micro-batch.
        optimizer: As `training.optimizer`.
        has_average: Whether a moving average of the LoRA is kept.
    """

    mode: Mode = "none"
    keep: Keep = "attention"
    kept_blocks: Count = 0
    resident: Count = BLOCKS
    low_vram: bool = True
    checkpoint_offloading: bool = False
    chunks: Annotated[int, Meta(ge=1)] = 1
    compiled: bool = True
    kind: Literal["lora", "dora", "lokr"] = "lora"
    has_dropout: bool = False
    rank: Annotated[int, Meta(ge=1)] = 16
    only: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    recovery_rank: Count = 0
    accumulation: Annotated[int, Meta(ge=1)] = 1
    preserved: Count = 0
    optimizer: str = "adamw8bit"
    has_average: bool = False

    @property
    def by_hand(self) -> bool:
        """Whether the trainer's own block computes; DoRA, LoKr and dropout take diffusers'."""
        return self.kind == "lora" and not self.has_dropout

    @property
    def streamed(self) -> int:
        """Blocks that are sent to the GPU in every pass."""
        return BLOCKS - self.resident

    def block(self, keep: Keep) -> BlockPlan:
        """How a block that keeps so much computes."""
        return BlockPlan(
            mode=self.mode,
            keep=keep,
            chunks=self.chunks if self.by_hand else 1,
            rank=self.rank,
            shares=lora_shares(self.only, self.ignored),
            side_rank=self.recovery_rank,
            by_hand=self.by_hand,
            compiled=self.compiled,
            # DoRA makes each weight plain, adds the LoRA to it and takes its norm, column by column.
            weight_passes=6.0 if self.kind == "dora" else 0.0,
        )


def step_plan(settings: PlannedSections, expert: Expert) -> StepPlan:
    """The plan of an expert's steps under these settings, of a project or a job."""
    model, training, target = settings.model, settings.training, settings.target
    quantization = settings.quantization
    return StepPlan(
        mode=quantization.transformer,
        keep=training.kept_activations if training.gradient_checkpointing else "everything",
        kept_blocks=min(training.kept_blocks, BLOCKS),
        resident=model.resident_of(BLOCKS),
        low_vram=model.low_vram,
        checkpoint_offloading=model.checkpoint_offloading,
        chunks=model.feed_forward_chunks,
        compiled=model.compile,
        kind=target.type,
        has_dropout=target.dropout > 0,
        rank=settings.multistage.override(expert, "rank") or target.rank,
        only=target.only_if_contains,
        ignored=target.ignore_if_contains,
        recovery_rank=quantization.recovery_rank if quantization.transformer == "nf4_recovered" else 0,
        accumulation=training.gradient_accumulation,
        preserved=int(training.diff_output_preservation) + int(training.blank_prompt_preservation),
        optimizer=training.optimizer,
        has_average=training.ema_decay > 0,
    )


@lru_cache(maxsize=64)
def lora_shares(only: tuple[str, ...], ignored: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
    """Share of each group's linears, over all blocks, that filters of layer names leave a LoRA."""

    def is_taken(name: str) -> bool:
        wanted = not only or any(part in name for part in only)
        return wanted and not any(part in name for part in ignored)

    shares: list[tuple[str, float]] = []
    for group_name, group in GROUPS.items():
        names = [f"blocks.{block}.{layer}" for block in range(BLOCKS) for layer in group.layers]
        shares.append((group_name, sum(map(is_taken, names)) / len(names)))
    return tuple(shares)


def lora_parameters(plan: StepPlan) -> float:
    """Trained numbers of one expert's LoRA; LoKr has fewer."""
    shares = dict(lora_shares(plan.only, plan.ignored))
    return BLOCKS * sum(
        plan.rank * shares[name] * (group.inputs * len(group.layers) + group.outputs)
        for name, group in GROUPS.items()
    )
