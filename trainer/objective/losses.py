"""What a prediction costs: squared, absolute or Huber error in float32, one number an item."""

from typing import Literal

from torch import Tensor
from torch.nn import functional

LossType = Literal["mse", "mae", "huber"]


def item_losses(
    predicted_BCTHW: Tensor, target_BCTHW: Tensor, kind: LossType = "mse", huber_delta: float = 0.1
) -> Tensor:
    """The loss of each item, the mean over its channels, frames and pixels; float32 (B,).

    Args:
        predicted_BCTHW: Any float type.
        target_BCTHW: Any float type.
        kind: mse: e²; mae: |e|; huber: e² / 2 up to delta, then delta (|e| - delta / 2).
        huber_delta: Where Huber turns from squared to absolute, in units of the velocity.
    """
    predicted, target = predicted_BCTHW.float(), target_BCTHW.float()
    match kind:
        case "mae":
            errors = (predicted - target).abs()
        case "huber":
            errors = functional.huber_loss(predicted, target, reduction="none", delta=huber_delta)
        case _:
            errors = (predicted - target).square()
    return errors.flatten(1).mean(1)
