"""What a block computes between its matrix products, each in one pass over memory, with its gradient.

Written as plain functions of tensors in float32 inside; on a GPU they are compiled, each for every
shape that it meets, so that a pass reads its inputs once and writes its outputs once. Where compiling
cannot be had, they run as they are written, more slowly and with the same results up to rounding.

A pass with `rows` also gives its output in float8, a scale a row, for weights that multiply in float8
(`trainer.model.frozen.weights.Rows`): the values and their scales, or None twice.
"""

# B batch, L tokens of an item, N = B L, D width, h heads, d width of a head, O width of an output

import functools
import logging
import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from trainer.model.frozen import weights as frozen_weights
from trainer.model.frozen.weights import quantize_rows

log = logging.getLogger("trainer")

MaybeRows = tuple[Tensor | None, Tensor | None]


class InRows(NamedTuple):
    """The wish for rows.

    Attributes:
        column_scale_D: What the columns are multiplied with before they are rounded.
    """

    column_scale_D: Tensor | None = None


class Affine(NamedTuple):
    """What a layer norm is followed by: times weight plus bias, float32, (D,) or (B, 1, D)."""

    weight: Tensor
    bias: Tensor
    epsilon: float


class Turn(NamedTuple):
    """Rotary positions, float32 (L, 1, d): each pair of channels is turned by an angle.

    Attributes:
        cos: Cosine of the pair's angle, for both of its channels.
        sin: Minus its sine for the first of them, its sine for the second.
    """

    cos: Tensor
    sin: Tensor


_GELU_OUTER = math.sqrt(2.0 / math.pi)
_GELU_INNER = 0.044715
SHAPES_COMPILED = 256
"""Most shapes of a pass; enough for every bucket of a large data set, forward and backward."""


class Compilation:
    """Whether passes are compiled, for the whole process.

    Attributes:
        wanted: Set by `wish`; turned off for good by the first failure.
        on_failure: Told once, in a sentence, why passes are not compiled.
    """

    def __init__(self) -> None:
        self.wanted = False
        self.on_failure: Callable[[str], None] = log.warning
        self._threads = threading.local()

    def wish(self, on_failure: Callable[[str], None]) -> None:
        """Compile passes on GPUs from now on."""
        self.wanted, self.on_failure = True, on_failure

    def prepare_thread(self) -> None:
        """Allow a pass as many shapes as data sets have; beyond the limit it would silently not be compiled.

        The setting belongs to a thread, and autograd runs backward passes in threads of its own.
        """
        if not getattr(self._threads, "prepared", False):
            config: Any = torch._dynamo.config  # noqa: SLF001 - its settings have no public door
            config.recompile_limit = config.accumulated_recompile_limit = SHAPES_COMPILED
            self._threads.prepared = True

    def give_up(self, error: Exception) -> None:
        """Run passes as they are written from now on."""
        if self.wanted:
            self.wanted = False
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            self.on_failure(f"Passes are not compiled, so steps take longer: {reason}")


compilation = Compilation()


