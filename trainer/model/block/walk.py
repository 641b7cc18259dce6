"""One walk through a block: its activations, each computed when it is first asked for, and its gradient.

The same functions serve the forward pass and what the backward pass computes again, so the two cannot
differ: what was kept is there already, everything else follows from the block's input.
"""

# B batch, L tokens of an item, D width, h heads, N = B L; I, O any width

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import Tensor

from trainer.model.block import passes
from trainer.model.block.activations import Values
from trainer.model.block.attention import Attended, Kernel, attend, attend_gradient
from trainer.model.block.linear_group import LinearGroup, LowRank, OnInput
from trainer.model.block.passes import Affine, Turn
from trainer.model.frozen.weights import Rows


class BlockInputs(NamedTuple):
    """What a block computes from, beside its tokens; none of it has a gradient.

    Attributes:
        text_BSD: Text tokens.
        affine1: What the first norm is followed by, of each item's timestep.
        gate1: What self-attention's output is multiplied with, float32 (B, 1, D).
        affine3: As `affine1`, of the third norm.
        gate3: As `gate1`, of the feed-forward's output.
        turn: Rotary positions of the tokens.
    """

    text_BSD: Tensor
    affine1: Affine
    gate1: Tensor
    affine3: Affine
    gate3: Tensor
    turn: Turn


class Normed(NamedTuple):
    """The output of a norm (B, L, D), in rows too where the product behind it takes them."""

    out_BLD: Tensor
    rows: Rows | None


