"""A transformer block of Wan whose forward and backward pass are computed step by step, not by autograd.

By hand because autograd cannot know what this block's backward pass does without:

- The frozen weights have no gradient, so nothing is kept for one. The modulation has none either, so the
  feed-forward's second product, whose output only the modulation would want, is never computed again.
- What was not kept is computed again one part of the block at a time, each right before its gradient, so
  that the memory of the parts does not add up.
- Attention's output can be kept without its inputs, and in RAM.

The numbers are those of diffusers' ``WanTransformerBlock``: layer norms, sums and modulation in float32.
"""

# B batch, L tokens of an item, S text tokens, D width

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, Protocol

import torch
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trainer.model.block.activations import KEPT, Keep, Keeper, KeptInPlace, put_together, taken_apart
from trainer.model.block.attention import Kernel
from trainer.model.block.linear_group import LinearGroup, OnInput
from trainer.model.block.passes import Affine, Turn
from trainer.model.block.walk import BlockInputs, BlockWalk


class Ready(Protocol):
    """Context in which a block's weights are where they compute."""

    def __call__(
        self, index: int, direction: Literal[1, -1], *, backward_follows: bool
    ) -> AbstractContextManager[None]:
        """Open it.

        Args:
            index: Of the block.
            direction: 1 forward through the blocks, -1 back.
            backward_follows: Whether the pass is part of one that ends with a backward pass.
        """
        ...


def always_ready(
    index: int, direction: Literal[1, -1], *, backward_follows: bool
) -> AbstractContextManager[None]:
    """For weights that lie where they compute."""
    del index, direction, backward_follows
    return nullcontext()


@dataclass(slots=True)
class BlockPlan:
    """How a block computes; may be changed between steps.

    Attributes:
        keep: For its backward pass.
        feed_forward_chunks: Parts into which the tokens are cut in the feed-forward.
        keeper: Where kept tensors wait.
        ready: Has the weights where they compute.
        on_input: Told the input of every group, to gather statistics.
        kernel: Of attention; None takes the fastest.
    """

    keep: Keep = "attention"
    feed_forward_chunks: int = 1
    keeper: Keeper = field(default_factory=KeptInPlace)
    ready: Ready = always_ready
    on_input: OnInput | None = None
    kernel: Kernel | None = None