class Pass:
    """A function that is compiled where that is wanted and its first tensor lies on a GPU."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._compiled: Callable[..., Any] | None = None

    def __call__(self, first: Tensor, *others: Any) -> Any:
        """Compute it."""
        if not (compilation.wanted and first.is_cuda):
            return self._function(first, *others)
        compilation.prepare_thread()
        if self._compiled is None:
            self._compiled = torch.compile(self._function, dynamic=False)
        try:
            return self._compiled(first, *others)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a compiler lacks, the pass itself is sound
            compilation.give_up(error)
            return self._function(first, *others)


# ---- Norms and sums ---------------------------------------------------------------------------


def _normed(x_BLD: Tensor, affine: Affine) -> Tensor:
    wide_BLD = functional.layer_norm(x_BLD.float(), (x_BLD.shape[-1],), eps=affine.epsilon)
    return (wide_BLD * affine.weight + affine.bias).to(x_BLD.dtype)


def _in_rows(x_BLD: Tensor, rows: InRows | None) -> MaybeRows:
    if rows is None:
        return None, None
    values_ND, scale_N1 = quantize_rows(x_BLD.reshape(-1, x_BLD.shape[-1]), rows.column_scale_D)
    return values_ND, scale_N1


@Pass
def norm(x_BLD: Tensor, affine: Affine, rows: InRows | None) -> tuple[Tensor, *MaybeRows]:
    """Layer norm, times weight plus bias."""
    y_BLD = _normed(x_BLD, affine)
    return y_BLD, *_in_rows(y_BLD, rows)


@Pass
def sum_and_norm(
    x_BLD: Tensor,
    y_BLD: Tensor,
    gate: Tensor | None,
    affine: Affine,
    rows: InRows | None,
) -> tuple[Tensor, Tensor, *MaybeRows]:
    """The sum ``x + gate y`` and its `norm`; gate is float32 (B, 1, D)."""
    sum_BLD = _gated_sum(x_BLD, y_BLD, gate)
    normed_BLD = _normed(sum_BLD, affine)
    return sum_BLD, normed_BLD, *_in_rows(normed_BLD, rows)


@Pass
def gated_sum(x_BLD: Tensor, y_BLD: Tensor, gate: Tensor | None) -> Tensor:
    """The sum ``x + gate y``."""
    return _gated_sum(x_BLD, y_BLD, gate)


def _gated_sum(x_BLD: Tensor, y_BLD: Tensor, gate: Tensor | None) -> Tensor:
    wide_BLD = y_BLD.float() if gate is None else y_BLD.float() * gate
    return (x_BLD.float() + wide_BLD).to(x_BLD.dtype)


@Pass
def norm_gradient(grad_BLD: Tensor, x_BLD: Tensor, affine: Affine, others_BLD: Tensor) -> Tensor:
    """The gradient of `norm`'s input, added to `others`, that of the sum that passes it by."""
    x_BLD = x_BLD.float()
    centred_BLD = x_BLD - x_BLD.mean(-1, keepdim=True)
    inverse_BL1 = torch.rsqrt(centred_BLD.square().mean(-1, keepdim=True) + affine.epsilon)
    normed_BLD = centred_BLD * inverse_BL1
    grad_BLD = grad_BLD.float() * affine.weight
    along_BL1 = (grad_BLD * normed_BLD).mean(-1, keepdim=True)
    own_BLD = inverse_BL1 * (grad_BLD - grad_BLD.mean(-1, keepdim=True) - normed_BLD * along_BL1)
    return (others_BLD.float() + own_BLD).to(others_BLD.dtype)


@Pass
def gated(grad_BLD: Tensor, gate: Tensor | None, rows: InRows | None) -> tuple[Tensor, *MaybeRows]:
    """The gradient of y in `gated_sum`; in rows it is multiplied with the weight's scale besides."""
    if gate is not None:
        grad_BLD = (grad_BLD.float() * gate).to(grad_BLD.dtype)
    return grad_BLD, *_in_rows(grad_BLD, rows)


@Pass
def in_rows(x_BLD: Tensor, rows: InRows) -> MaybeRows:
    """A tensor in float8 rows alone."""
    return _in_rows(x_BLD, rows)


# ---- Feed-forward -----------------------------------------------------------------------------


@Pass
def gelu(x_BLD: Tensor, rows: InRows | None) -> tuple[Tensor, *MaybeRows]:
    """GELU in its tanh approximation, as Wan has it."""
    y_BLD = functional.gelu(x_BLD.float(), approximate="tanh").to(x_BLD.dtype)
    return y_BLD, *_in_rows(y_BLD, rows)


@Pass
def gelu_gradient(grad_BLD: Tensor, x_BLD: Tensor, rows: InRows | None) -> tuple[Tensor, *MaybeRows]:
    """The gradient of `gelu`'s input."""
    x = x_BLD.float()
    tanh = torch.tanh(_GELU_OUTER * (x + _GELU_INNER * x * x * x))
    slope = _GELU_OUTER * (1.0 + 3.0 * _GELU_INNER * x * x)
    own = grad_BLD.float() * (0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * slope)
    own_BLD = own.to(grad_BLD.dtype)
    return own_BLD, *_in_rows(own_BLD, rows)


# ---- Queries and keys -------------------------------------------------------------------------


def _rms_inverse(x_BLD: Tensor, epsilon: float) -> Tensor:
    return torch.rsqrt(x_BLD.square().mean(-1, keepdim=True) + epsilon)


def _rotated(x_BLhd: Tensor, turn: Turn) -> Tensor:
    # Of each pair the other channel: (a, b) turns into (a cos - b sin, b cos + a sin).
    others_BLhd = x_BLhd.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return x_BLhd * turn.cos + others_BLhd * turn.sin


