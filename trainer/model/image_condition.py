"""The 36 channels that an I2V expert takes: noisy latents, mask, latents of the first frame."""

# B batch, C channels, T latent frames, H/W latent height and width (h, w in sizes)

import torch
from torch import Tensor

MASK_CHANNELS = 4
"""One for each of the four pixel frames that a latent frame stands for."""


def condition_mask(latent_frames: int, height: int, width: int, like: Tensor | None = None) -> Tensor:
    """Which latent frames are given: ones (4, T, h, w) in the first, zeros (to be made) in the others.

    On the device and in the number type of `like`; without it on the CPU, in float32.
    """
    # Made where it is used: sending it there would make the host wait.
    options = {} if like is None else {"device": like.device, "dtype": like.dtype}
    mask_CTHW = torch.zeros(MASK_CHANNELS, latent_frames, height, width, **options)
    mask_CTHW[:, 0] = 1.0
    return mask_CTHW


def expert_input(noisy_BCTHW: Tensor, condition_BCTHW: Tensor) -> Tensor:
    """Join noisy latents (B, 16, T, H, W), mask and condition latents to (B, 36, T, H, W), in this order.

    Raises:
        ValueError: noisy latents and condition are not of one shape.
    """
    if noisy_BCTHW.shape != condition_BCTHW.shape:
        raise ValueError(
            f"noisy latents {tuple(noisy_BCTHW.shape)} and condition {tuple(condition_BCTHW.shape)} differ"
        )
    batch, _, frames, height, width = noisy_BCTHW.shape
    mask_CTHW = condition_mask(frames, height, width, noisy_BCTHW)
    return torch.cat([noisy_BCTHW, mask_CTHW.expand(batch, -1, -1, -1, -1), condition_BCTHW], dim=1)
