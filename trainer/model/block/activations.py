"""What a block keeps from its forward pass for its backward pass, and where that waits."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from torch import Tensor

from trainer.model.block.attention import Attended, Kernel

Keep = Literal["nothing", "attention", "sums", "everything"]
"""What a block keeps beside its input: nothing; self-attention's output, its dearest part; also the sums,
cross-attention's query and output; also what the widest products gave, so that none is computed again."""

_ATTENTION = frozenset({"self_attention", "cross_kv"})
_SUMS = _ATTENTION | {"sum1", "cross_q", "cross_attention", "sum2"}
KEPT: dict[Keep, frozenset[str]] = {
    "nothing": frozenset(),
    "attention": _ATTENTION,
    "sums": _SUMS,
    "everything": _SUMS | {"self_qkv", "widened"},
}
"""The names of what is kept, as `BlockWalk` computes them."""

Values = dict[str, Tensor | Attended]


class Keeper(Protocol):
    """Where tensors wait between a block's forward and its backward pass."""

    def keep(self, index: int, tensors: Sequence[Tensor]) -> Any:
        """Take a block's tensors, of which the caller lets go; the result is for `fetch`."""
        ...

    def fetch(self, handle: Any) -> list[Tensor]:
        """The same tensors, on the device that computes."""
        ...


class KeptInPlace:
    """Lets tensors wait where they are."""

    def keep(self, index: int, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Hold them."""
        del index
        return list(tensors)

    def fetch(self, handle: list[Tensor]) -> list[Tensor]:
        """Give them back."""
        return handle


TENSOR = object()
"""Stands for a tensor that waits elsewhere."""


class Shape(NamedTuple):
    """How a kept value is put together from its tensors.

    Attributes:
        name: Of the value.
        kernel: Of attention; None for a plain tensor.
        saved: Of attention, what its gradient needs: `TENSOR` stands for a tensor.
    """

    name: str
    kernel: Kernel | None = None
    saved: tuple[Any, ...] = ()


def taken_apart(values: Mapping[str, Tensor | Attended]) -> tuple[list[Tensor], list[Shape]]:
    """The tensors of values, and what it takes to put them together again."""
    tensors: list[Tensor] = []
    shapes: list[Shape] = []
    for name, value in values.items():
        if isinstance(value, Attended):
            tensors.append(value.out_BLhd)
            tensors += [one for one in value.saved if isinstance(one, Tensor)]
            others = tuple(TENSOR if isinstance(one, Tensor) else one for one in value.saved)
            shapes.append(Shape(name, value.kernel, others))
        else:
            tensors.append(value)
            shapes.append(Shape(name))
    return tensors, shapes


def put_together(tensors: Iterable[Tensor], shapes: Iterable[Shape]) -> Values:
    """The values that `taken_apart` took apart."""
    rest = iter(tensors)
    values: Values = {}
    for shape in shapes:
        first = next(rest)
        if shape.kernel is None:
            values[shape.name] = first
        else:
            saved = tuple(next(rest) if one is TENSOR else one for one in shape.saved)
            values[shape.name] = Attended(first, shape.kernel, saved)
    return values
