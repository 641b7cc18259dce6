"""NF4 rounded for the inputs that a weight meets: peaks chosen so that the columns that count err least.

bitsandbytes takes the largest of 64 values as their peak, which serves all columns alike. A somewhat
smaller or larger peak often gives less error where the inputs are large; the format stays the same.
"""

# I input width, O output width, M blocks of 64 values

import torch
from torch import Tensor

from trainer.model.frozen.nf4 import BLOCK

# The code book of NF4: quantiles of a normal distribution, with an exact zero (QLoRA, appendix E).
CODE_BOOK = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)

PEAK_FACTORS = (1.0, 1.12, 1.06, 0.96, 0.92, 0.88, 0.84, 0.8, 0.76, 0.72)
"""What the largest value is multiplied with, in trial; the first is bitsandbytes' own choice."""

_VALUES_AT_ONCE = 1 << 23
"""Bounds the memory of the search: about ten times this in float32."""


def pack_for(weight_OI: Tensor, importance_I: Tensor) -> dict[str, Tensor]:
    """The stored tensors of `Nf4Weight`, with the squared error of each column counted by its importance.

    Never a larger error, so counted, than that of bitsandbytes' rounding.

    Args:
        weight_OI: float32, I a multiple of 64.
        importance_I: float32, positive; the error is multiplied with it before it is squared.
    """
    rows_at_once = max(1, _VALUES_AT_ONCE // weight_OI.shape[1])
    parts = [_pack_rows(rows, importance_I) for rows in weight_OI.split(rows_at_once)]
    return {name: torch.cat([part[name] for part in parts]) for name in ("packed", "peaks")}


def _pack_rows(weight_OI: Tensor, importance_I: Tensor) -> dict[str, Tensor]:
    book = torch.tensor(CODE_BOOK, device=weight_OI.device)
    borders = (book[1:] + book[:-1]) / 2
    values_M64 = weight_OI.reshape(-1, BLOCK)
    count_M64 = importance_I.expand_as(weight_OI).reshape(-1, BLOCK)
    largest_M1 = values_M64.abs().amax(1, keepdim=True)
    best_M1 = torch.full_like(largest_M1, torch.inf)
    peak_M1 = largest_M1
    codes_M64 = torch.zeros_like(values_M64, dtype=torch.uint8)
    for factor in PEAK_FACTORS:
        tried_M1 = largest_M1 * factor
        # A block of zeros has no peak to divide by.
        tried_codes_M64 = torch.bucketize(
            values_M64 / tried_M1.clamp_min(torch.finfo(torch.float32).tiny), borders, out_int32=True
        )
        error_M64 = (book[tried_codes_M64] * tried_M1 - values_M64) * count_M64
        error_M1 = error_M64.square().sum(1, keepdim=True)
        is_better_M1 = error_M1 < best_M1
        best_M1 = torch.where(is_better_M1, error_M1, best_M1)
        peak_M1 = torch.where(is_better_M1, tried_M1, peak_M1)
        codes_M64 = torch.where(is_better_M1, tried_codes_M64.to(torch.uint8), codes_M64)
    pairs = codes_M64.view(-1, 2)
    return {"packed": (pairs[:, 0] << 4) | pairs[:, 1], "peaks": peak_M1.flatten()}
