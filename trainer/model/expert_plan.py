"""How the experts are stored, kept and computed: what the job says of memory and speed, in one place."""

from dataclasses import dataclass

from trainer.model.block.activations import Keep
from trainer.model.frozen.quantizer import Mode
from trainer.protocol.job import JobSpec


@dataclass(frozen=True, slots=True)
class ExpertPlan:
    """How experts are stored and computed; none of it changes what is learnt, but for rounding.

    Attributes:
        mode: How the frozen linears of the blocks are stored and multiplied.
        recovery_rank: Of the low-rank branch of "nf4_recovered".
        resident_blocks: Blocks of the expert at work that stay on the device; None keeps all there.
        low_vram: Only the expert at work has blocks on the device.
        checkpoint_offloading: What blocks keep for their backward pass waits in RAM.
        feed_forward_chunks: Parts into which the tokens are cut in the feed-forward.
        keep: What blocks keep for their backward pass.
        kept_blocks: Blocks, the last ones, that keep everything.
        compiled: Whether the passes between matrix products are compiled, on a GPU.
    """

    mode: Mode = "none"
    recovery_rank: int = 64
    resident_blocks: int | None = None
    low_vram: bool = False
    checkpoint_offloading: bool = False
    feed_forward_chunks: int = 1
    keep: Keep = "attention"
    kept_blocks: int = 0
    compiled: bool = False

    def resident_of(self, blocks: int) -> int:
        """How many of an expert's blocks stay on the device."""
        return blocks if self.resident_blocks is None else min(self.resident_blocks, blocks)

    def keep_of(self, index: int, blocks: int) -> Keep:
        """What a block keeps."""
        return "everything" if index >= blocks - self.kept_blocks else self.keep


def expert_plan(job: JobSpec, blocks: int) -> ExpertPlan:
    """The plan that a job asks for, for experts with so many blocks."""
    model, training = job.model, job.training
    return ExpertPlan(
        mode=job.quantization.transformer,
        recovery_rank=job.quantization.recovery_rank,
        resident_blocks=model.resident_of(blocks),
        low_vram=model.low_vram,
        checkpoint_offloading=model.checkpoint_offloading,
        feed_forward_chunks=model.feed_forward_chunks,
        keep=training.kept_activations if training.gradient_checkpointing else "everything",
        kept_blocks=training.kept_blocks,
        compiled=model.compile,
    )
