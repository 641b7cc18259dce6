"""Attention by the fastest kernel that the card has, with its gradient apart from its forward pass.

The forward pass gives the output and what the gradient needs of it (the log-sum-exp of every row), so
that both can be kept over a checkpoint: then attention, the dearest part of a block, runs once.
"""

# B batch, L queries, S keys, h heads, d width of a head

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Kernel = Literal["cudnn", "flash", "plain"]

_TRIED: dict[tuple[torch.device, int], Kernel] = {}


class Attended(NamedTuple):
    """A forward pass.

    Attributes:
        out_BLhd: What attention gives.
        kernel: Which one made it; its gradient is computed by the same.
        saved: What else the gradient needs: tensors, and small values.
    """

    out_BLhd: Tensor
    kernel: Kernel
    saved: tuple[Any, ...]


def attend(
    query_BLhd: Tensor, key_BShd: Tensor, value_BShd: Tensor, kernel: Kernel | None = None
) -> Attended:
    """``softmax(q k / sqrt(d)) v`` over all keys.

    Args:
        query_BLhd: Any strides with a contiguous last dimension, as the other two.
        key_BShd: Keys.
        value_BShd: Values.
        kernel: None takes the fastest that works on this device.
    """
    kernel = kernel or fastest_kernel(query_BLhd)
    query, key, value = (one.transpose(1, 2) for one in (query_BLhd, key_BShd, value_BShd))
    if kernel == "cudnn":
        found = torch.ops.aten._scaled_dot_product_cudnn_attention(query, key, value, None, True)  # noqa: SLF001, FBT003
    elif kernel == "flash":
        found = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)  # noqa: SLF001
    else:
        found = (functional.scaled_dot_product_attention(query, key, value),)
    return Attended(found[0].transpose(1, 2), kernel, tuple(found[1:8]))


def attend_gradient(
    grad_BLhd: Tensor, query_BLhd: Tensor, key_BShd: Tensor, value_BShd: Tensor, attended: Attended
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of queries, keys and values from that of the output."""
    tensors = (grad_BLhd, query_BLhd, key_BShd, value_BShd, attended.out_BLhd)
    grad, query, key, value, out = (one.transpose(1, 2) for one in tensors)
    if attended.kernel == "plain":
        found = _plain_gradient(grad, query, key, value)
    else:
        sums, starts_q, starts_k, most_q, most_k, seed, offset = attended.saved
        if attended.kernel == "cudnn":
            found = torch.ops.aten._scaled_dot_product_cudnn_attention_backward(  # noqa: SLF001
                *(grad, query, key, value, out, sums, seed, offset, None, starts_q, starts_k, most_q, most_k),
                *(0.0, False),
            )
        else:
            found = torch.ops.aten._scaled_dot_product_flash_attention_backward(  # noqa: SLF001
                *(grad, query, key, value, out, sums, starts_q, starts_k, most_q, most_k, 0.0, False),
                *(seed, offset),
            )
    return found[0].transpose(1, 2), found[1].transpose(1, 2), found[2].transpose(1, 2)


def _plain_gradient(grad: Tensor, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
    """By torch's own differentiation, which computes the forward pass again."""
    with torch.enable_grad():
        query, key, value = (one.detach().requires_grad_() for one in (query, key, value))
        out = functional.scaled_dot_product_attention(query, key, value)
    return torch.autograd.grad(out, (query, key, value), grad)


def fastest_kernel(like_BLhd: Tensor) -> Kernel:
    """The fastest kernel that works on the tensor's device, for its number type and head width.

    cuDNN's is twice as fast as FlashAttention-2 on Hopper; both want 16-bit numbers.
    """
    if not like_BLhd.is_cuda or like_BLhd.dtype not in (torch.bfloat16, torch.float16):
        return "plain"
    place = (like_BLhd.device, like_BLhd.shape[-1])
    if place not in _TRIED:
        fast: tuple[Kernel, ...] = ("cudnn", "flash")
        working: list[Kernel] = [kernel for kernel in fast if _works(kernel, like_BLhd)]
        _TRIED[place] = working[0] if working else "plain"
    return _TRIED[place]


def _works(kernel: Kernel, like_BLhd: Tensor) -> bool:
    sample = torch.randn(1, 256, 2, like_BLhd.shape[-1], device=like_BLhd.device, dtype=like_BLhd.dtype)
    try:
        attended = attend(sample, sample, sample, kernel)
        gradients = attend_gradient(sample, sample, sample, sample, attended)
        expected = attend(sample, sample, sample, "plain").out_BLhd
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return False
    near = torch.allclose(attended.out_BLhd.float(), expected.float(), atol=0.02)
    return near and all(bool(one.isfinite().all()) for one in gradients)
