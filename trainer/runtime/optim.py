"""Optimizers for LoRA parameters."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import AdamW, Optimizer


def make_optimizer(parameters: list[Parameter], learning_rate: float, weight_decay: float) -> Optimizer:
    """AdamW over float32 parameters."""
    return AdamW(parameters, lr=learning_rate, weight_decay=weight_decay)


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Change the rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def take_step(optimizer: Optimizer, parameters: Iterable[Parameter], max_grad_norm: float) -> Tensor:
    """Clip the gradients to a global norm, step, and drop them.

    Returns:
        The norm before clipping, a scalar.
    """
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm
