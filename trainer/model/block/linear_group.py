"""Linears with one input as one product: their frozen weights, their LoRAs, and the gradients of both."""

# N tokens, I input width, O output width of all linears together, R rank of all branches together

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn

from trainer.model.block.passes import InRows, joined_down, joined_up, transposed
from trainer.model.frozen.weights import Float8ComputeWeight, FrozenWeight, Rows
from trainer.model.lora_layers import ADAPTER

OnInput = Callable[[str, Tensor], None]
"""Told the name of a group and its input (N, I)."""


class Branch(NamedTuple):
    """A trained LoRA of one linear in a group.

    Attributes:
        down: Parameter (R, I).
        up: Parameter (O, R).
        scale: What its product is multiplied with.
        outputs: The linear's part of the group's outputs.
        columns: The LoRA's part of the group's ranks.
    """

    down: nn.Parameter
    up: nn.Parameter
    scale: float
    outputs: slice
    columns: slice


class LowRank(NamedTuple):
    """All low-rank branches of a group as one pair of matrices in the number type that computes.

    Attributes:
        down_RI: The LoRAs' down halves, and last that of the frozen weight's own branch.
        up_OR: Their up halves, scaled, each in its own rows and columns.
        branches: The trained ones, in the order of their columns.
    """

    down_RI: Tensor
    up_OR: Tensor
    branches: tuple[Branch, ...]


class Projected(NamedTuple):
    """What a group makes of its input.

    Attributes:
        out_NO: Its output.
        inner_NR: The input times the down halves, which the gradient needs; None without low rank.
    """

    out_NO: Tensor
    inner_NR: Tensor | None


@dataclass(slots=True)
class LinearGroup:
    """Linears of a block that share their input.

    Attributes:
        name: Of the group in its block.
        weight: Their weights, rows together.
        bias_O: Their biases together, in the number type that computes.
        paths: Their module paths in the block, in the order of the rows.
    """

    name: str
    weight: FrozenWeight
    bias_O: Tensor | None
    paths: tuple[str, ...]

    @property
    def input_rows(self) -> InRows | None:
        """How the pass before the group gives its output in rows; None where the weight takes none."""
        return InRows() if self.weight.takes_rows else None

    @property
    def gradient_rows(self) -> InRows | None:
        """The same for the gradient of the group's output."""
        return InRows(self.weight.stored["scale"]) if self.weight.takes_rows else None

    def branches(self, block: nn.Module) -> tuple[Branch, ...]:
        """The LoRAs on the group's linears as they are now; disabled ones are left out."""
        found: list[Branch] = []
        start = column = 0
        for path in self.paths:
            layer: Any = block.get_submodule(path)
            outputs = slice(start, start := start + layer.out_features)
            if isinstance(layer, LoraLayer) and ADAPTER in layer.lora_A and not layer.disable_adapters:
                down = layer.lora_A[ADAPTER].get_parameter("weight")
                up = layer.lora_B[ADAPTER].get_parameter("weight")
                columns = slice(column, column := column + down.shape[0])
                found.append(Branch(down, up, layer.scaling[ADAPTER], outputs, columns))
        return tuple(found)

    def low_rank(self, branches: tuple[Branch, ...], dtype: torch.dtype) -> LowRank | None:
        """All low-rank branches in one pair of matrices; None when there are none."""
        side = self.weight.side_branch
        downs = [branch.down.detach() for branch in branches]
        ups = [branch.up.detach() for branch in branches]
        if branches and side is None and len(branches) == len(self.paths):
            scales = tuple(branch.scale for branch in branches)
            down_RI = joined_down(downs[0], tuple(downs[1:]), dtype)
            return LowRank(down_RI, joined_up(ups[0], tuple(ups[1:]), scales, dtype), branches)
        if side is not None:
            downs.append(side[0])
        if not downs:
            return None
        down_RI = torch.cat([down.to(dtype) for down in downs])
        up_OR = down_RI.new_zeros(self.weight.out_features, down_RI.shape[0])
        for branch, up in zip(branches, ups, strict=True):
            up_OR[branch.outputs, branch.columns] = (up * branch.scale).to(dtype)
        if side is not None:
            up_OR[:, -side[1].shape[1] :] = side[1]
        return LowRank(down_RI, up_OR, branches)

    def project(self, x_NI: Tensor, rows: Rows | None, low: LowRank | None) -> Projected:
        """The group's output for an input, given in rows too where the weight takes them."""
        if rows is not None and isinstance(self.weight, Float8ComputeWeight):
            out_NO = self.weight.forward_rows(rows, self.bias_O).to(x_NI.dtype)
        else:
            out_NO = self.weight.forward(x_NI, self.bias_O)
        if low is None:
            return Projected(out_NO, None)
        inner_NR = x_NI @ low.down_RI.t()
        return Projected(out_NO.addmm_(inner_NR, low.up_OR.t()), inner_NR)

    def inner(self, x_NI: Tensor, low: LowRank | None) -> Tensor | None:
        """`Projected.inner_NR` alone, where the output is known already."""
        return None if low is None else x_NI @ low.down_RI.t()

    def input_gradient(
        self, grad_NO: Tensor, rows: Rows | None, low: LowRank | None, grad_inner_NR: Tensor | None
    ) -> Tensor:
        """The gradient of the group's input; `rows` holds the output's, multiplied with the weight's scale."""
        if rows is not None and isinstance(self.weight, Float8ComputeWeight):
            grad_NI = self.weight.input_gradient_rows(rows, transposed).to(grad_NO.dtype)
        else:
            grad_NI = self.weight.input_gradient(grad_NO)
        if low is None or grad_inner_NR is None:
            return grad_NI
        return grad_NI.addmm_(grad_inner_NR, low.down_RI)

    def lora_gradients(
        self, grad_NO: Tensor, x_NI: Tensor, inner_NR: Tensor | None, low: LowRank | None
    ) -> tuple[Tensor | None, list[Tensor]]:
        """The gradient of the inner product (N, R), and those of each branch's down and up halves in turn."""
        if low is None or inner_NR is None:
            return None, []
        grad_inner_NR = grad_NO @ low.up_OR
        gradients: list[Tensor] = []
        if low.branches:
            trained = low.branches[-1].columns.stop
            down_RI = wide_product(grad_inner_NR[:, :trained].t(), x_NI)
            for branch in low.branches:
                part_NO = grad_NO[:, branch.outputs]
                up_OR = wide_product(part_NO.t(), inner_NR[:, branch.columns]) * branch.scale
                gradients += [down_RI[branch.columns], up_OR]
        return grad_inner_NR, gradients


def wide_product(left: Tensor, right: Tensor) -> Tensor:
    """A matrix product in float32, whatever the factors are."""
    if left.is_cuda and left.dtype != torch.float32:
        return torch.mm(left, right, out_dtype=torch.float32)
    return (left @ right).float()
