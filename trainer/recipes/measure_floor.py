"""The least time that a training step can take on a device: its matrix products and attention, nothing else.

The rates are measured first, on the very shapes of the step. LoRA, norms, sums, optimizer and embeddings
count as nothing, and so does all traffic between RAM and GPU.
"""

# L tokens, S text tokens, D width, F feed-forward width, h heads, d width of a head

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainer.model.block.activations import Keep
from trainer.model.block.attention import attend, attend_gradient
from trainer.model.frozen.quantizer import Mode
from trainer.model.frozen.weights import multiply_rows, quantize_rows

TEXT_TOKENS = 512
_REPEATS = 5


class ExpertShape(NamedTuple):
    """What a step's products depend on."""

    width: int = 5120
    feed_forward: int = 13824
    heads: int = 40
    layers: int = 40

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "ExpertShape":
        """That of an expert with this config."""
        heads = int(config["num_attention_heads"])
        width = heads * int(config["attention_head_dim"])
        return cls(width, int(config["ffn_dim"]), heads, int(config["num_layers"]))


@dataclass(frozen=True, slots=True)
class BlockTimes:
    """Seconds of one block's products, at one length.

    Attributes:
        square: One linear of width by width.
        widen: The feed-forward's first.
        narrow: Its second.
        text: One linear over the text tokens.
        attention: Self-attention forward.
        attention_gradient: And backward.
        cross: Cross-attention forward.
        cross_gradient: And backward.
    """

    square: float
    widen: float
    narrow: float
    text: float
    attention: float
    attention_gradient: float
    cross: float
    cross_gradient: float


def block_times(tokens: int, mode: Mode, shape: ExpertShape, device: torch.device) -> BlockTimes:
    """Measure them; about a second on a GPU, and only of use there."""
    width, wide = shape.width, shape.feed_forward

    def product(rows: int, inputs: int, outputs: int) -> float:
        x = torch.randn(rows, inputs, device=device, dtype=torch.bfloat16)
        weight = torch.randn(outputs, inputs, device=device, dtype=torch.bfloat16)
        if mode != "float8_compute":
            return _seconds(lambda: x @ weight.t(), device)
        left, right = quantize_rows(x), quantize_rows(weight)
        scale = right.scale_N1.flatten()
        return _seconds(lambda: multiply_rows(left, right.values_NI, scale), device)

    def attention(keys: int) -> tuple[float, float]:
        def heads(count: int) -> Tensor:
            return torch.randn(
                1, count, shape.heads, width // shape.heads, device=device, dtype=torch.bfloat16
            )

        query, key, value = heads(tokens), heads(keys), heads(keys)
        found = attend(query, key, value)
        return (
            _seconds(lambda: attend(query, key, value), device),
            _seconds(lambda: attend_gradient(query, query, key, value, found), device),
        )

    forward, gradient = attention(tokens)
    cross, cross_gradient = attention(TEXT_TOKENS)
    return BlockTimes(
        square=product(tokens, width, width),
        widen=product(tokens, width, wide),
        narrow=product(tokens, wide, width),
        text=product(TEXT_TOKENS, width, width),
        attention=forward,
        attention_gradient=gradient,
        cross=cross,
        cross_gradient=cross_gradient,
    )


def floor_seconds(times: BlockTimes, keep: Keep, layers: int) -> float:
    """Of a step whose blocks keep what `keep` says: what they do not keep is computed twice."""
    forward = 6 * times.square + times.widen + times.narrow + 2 * times.text
    # The gradient of the text is not wanted, so neither are the products that would give it.
    gradient = 6 * times.square + times.widen + times.narrow
    again = {
        # The feed-forward's second product is in nobody's way back.
        "nothing": 6 * times.square + times.widen + 2 * times.text + times.attention + times.cross,
        "attention": 6 * times.square + times.widen + times.cross,
        "sums": 3 * times.square + times.widen,
        "everything": 0.0,
    }[keep]
    attention = times.attention + times.cross + times.attention_gradient + times.cross_gradient
    return layers * (forward + gradient + again + attention)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Median seconds of one run, after one that is not counted."""
    work()
    return statistics.median(timed(work, device) for _ in range(_REPEATS))


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that some work takes on the device; on a GPU by its own clock."""
    if device.type != "cuda":
        began = time.perf_counter()
        work()
        return time.perf_counter() - began
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000.0
