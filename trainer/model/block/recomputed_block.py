"""A transformer block by diffusers' own code, whose weights come and go, and whose inside is computed again.

The way for what `ComputedBlock` does not know: DoRA, LoKr, dropout, other attention. Slower, and it keeps
nothing but the block's input.
"""

# B batch, L tokens of an item, D width

from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trainer.model.block.computed_block import BlockPlan


class RecomputedBlock:
    """Computes a block by its own ``forward``, again in the backward pass."""

    def __init__(self, index: int, block: WanTransformerBlock, plan: BlockPlan) -> None:
        """Take over a block, with its LoRAs as they are then.

        Args:
            index: Its place in the expert.
            block: Its linears are `FrozenLinear` or LoRAs on them.
            plan: Its keeper and its way to have the weights ready are used.
        """
        self.index, self.plan = index, plan
        self._block = block
        self._forward = type(block).forward

    def __call__(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        rotary_emb: tuple[Tensor, Tensor],
    ) -> Tensor:
        """The block's output (B, L, D); the arguments are those of ``WanTransformerBlock.forward``."""
        others = (encoder_hidden_states, temb, rotary_emb)
        parameters = [one for one in self._block.parameters() if one.requires_grad]
        if torch.is_grad_enabled() and (hidden_states.requires_grad or parameters):
            return _Recomputed.apply(self, others, hidden_states, *parameters)  # pyright: ignore[reportReturnType]
        with self.plan.ready(self.index, 1, backward_follows=False):
            return self.compute(hidden_states, others)

    def compute(self, x_BLD: Tensor, others: tuple[Any, ...]) -> Tensor:
        """The block's own forward pass."""
        return self._forward(self._block, x_BLD, *others)


class _Recomputed(torch.autograd.Function):
    """The block as one node of autograd's graph."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, block: RecomputedBlock, others: tuple[Any, ...], x_BLD: Tensor, *parameters: nn.Parameter
    ) -> Tensor:
        """Compute, and keep the input and the state of the generators, which dropout draws from."""
        ctx.block, ctx.others, ctx.parameters = block, others, parameters
        ctx.generators = (
            torch.get_rng_state(),
            torch.cuda.get_rng_state(x_BLD.device) if x_BLD.is_cuda else None,
        )
        with block.plan.ready(block.index, 1, backward_follows=True):
            out_BLD = block.compute(x_BLD, others)
        ctx.handle = block.plan.keeper.keep(block.index, [x_BLD])
        return out_BLD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BLD: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Compute again, this time with autograd, and go back through it."""
        (x_BLD,) = ctx.block.plan.keeper.fetch(ctx.handle)
        x_BLD = x_BLD.detach().requires_grad_(ctx.needs_input_grad[2])
        wanted = [x_BLD, *ctx.parameters] if x_BLD.requires_grad else list(ctx.parameters)
        devices = [x_BLD.device] if x_BLD.is_cuda else []
        with (
            ctx.block.plan.ready(ctx.block.index, -1, backward_follows=True),
            torch.random.fork_rng(devices),
            torch.enable_grad(),
        ):
            torch.set_rng_state(ctx.generators[0])
            if x_BLD.is_cuda:
                torch.cuda.set_rng_state(ctx.generators[1], x_BLD.device)
            out_BLD = ctx.block.compute(x_BLD, ctx.others)
            found = torch.autograd.grad(out_BLD, wanted, grad_BLD)
        return (None, None, *(found if x_BLD.requires_grad else (None, *found)))
