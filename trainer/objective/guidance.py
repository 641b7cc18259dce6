"""Differential guidance: a target pushed past the truth, away from the prediction."""

from torch import Tensor


def differential_guidance_target(predicted_BCTHW: Tensor, target_BCTHW: Tensor, scale: float) -> Tensor:
    """The target pushed away: prediction + scale (target - prediction), without a gradient of its own.

    With a squared loss the gradient is `scale` times the plain one and the loss scale² times, so the
    plain loss has to be reported apart. Source of the formula: ai-toolkit's setting of this name.
    """
    predicted = predicted_BCTHW.detach().float()
    return predicted + scale * (target_BCTHW.float() - predicted)