class BlockWalk:
    """A walk; made anew for each forward and each backward pass.

    Attributes:
        values: What is known: kept values first, then whatever was computed and not yet forgotten.
        gradients: Of each group's LoRA parameters, a down and an up half for each linear in turn.
    """

    def __init__(
        self,
        block: WanTransformerBlock,
        groups: dict[str, LinearGroup],
        x_BLD: Tensor,
        inputs: BlockInputs,
        values: Values,
    ) -> None:
        self._block, self._groups, self._x_BLD, self._inputs = block, groups, x_BLD, inputs
        self.values = values
        self.gradients: dict[str, list[Tensor]] = {}
        self.kernel: Kernel | None = None
        self.on_input: OnInput | None = None
        self._heads: int = block.attn1.heads
        self._normed: dict[str, Normed] = {}
        self._inner: dict[str, Tensor | None] = {}
        self._low: dict[str, LowRank | None] = {
            name: group.low_rank(group.branches(block), x_BLD.dtype) for name, group in groups.items()
        }

    # ---- Activations --------------------------------------------------------------------------

    def self_input(self) -> Normed:
        """The normed input of self-attention."""
        if "self" not in self._normed:
            group = self._groups["self_qkv"]
            self._normed["self"] = _normed(passes.norm(self._x_BLD, self._inputs.affine1, group.input_rows))
        return self._normed["self"]

    def self_qkv(self) -> Tensor:
        """Queries, keys and values of self-attention side by side, (B, L, 3 D)."""
        if "self_qkv" not in self.values:
            self.values["self_qkv"] = self._project("self_qkv", *self.self_input())
        return _tensor(self.values["self_qkv"])

    def self_queries(self) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys with their positions, and values, each (B, L, h, d)."""
        attention: Any = self._block.attn1
        weights = (attention.norm_q.weight, attention.norm_k.weight)
        qkv_BLD = self.self_qkv()
        queries, keys = passes.turned_queries(
            qkv_BLD, weights, self._inputs.turn, self._heads, attention.norm_q.eps
        )
        return queries, keys, self._split(qkv_BLD.chunk(3, -1)[2])

    def self_attention(self) -> Attended:
        """Self-attention."""
        if "self_attention" not in self.values:
            self.values["self_attention"] = attend(*self.self_queries(), self.kernel)
        return _attended(self.values["self_attention"])

    def sum1(self) -> Tensor:
        """The tokens with self-attention added, (B, L, D)."""
        if "sum1" not in self.values:
            out_BLD = self._project_rounded("self_out", _merged(self.self_attention()))
            sum_BLD, *normed = passes.sum_and_norm(
                self._x_BLD, out_BLD, self._inputs.gate1, self._affine2, self._groups["cross_q"].input_rows
            )
            self.values["sum1"], self._normed["cross"] = sum_BLD, _normed(normed)
        return _tensor(self.values["sum1"])

    def cross_input(self) -> Normed:
        """The normed input of cross-attention's queries."""
        sum_BLD = self.sum1()
        if "cross" not in self._normed:
            group = self._groups["cross_q"]
            self._normed["cross"] = _normed(passes.norm(sum_BLD, self._affine2, group.input_rows))
        return self._normed["cross"]

    def cross_q(self) -> Tensor:
        """Queries of cross-attention before their norm, (B, L, D)."""
        if "cross_q" not in self.values:
            self.values["cross_q"] = self._project("cross_q", *self.cross_input())
        return _tensor(self.values["cross_q"])

    def cross_kv(self) -> Tensor:
        """Keys and values of the text side by side, (B, S, 2 D)."""
        if "cross_kv" not in self.values:
            self.values["cross_kv"] = self._project_rounded("cross_kv", self._inputs.text_BSD)
        return _tensor(self.values["cross_kv"])

    def cross_queries(self) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of cross-attention, (B, L or S, h, d)."""
        attention: Any = self._block.attn2
        epsilon = attention.norm_q.eps
        keys_BSD, values_BSD = self.cross_kv().chunk(2, -1)
        queries = passes.query(self.cross_q(), attention.norm_q.weight, self._heads, epsilon)
        keys = passes.query(keys_BSD, attention.norm_k.weight, self._heads, epsilon)
        return queries, keys, self._split(values_BSD)

    def cross_attention(self) -> Attended:
        """Cross-attention."""
        if "cross_attention" not in self.values:
            self.values["cross_attention"] = attend(*self.cross_queries(), self.kernel)
        return _attended(self.values["cross_attention"])

    def sum2(self) -> Tensor:
        """The tokens with cross-attention added, (B, L, D)."""
        if "sum2" not in self.values:
            out_BLD = self._project_rounded("cross_out", _merged(self.cross_attention()))
            self.values["sum2"] = passes.gated_sum(self.sum1(), out_BLD, None)
        return _tensor(self.values["sum2"])

    def feed_forward(self, chunks: int) -> Tensor:
        """The block's output, (B, L, D).

        Args:
            chunks: Parts into which the tokens are cut; with one, what the first product gives is
                among the values afterwards.
        """
        sum_BLD = self.sum2()
        out_BLD = sum_BLD if chunks == 1 else torch.empty_like(sum_BLD)
        for part in parts_of(sum_BLD.shape[1], chunks):
            wide = self._project("widen", *self._feed_input(sum_BLD[:, part]))
            if chunks == 1:
                self.values["widened"] = wide
            narrow = self._project("narrow", *_normed(passes.gelu(wide, self._groups["narrow"].input_rows)))
            del wide
            done = passes.gated_sum(sum_BLD[:, part], narrow, self._inputs.gate3)
            if chunks == 1:
                out_BLD = done
            else:
                out_BLD[:, part] = done
        return out_BLD

    def forget(self, *names: str) -> None:
        """Let go of values that are not needed any more, and of normed inputs with them."""
        for name in names:
            self.values.pop(name, None)
            self._normed.pop(name, None)

    # ---- Gradients ----------------------------------------------------------------------------

    def feed_forward_gradient(self, grad_BLD: Tensor, chunks: int) -> Tensor:
        """From the gradient of the block's output to that of `sum2`."""
        narrow, widen = self._groups["narrow"], self._groups["widen"]
        sum_BLD = self.sum2()
        own_BLD = grad_BLD if chunks == 1 else torch.empty_like(grad_BLD)
        for part in parts_of(sum_BLD.shape[1], chunks):
            normed = self._feed_input(sum_BLD[:, part])
            kept = self.values.pop("widened", None)
            wide = self._project("widen", *normed) if kept is None else _tensor(kept)
            del kept
            active, *_ = passes.gelu(wide, None)
            grad, rows = _normed(passes.gated(grad_BLD[:, part], self._inputs.gate3, narrow.gradient_rows))
            grad = self._gradient("narrow", grad, rows, active)
            del active
            grad, rows = _normed(passes.gelu_gradient(grad, wide, widen.gradient_rows))
            del wide
            grad = self._gradient("widen", grad, rows, normed.out_BLD)
            done = passes.norm_gradient(grad, sum_BLD[:, part], self._inputs.affine3, grad_BLD[:, part])
            if chunks == 1:
                own_BLD = done
            else:
                own_BLD[:, part] = done
        return own_BLD

    def cross_gradient(self, grad_BLD: Tensor) -> Tensor:
        """From the gradient of `sum2` to that of `sum1`."""
        out, own = self._groups["cross_out"], self._groups["cross_q"]
        attention: Any = self._block.attn2
        attended, queries = self.cross_attention(), self.cross_queries()
        merged = _merged(attended)
        grad, rows = _normed(passes.gated(grad_BLD, None, out.gradient_rows))
        grad = self._gradient("cross_out", grad, rows, merged)
        gradients = attend_gradient(self._split(grad), *queries, attended)
        del attended, queries, merged, grad
        self.forget("cross_attention")
        if self._low["cross_kv"] is not None:
            text_BSD = self._inputs.text_BSD
            keys_BSD = self.cross_kv().chunk(2, -1)[0]
            keys, *_ = passes.query_gradient(
                gradients[1], keys_BSD, attention.norm_k.weight, attention.norm_k.eps, None
            )
            both = torch.cat([keys, gradients[2].flatten(-2)], -1)
            self._lora_gradients("cross_kv", both, text_BSD)
        grad, rows = _normed(
            passes.query_gradient(
                gradients[0], self.cross_q(), attention.norm_q.weight, attention.norm_q.eps, own.gradient_rows
            )
        )
        del gradients
        self.forget("cross_q", "cross_kv")
        normed = self.cross_input()
        grad = self._gradient("cross_q", grad, rows, normed.out_BLD)
        self.forget("cross")
        return passes.norm_gradient(grad, self.sum1(), self._affine2, grad_BLD)

    def self_gradient(self, grad_BLD: Tensor, *, of_input: bool) -> Tensor | None:
        """From the gradient of `sum1` to that of the block's input, if that is wanted."""
        out, own = self._groups["self_out"], self._groups["self_qkv"]
        attention: Any = self._block.attn1
        merged = _merged(self.self_attention())
        grad, rows = _normed(passes.gated(grad_BLD, self._inputs.gate1, out.gradient_rows))
        grad = self._gradient("self_out", grad, rows, merged)
        del merged, rows
        queries = self.self_queries()
        gradients = attend_gradient(self._split(grad), *queries, self.self_attention())
        del queries, grad
        self.forget("self_attention")
        weights = (attention.norm_q.weight, attention.norm_k.weight)
        grad, rows = _normed(
            passes.turned_queries_gradient(
                self.self_qkv(),
                gradients,
                weights,
                self._inputs.turn,
                attention.norm_q.eps,
                own.gradient_rows,
            )
        )
        del gradients
        self.forget("self_qkv")
        normed = self.self_input()
        if not of_input:
            self._lora_gradients("self_qkv", grad, normed.out_BLD)
            return None
        grad = self._gradient("self_qkv", grad, rows, normed.out_BLD)
        self.forget("self")
        return passes.norm_gradient(grad, self._x_BLD, self._inputs.affine1, grad_BLD)

    # ---- Parts --------------------------------------------------------------------------------

    @property
    def _affine2(self) -> Affine:
        norm: Any = self._block.norm2
        return Affine(norm.weight, norm.bias, norm.eps)

    def _feed_input(self, sum_BLD: Tensor) -> Normed:
        return _normed(passes.norm(sum_BLD, self._inputs.affine3, self._groups["widen"].input_rows))

    def _split(self, x_BLD: Tensor) -> Tensor:
        return x_BLD.unflatten(-1, (self._heads, -1))

    def _project_rounded(self, name: str, x_BLD: Tensor) -> Tensor:
        """A product of an input that no pass gave in rows."""
        wish = self._groups[name].input_rows
        return self._project(name, x_BLD, None if wish is None else Rows(*passes.in_rows(x_BLD, wish)))

    def _project(self, name: str, x_BLD: Tensor, rows: Rows | None) -> Tensor:
        x_NI = _flat(x_BLD)
        if self.on_input is not None:
            self.on_input(name, x_NI)
        projected = self._groups[name].project(x_NI, rows, self._low[name])
        self._inner[name] = projected.inner_NR
        return projected.out_NO.view(*x_BLD.shape[:-1], -1)

    def _gradient(self, name: str, grad_BLO: Tensor, rows: Rows | None, x_BLI: Tensor) -> Tensor:
        """The gradient of a product's input; those of its LoRAs are added up."""
        grad_inner_NR = self._lora_gradients(name, grad_BLO, x_BLI)
        group, grad_NO = self._groups[name], _flat(grad_BLO)
        grad_NI = group.input_gradient(grad_NO, rows, self._low[name], grad_inner_NR)
        return grad_NI.view(*grad_BLO.shape[:-1], -1)

    def _lora_gradients(self, name: str, grad_BLO: Tensor, x_BLI: Tensor) -> Tensor | None:
        group, low, x_NI = self._groups[name], self._low[name], _flat(x_BLI)
        inner_NR = self._inner.pop(name) if name in self._inner else group.inner(x_NI, low)
        grad_inner_NR, gradients = group.lora_gradients(_flat(grad_BLO), x_NI, inner_NR, low)
        before = self.gradients.get(name)
        self.gradients[name] = (
            gradients if before is None else [a + b for a, b in zip(before, gradients, strict=True)]
        )
        return grad_inner_NR


def parts_of(tokens: int, chunks: int) -> Iterator[slice]:
    """Cut the tokens into parts that differ by one at most."""
    edges = [tokens * chunk // chunks for chunk in range(chunks + 1)]
    for start, stop in pairwise(edges):
        if stop > start:
            yield slice(start, stop)


def _normed(found: Any) -> Normed:
    out_BLD, values, scale = found
    return Normed(out_BLD, None if values is None else Rows(values, scale))


def _flat(x_BLD: Tensor) -> Tensor:
    return x_BLD.reshape(-1, x_BLD.shape[-1])


def _merged(attended: Attended) -> Tensor:
    return attended.out_BLhd.flatten(-2)


def _tensor(value: Tensor | Attended) -> Tensor:
    assert isinstance(value, Tensor)
    return value


def _attended(value: Tensor | Attended) -> Attended:
    assert isinstance(value, Attended)
    return value
