"""A linear layer of a model whose weight is a frozen one: plain PyTorch and peft see an `nn.Linear`."""

# B batch, N tokens, I input width, O output width of the layer

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from trainer.model.frozen.weights import FrozenWeight


class FrozenLinear(nn.Linear):
    """A linear whose weight is a `FrozenWeight`, or some rows of one that several linears share.

    The weight is looked up anew at every pass, forward and backward, so its tensors may be replaced
    (`FrozenWeight.rebind`) between any two. They are not parameters or buffers: `to`, `state_dict` and
    the like leave them alone; only the bias goes along. A side branch acts in every pass.

    Attributes:
        frozen: The whole stored weight.
        start: The first of its rows that are this layer's.
        stop: Behind the last.
        dtype: Number type of `weight`; a pass computes in that of its input.
    """

    _describes: ClassVar[bool] = False

    # nn.Linear's own would make a parameter as large as the weight.
    def __init__(
        self,
        frozen: FrozenWeight,
        bias_O: Tensor | None = None,
        *,
        start: int = 0,
        stop: int | None = None,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        """Take the weight as it is.

        Args:
            frozen: Any kind.
            bias_O: Of these rows; frozen too.
            start: The first row.
            stop: Behind the last; None takes all from the first on.
            dtype: What `weight` gives.
        """
        nn.Module.__init__(self)
        self.frozen = frozen
        self.start = start
        self.stop = frozen.out_features if stop is None else stop
        self.in_features = frozen.in_features
        self.out_features = self.stop - self.start
        self.dtype = dtype
        bias = None if bias_O is None else nn.Parameter(bias_O.detach(), requires_grad=False)
        self.register_parameter("bias", bias)

    @property
    def weight(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The weight (O, I) as a plain matrix, with its side branch: made anew each time that it is asked for.

        Inside `described_weights` a matrix of zeros that takes no memory.
        """
        if FrozenLinear._describes:
            return torch.zeros((), dtype=self.dtype, device=self.device).expand(
                self.out_features, self.in_features
            )
        return self.own_rows().dense(self.dtype)

    @property
    def device(self) -> torch.device:
        """Where the weight lies now."""
        return next(iter(self.frozen.stored.values())).device

    def own_rows(self) -> FrozenWeight:
        """The part of the stored weight that is this layer's; views."""
        if self.start == 0 and self.stop == self.frozen.out_features:
            return self.frozen
        return self.frozen.rows(self.start, self.stop)

    def reset_parameters(self) -> None:
        """Nothing: the weight is frozen."""

    def forward(self, input: Tensor) -> Tensor:
        """``x @ W.T + b`` of an input (..., I) in its number type, (..., O)."""
        result: Any = _Product.apply(input, self)
        return result


@contextmanager
def described_weights() -> Generator[None]:
    """Let `FrozenLinear.weight` tell shape, number type and device only, at no cost: its values are zeros.

    For code that asks for these alone, as peft does several times for every layer that it wraps.
    """
    before = FrozenLinear._describes  # noqa: SLF001 - of this module
    FrozenLinear._describes = True  # noqa: SLF001
    try:
        yield
    finally:
        FrozenLinear._describes = before  # noqa: SLF001


class _Product(torch.autograd.Function):
    """The product with a frozen linear; keeps nothing for the backward pass but the layer."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: FrozenLinear) -> Tensor:
        ctx.linear = linear
        weight = linear.own_rows()
        x_NI = x.reshape(-1, x.shape[-1])
        bias_O = None if linear.bias is None else linear.bias.to(x.dtype)
        out_NO = weight.forward(x_NI, bias_O)
        if weight.side_branch is not None:
            down_RI, up_OR = (one.to(x.dtype) for one in weight.side_branch)
            out_NO = torch.addmm(out_NO, x_NI @ down_RI.T, up_OR.T)
        return out_NO.reshape(*x.shape[:-1], linear.out_features)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,) = grads
        weight = ctx.linear.own_rows()
        grad_NO = grad.reshape(-1, grad.shape[-1])
        grad_NI = weight.input_gradient(grad_NO)
        if weight.side_branch is not None:
            down_RI, up_OR = (one.to(grad.dtype) for one in weight.side_branch)
            grad_NI = torch.addmm(grad_NI, grad_NO @ up_OR, down_RI)
        return grad_NI.reshape(*grad.shape[:-1], ctx.linear.in_features), None