class ComputedBlock:
    """Computes a block in place of its own ``forward``."""

    def __init__(
        self, index: int, block: WanTransformerBlock, groups: dict[str, LinearGroup], plan: BlockPlan
    ) -> None:
        """Take over a block.

        Args:
            index: Its place in the expert.
            block: Its norms, its modulation table and the LoRAs on its linears are used as they are then.
            groups: Its frozen weights, by the names of `GROUPS`.
            plan: How to compute.
        """
        self.index, self.block, self.groups, self.plan = index, block, groups, plan

    def __call__(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        rotary_emb: tuple[Tensor, Tensor],
    ) -> Tensor:
        """The block's output (B, L, D); the arguments are those of ``WanTransformerBlock.forward``."""
        inputs = self._inputs(encoder_hidden_states, temb, rotary_emb)
        parameters = [
            half
            for group in self.groups.values()
            for branch in group.branches(self.block)
            for half in (branch.down, branch.up)
        ]
        if torch.is_grad_enabled() and any(one.requires_grad for one in (hidden_states, *parameters)):
            return _Differentiable.apply(self, inputs, hidden_states, *parameters)  # pyright: ignore[reportReturnType]
        return self.forward(hidden_states, inputs, None)

    def _inputs(self, text_BSD: Tensor, temb_B6D: Tensor, rotary: tuple[Tensor, Tensor]) -> BlockInputs:
        table_16D: Any = self.block.scale_shift_table
        shift1, scale1, gate1, shift3, scale3, gate3 = (table_16D.float() + temb_B6D.float()).chunk(6, dim=1)
        cos_L1d, sin_L1d = (one[0].float() for one in rotary)
        return BlockInputs(
            text_BSD=text_BSD,
            affine1=Affine(1 + scale1, shift1, self.block.norm1.eps),
            gate1=gate1,
            affine3=Affine(1 + scale3, shift3, self.block.norm3.eps),
            gate3=gate3,
            turn=Turn(cos_L1d, sin_L1d * _signs(sin_L1d.shape[-1], sin_L1d.device)),
        )

    def _walk(self, x_BLD: Tensor, inputs: BlockInputs, values: Any) -> BlockWalk:
        walk = BlockWalk(self.block, self.groups, x_BLD, inputs, values)
        walk.kernel = self.plan.kernel
        return walk

    def forward(self, x_BLD: Tensor, inputs: BlockInputs, keep: Keep | None) -> Any:
        """The block's output; with `keep` also the values kept, by name."""
        kept = KEPT[keep] if keep is not None else frozenset()

        def done_with(*names: str) -> None:
            walk.forget(*(name for name in names if name not in kept))

        with self.plan.ready(self.index, 1, backward_follows=keep is not None):
            walk = self._walk(x_BLD, inputs, {})
            if self.plan.on_input is not None:
                told = self.plan.on_input
                walk.on_input = lambda name, x_NI: told(f"blocks.{self.index}.{name}", x_NI)
            walk.self_attention()
            done_with("self", "self_qkv")
            walk.sum1()
            done_with("self_attention")
            walk.cross_attention()
            done_with("cross", "cross_q", "cross_kv")
            walk.sum2()
            done_with("cross_attention", "sum1")
            out_BLD = walk.feed_forward(self.plan.feed_forward_chunks)
        done_with("sum2", "widened")
        return out_BLD if keep is None else (out_BLD, walk.values)

    def backward(
        self, grad_BLD: Tensor, x_BLD: Tensor, inputs: BlockInputs, values: Any, *, of_input: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        """The gradient of the input, if wanted, and those of all LoRA halves in the groups' order."""
        with self.plan.ready(self.index, -1, backward_follows=True):
            walk = self._walk(x_BLD, inputs, values)
            grad_BLD = walk.feed_forward_gradient(grad_BLD, self.plan.feed_forward_chunks)
            walk.forget("sum2", "widened")
            grad_BLD = walk.cross_gradient(grad_BLD)
            walk.forget("sum1")
            grad = walk.self_gradient(grad_BLD, of_input=of_input)
        return grad, [one for name in self.groups for one in walk.gradients.get(name, [])]


@lru_cache(maxsize=8)
def _signs(width: int, device: torch.device) -> Tensor:
    """-1, 1, -1, 1, ..."""
    return torch.arange(width, device=device).remainder(2).mul(2).sub(1).float()


class _Differentiable(torch.autograd.Function):
    """The block as one node of autograd's graph."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, computed: ComputedBlock, inputs: BlockInputs, x_BLD: Tensor, *parameters: nn.Parameter
    ) -> Tensor:
        """Compute and keep."""
        out_BLD, values = computed.forward(x_BLD, inputs, computed.plan.keep)
        tensors, shapes = taken_apart(values)
        ctx.handle = computed.plan.keeper.keep(computed.index, [x_BLD, *tensors])
        ctx.keeper = computed.plan.keeper
        ctx.computed, ctx.inputs, ctx.shapes, ctx.count = computed, inputs, shapes, len(parameters)
        return out_BLD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BLD: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Compute again what was not kept, and all gradients."""
        x_BLD, *tensors = ctx.keeper.fetch(ctx.handle)
        ctx.handle = None
        values = put_together(tensors, ctx.shapes)
        del tensors
        grad, gradients = ctx.computed.backward(
            grad_BLD.contiguous(), x_BLD, ctx.inputs, values, of_input=ctx.needs_input_grad[2]
        )
        if len(gradients) != ctx.count:
            raise RuntimeError("the LoRAs were changed between a forward pass and its backward pass")
        return (None, None, grad, *gradients)
