"""What one transformer block of Wan 2.2 A14B computes, counted: operations, and bytes through the card's memory.

Products are counted as the trainer's own floor counts them (`trainer/recipes/measure_floor.py`): a product of N
rows from I to O columns is 2 N I O operations, attention over L tokens 4 L L D forward and 10 L L D backward.
What lies between products is counted in bytes, pass by pass as `trainer/model/block/walk.py` walks them; where
a figure below stands alone, it is in units of one tensor of tokens by width in bf16.
"""

# N tokens of a batch, L of one item, S text tokens, D width, F feed-forward width, R rank

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Mode = Literal["none", "float8", "float8_compute", "nf4", "nf4_recovered"]
Keep = Literal["nothing", "attention", "sums", "everything"]

WIDTH = 5120
FEED_FORWARD = 13824
BLOCKS = 40
TEXT_TOKENS = 512

_WIDE = FEED_FORWARD / WIDTH


@dataclass(frozen=True, slots=True)
class Work:
    """An amount of work.

    Attributes:
        frozen: Operations in the frozen weights' products.
        low_rank: Operations in those of LoRAs and side branches, always in bf16.
        attention: Operations in attention forward.
        attention_gradient: And backward.
        traffic: Bytes read and written between products.
    """

    frozen: float = 0.0
    low_rank: float = 0.0
    attention: float = 0.0
    attention_gradient: float = 0.0
    traffic: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.frozen + other.frozen,
            self.low_rank + other.low_rank,
            self.attention + other.attention,
            self.attention_gradient + other.attention_gradient,
            self.traffic + other.traffic,
        )

    def times(self, factor: float) -> "Work":
        """So much of it."""
        return Work(
            self.frozen * factor,
            self.low_rank * factor,
            self.attention * factor,
            self.attention_gradient * factor,
            self.traffic * factor,
        )


@dataclass(frozen=True, slots=True)
class Group:
    """Linears with one input, as one product.

    Attributes:
        inputs: Columns of the input.
        outputs: Of all linears together.
        layers: The linears' original names.
        on_text: Whether the rows are text tokens.
    """

    inputs: int
    outputs: int
    layers: tuple[str, ...]
    on_text: bool = False

    @property
    def parameters(self) -> int:
        """Of its weights."""
        return self.inputs * self.outputs


GROUPS: dict[str, Group] = {
    "self_qkv": Group(WIDTH, 3 * WIDTH, ("self_attn.q", "self_attn.k", "self_attn.v")),
    "self_out": Group(WIDTH, WIDTH, ("self_attn.o",)),
    "cross_q": Group(WIDTH, WIDTH, ("cross_attn.q",)),
    "cross_kv": Group(WIDTH, 2 * WIDTH, ("cross_attn.k", "cross_attn.v"), on_text=True),
    "cross_out": Group(WIDTH, WIDTH, ("cross_attn.o",)),
    "widen": Group(WIDTH, FEED_FORWARD, ("ffn.0",)),
    "narrow": Group(FEED_FORWARD, WIDTH, ("ffn.2",)),
}
"""The ten linears of a block, those with one input together; the trainer's `trainer.model.block.groups`."""

BLOCK_PARAMETERS = sum(group.parameters for group in GROUPS.values())
"""351 million."""

_AGAIN: dict[Keep, tuple[str, ...]] = {
    # The feed-forward's second product is in nobody's way back.
    "nothing": ("self_qkv", "self_out", "cross_q", "cross_kv", "cross_out", "widen"),
    "attention": ("self_qkv", "self_out", "cross_q", "cross_out", "widen"),
    "sums": ("self_qkv", "widen"),
    "everything": (),
}
"""Products that the backward pass computes again, by what was kept."""

# Passes: what is read and written between products, in units (the module's docstring).
_FORWARD_UNITS = 20 + 2 * _WIDE
_AGAIN_UNITS: dict[Keep, float] = {
    "nothing": 23 + 2 * _WIDE,
    "attention": 19 + 2 * _WIDE,
    "sums": 12 + 2 * _WIDE,
    "everything": 10 + 2 * _WIDE,
}
_GRADIENT_UNITS = 27 + 3 * _WIDE
# The float8 rows of inputs and gradients, beside them.
_FORWARD_ROWS = 4.5 + 0.5 * _WIDE
_AGAIN_ROWS: dict[Keep, float] = {"nothing": 4.5, "attention": 4.5, "sums": 1.0, "everything": 0.0}
_GRADIENT_ROWS = 4.5 + 0.5 * _WIDE

_EAGER = 3.5
"""Times the traffic where diffusers' own block computes with peft's layers (DoRA, LoKr, dropout), or where passes
are not compiled. Fitted to diffusers with peft on an H200: 3.23, 9.40 and 22.11 s a step at 512, 768 and 1024."""

_UNPACKING_BYTES: dict[Mode, float] = {
    "none": 0.0,
    # Read and widened, then scaled: two passes.
    "float8": 7.0,
    "float8_compute": 0.0,
    "nf4": 0.5 + 4 / 64 + 2,
    "nf4_recovered": 0.5 + 4 / 64 + 2,
}
"""Bytes for one weight each time that it is made ready to multiply in bf16."""

_TURNING_BYTES = 2.0
"""Bytes for one fp8 weight that is transposed before its gradient product."""


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """How a block computes, as far as its cost depends on it.

    Attributes:
        mode: How its weights are stored and multiplied.
        keep: What it keeps for its backward pass.
        chunks: Parts of the feed-forward.
        rank: Of the LoRA.
        shares: Share of each group's linears that have one, by group.
        side_rank: Of the frozen side branch of "nf4_recovered"; 0 without.
        by_hand: Whether it computes as the trainer does it for plain LoRA; else by diffusers' own block.
        compiled: Whether its passes are compiled.
        weight_passes: Passes over each bf16 weight that the kind of LoRA takes in a forward pass: DoRA's norm.
    """

    mode: Mode = "none"
    keep: Keep = "attention"
    chunks: int = 1
    rank: int = 16
    shares: tuple[tuple[str, float], ...] = tuple((name, 1.0) for name in GROUPS)
    side_rank: int = 0
    by_hand: bool = True
    compiled: bool = True
    weight_passes: float = 0.0


@dataclass(frozen=True, slots=True)
class BlockWork:
    """One block's two passes; without gradient there is the first alone."""

    forward: Work
    backward: Work


@lru_cache(maxsize=4096)
def block_work(plan: BlockPlan, tokens: int, batch: int) -> BlockWork:
    """What a block computes for a batch of clips.

    Args:
        plan: How.
        tokens: Of each clip.
        batch: Clips.
    """
    again: Keep = plan.keep if plan.by_hand else "nothing"
    rows = tokens * batch
    repeated = _AGAIN[again] if plan.by_hand else tuple(GROUPS)
    forward = _products(plan, GROUPS, rows, batch) + _attention(tokens, batch)
    backward = _products(plan, repeated, rows, batch) + _gradients(plan, rows, batch)
    backward += _attention_again(again, tokens, batch)
    backward += Work(
        attention_gradient=10.0 * batch * tokens * (tokens + TEXT_TOKENS) * WIDTH,
    )
    passes = _passes(plan, again, rows)
    return BlockWork(forward + passes[0], backward + passes[1])


def _attention(tokens: int, batch: int) -> Work:
    """Self-attention and that over the text."""
    return Work(attention=4.0 * batch * tokens * (tokens + TEXT_TOKENS) * WIDTH)


def _attention_again(keep: Keep, tokens: int, batch: int) -> Work:
    own = tokens if keep == "nothing" else 0
    text = TEXT_TOKENS if keep in ("nothing", "attention") else 0
    return Work(attention=4.0 * batch * tokens * (own + text) * WIDTH)


def _products(plan: BlockPlan, names: "tuple[str, ...] | dict[str, Group]", rows: int, batch: int) -> Work:
    """Products of inputs with weights, each with its low-rank branches."""
    shares, loose = dict(plan.shares), 1.0 if plan.by_hand else _EAGER
    work = Work()
    for name in names:
        group = GROUPS[name]
        count = batch * TEXT_TOKENS if group.on_text else rows
        rank = plan.rank * len(group.layers) * shares[name] + plan.side_rank
        branch = min(1.0, shares[name] + (plan.side_rank > 0))
        unpacked = group.parameters * _UNPACKING_BYTES[plan.mode] * _times(plan, name)
        work += Work(
            frozen=2.0 * count * group.parameters,
            low_rank=2.0 * count * rank * (group.inputs + group.outputs),
            # The input is read once more, the output read and written.
            traffic=2.0 * count * branch * (group.inputs + 2 * group.outputs) * loose
            + unpacked
            + 2.0 * group.parameters * plan.weight_passes * shares[name],
        )
    return work


def _gradients(plan: BlockPlan, rows: int, batch: int) -> Work:
    """Gradients of inputs and of LoRAs; the text's own is not wanted."""
    shares, loose = dict(plan.shares), 1.0 if plan.by_hand else _EAGER
    again = _AGAIN[plan.keep] if plan.by_hand else tuple(GROUPS)
    work = Work()
    for name, group in GROUPS.items():
        count = batch * TEXT_TOKENS if group.on_text else rows
        rank = plan.rank * len(group.layers) * shares[name] + plan.side_rank
        branch = min(1.0, shares[name] + (plan.side_rank > 0))
        # What the down halves gave is at hand where the product was just computed again.
        inner = 0 if name in again else group.inputs
        of_input = 0.0 if group.on_text else 2.0 * count * group.parameters
        weights = 0.0 if group.on_text else group.parameters * _times(plan, name)
        turning = _TURNING_BYTES if plan.mode == "float8_compute" else _UNPACKING_BYTES[plan.mode]
        work += Work(
            frozen=of_input,
            low_rank=4.0 * count * rank * (group.inputs + group.outputs) + 2.0 * count * rank * inner,
            traffic=2.0 * count * branch * (2 * group.outputs + 3 * group.inputs + inner) * loose
            + weights * turning,
        )
    return work


def _times(plan: BlockPlan, name: str) -> int:
    """How often a pass makes a weight ready: in the feed-forward once for every part."""
    return plan.chunks if name in ("widen", "narrow") else 1


def _passes(plan: BlockPlan, keep: Keep, rows: int) -> tuple[Work, Work]:
    """Norms, sums, rotations and the like, forward and backward."""
    forward, backward = _FORWARD_UNITS, _AGAIN_UNITS[keep] + _GRADIENT_UNITS
    if plan.mode == "float8_compute":
        forward += _FORWARD_ROWS
        backward += _AGAIN_ROWS[keep] + _GRADIENT_ROWS
    if not (plan.by_hand and plan.compiled):
        forward, backward = forward * _EAGER, backward * _EAGER
    if plan.chunks > 1:
        # Each part is written once more, to where all of them lie together.
        forward, backward = forward + 2, backward + 2
    unit = 2.0 * rows * WIDTH
    return Work(traffic=forward * unit), Work(traffic=backward * unit)
