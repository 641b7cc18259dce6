"""Optimizers for LoRA parameters, all from libraries, and the learning rates that suit them."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import AdamW, Optimizer

from trainer.errors import TrainerError

OptimizerKind = Literal["adamw8bit", "adamw", "adafactor", "prodigy", "lion"]

USUAL_LEARNING_RATES: dict[OptimizerKind, float] = {
    "adamw8bit": 1e-4,
    "adamw": 1e-4,
    "adafactor": 1e-4,
    "prodigy": 1.0,
    "lion": 2e-5,
}
"""Where to begin with each: Prodigy takes a factor of the step that it finds, and Lion, whose every
update has full size, a fraction of AdamW's rate."""

EPS_8BIT = 1e-6
"""Below the square root of the second moment. Quantized to 8 bits, a small second moment becomes zero,
and the step that it should have damped is divided by this alone: at AdamW's usual 1e-8 a single such
weight could jump by a hundred times the learning rate."""


class OptimizerMissingError(TrainerError):
    """The package that an optimizer comes from is not installed."""

    kind = "optimizer_missing"

    def __init__(self, optimizer: str, package: str) -> None:
        super().__init__(
            f"The optimizer {optimizer} comes from the package {package}, which cannot be loaded.",
            f"Install {package} into the trainer's Python, or choose adamw as training.optimizer.",
        )


def make_optimizer(
    kind: OptimizerKind, parameters: list[Parameter], learning_rate: float, weight_decay: float
) -> Optimizer:
    """The optimizer by the job's name for it.

    Weight decay is decoupled (the learning rate times the decay, off the weight) in all of them.

    Args:
        kind: "adamw8bit" and "lion" from bitsandbytes, on CPUs too; "adamw" from PyTorch; "adafactor"
            from transformers; "prodigy" from prodigyopt.
        parameters: Float32, trained together.
        learning_rate: For Prodigy a factor of the step size that it finds itself, normally 1; see
            `doubtful_learning_rate`.
        weight_decay: At least 0.

    Raises:
        OptimizerMissingError: the optimizer's package is not installed.
    """
    match kind:
        case "adamw8bit":
            return _adamw_8bit(parameters, learning_rate, weight_decay)
        case "adamw":
            return AdamW(parameters, lr=learning_rate, weight_decay=weight_decay)
        case "adafactor":
            return _adafactor(parameters, learning_rate, weight_decay)
        case "prodigy":
            return _prodigy(parameters, learning_rate, weight_decay)
        case "lion":
            return _lion(parameters, learning_rate, weight_decay)


def doubtful_learning_rate(kind: OptimizerKind, learning_rate: float) -> str:
    """A sentence for the user when the rate is orders of magnitude off for this optimizer; else empty."""
    usual = USUAL_LEARNING_RATES[kind]
    if kind == "prodigy" and learning_rate < 0.1:
        return (
            "Prodigy finds its step size itself and multiplies it by the learning rate: "
            f"at {learning_rate:g} it hardly learns. Set the learning rate to {usual:g}."
        )
    if kind != "prodigy" and learning_rate > 100 * usual:
        return (
            f"A learning rate of {learning_rate:g} is far above what {kind} usually takes ({usual:g}): "
            "the loss will probably diverge."
        )
    return ""


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Change the rate of every parameter group; for Prodigy, its factor."""
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


def drop_gradients(parameters: Iterable[Parameter]) -> None:
    """Forget the gradients of a step that will not be taken."""
    for parameter in parameters:
        parameter.grad = None


# The packages are imported where they are used: a run with one optimizer needs none of the others'.


def _adamw_8bit(parameters: list[Parameter], learning_rate: float, weight_decay: float) -> Optimizer:
    try:
        from bitsandbytes.optim.adamw import AdamW8bit
    except ImportError as error:
        raise OptimizerMissingError("adamw8bit", "bitsandbytes") from error
    return AdamW8bit(parameters, lr=learning_rate, eps=EPS_8BIT, weight_decay=weight_decay)


def _lion(parameters: list[Parameter], learning_rate: float, weight_decay: float) -> Optimizer:
    try:
        from bitsandbytes.optim.lion import Lion
    except ImportError as error:
        raise OptimizerMissingError("lion", "bitsandbytes") from error
    return Lion(parameters, lr=learning_rate, weight_decay=weight_decay)  # pyright: ignore[reportArgumentType]


def _adafactor(parameters: list[Parameter], learning_rate: float, weight_decay: float) -> Optimizer:
    """Adafactor at a fixed rate, without steps relative to time or to the weights' size.

    PyTorch's own always scales its steps by the weights' size, so that the half of a LoRA that begins
    at zero would learn a thousand times slower than asked.
    """
    try:
        from transformers.optimization import Adafactor
    except ImportError as error:
        raise OptimizerMissingError("adafactor", "transformers") from error
    return Adafactor(
        parameters,
        lr=learning_rate,
        weight_decay=weight_decay,
        relative_step=False,
        scale_parameter=False,
        warmup_init=False,
    )


def _prodigy(parameters: list[Parameter], learning_rate: float, weight_decay: float) -> Optimizer:
    """Prodigy as its authors advise for diffusion models.

    Bias correction spares the first steps, and the safeguard keeps a warm-up from spoiling its
    estimate of the step size.
    """
    try:
        from prodigyopt import Prodigy
    except ImportError as error:
        raise OptimizerMissingError("prodigy", "prodigyopt") from error
    optimizer = Prodigy(parameters, lr=learning_rate, use_bias_correction=True, safeguard_warmup=True)
    for group in optimizer.param_groups:
        # Set afterwards: given to the constructor, it prints a line.
        group["weight_decay"] = weight_decay
    return optimizer