def _query(x_BLD: Tensor, weight_D: Tensor, turn: Turn | None, heads: int, epsilon: float) -> Tensor:
    wide_BLD = x_BLD.float()
    wide_BLD = wide_BLD * _rms_inverse(wide_BLD, epsilon) * weight_D.float()
    split_BLhd = wide_BLD.unflatten(-1, (heads, -1))
    if turn is not None:
        split_BLhd = _rotated(split_BLhd, turn)
    return split_BLhd.to(x_BLD.dtype)


def _query_gradient(
    grad_BLhd: Tensor, x_BLD: Tensor, weight_D: Tensor, turn: Turn | None, epsilon: float
) -> Tensor:
    grad_BLhd = grad_BLhd.float()
    if turn is not None:
        # The inverse of a rotation is the one by the opposite angle.
        grad_BLhd = _rotated(grad_BLhd, Turn(turn.cos, -turn.sin))
    grad_BLD = grad_BLhd.flatten(-2) * weight_D.float()
    wide_BLD = x_BLD.float()
    inverse_BL1 = _rms_inverse(wide_BLD, epsilon)
    normed_BLD = wide_BLD * inverse_BL1
    return inverse_BL1 * (grad_BLD - normed_BLD * (grad_BLD * normed_BLD).mean(-1, keepdim=True))


@Pass
def query(x_BLD: Tensor, weight_D: Tensor, heads: int, epsilon: float) -> Tensor:
    """RMS norm over all heads together, split into heads: queries and keys of cross-attention."""
    return _query(x_BLD, weight_D, None, heads, epsilon)


@Pass
def query_gradient(
    grad_BLhd: Tensor,
    x_BLD: Tensor,
    weight_D: Tensor,
    epsilon: float,
    rows: InRows | None,
) -> tuple[Tensor, *MaybeRows]:
    """The gradient of `query`'s input."""
    own_BLD = _query_gradient(grad_BLhd, x_BLD, weight_D, None, epsilon).to(grad_BLhd.dtype)
    return own_BLD, *_in_rows(own_BLD, rows)


@Pass
def turned_queries(
    qkv_BLD: Tensor,
    weights: tuple[Tensor, Tensor],
    turn: Turn,
    heads: int,
    epsilon: float,
) -> tuple[Tensor, Tensor]:
    """Queries and keys of self-attention: RMS norm, heads, rotary position; values need nothing."""
    queries_BLD, keys_BLD, _ = qkv_BLD.chunk(3, -1)
    return (
        _query(queries_BLD, weights[0], turn, heads, epsilon),
        _query(keys_BLD, weights[1], turn, heads, epsilon),
    )


@Pass
def turned_queries_gradient(
    qkv_BLD: Tensor,
    gradients: tuple[Tensor, Tensor, Tensor],
    weights: tuple[Tensor, Tensor],
    turn: Turn,
    epsilon: float,
    rows: InRows | None,
) -> tuple[Tensor, *MaybeRows]:
    """The gradient of queries, keys and values together, as one linear made them."""
    queries_BLD, keys_BLD, _ = qkv_BLD.chunk(3, -1)
    own_BLD = torch.cat(
        (
            _query_gradient(gradients[0], queries_BLD, weights[0], turn, epsilon),
            _query_gradient(gradients[1], keys_BLD, weights[1], turn, epsilon),
            gradients[2].flatten(-2).float(),
        ),
        -1,
    ).to(qkv_BLD.dtype)
    return own_BLD, *_in_rows(own_BLD, rows)


# ---- LoRA -------------------------------------------------------------------------------------


@Pass
def joined_down(first: Tensor, others: tuple[Tensor, ...], dtype: torch.dtype) -> Tensor:
    """The down halves (R, I) of LoRAs with one input, one below the other."""
    return torch.cat([one.to(dtype) for one in (first, *others)])


@Pass
def joined_up(
    first: Tensor, others: tuple[Tensor, ...], scales: tuple[float, ...], dtype: torch.dtype
) -> Tensor:
    """The up halves (O, R) of LoRAs with one input, scaled, each in its own rows and columns, else 0."""
    ups = (first, *others)
    width, start, padded = sum(up.shape[1] for up in ups), 0, []
    for up, scale in zip(ups, scales, strict=True):
        end = start + up.shape[1]
        padded.append(functional.pad((up * scale).to(dtype), (start, width - end)))
        start = end
    return torch.cat(padded)


transposed = Pass(frozen_weights.transposed)
"""A float8 matrix transposed in memory."""
