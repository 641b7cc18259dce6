"""Weights and inputs that are made up, but hard to quantize in the ways that trained ones are.

Random Gaussian weights flatter no method and hurt none: they have no spectrum to speak of. What is made
here follows what has been published about trained networks:

- Singular values fall as a power law. Martin and Mahoney (JMLR 2021) find eigenvalue densities of
  ``W.T @ W`` with tails of exponent 2 to 4 in well-trained networks; an exponent of A means that the k-th
  singular value goes as ``k ** (-1 / (2 * (A - 1)))``: k^-0.5 for 2, k^-0.25 for 3, k^-0.17 for 4. The
  middle of well-trained networks, 2.5, is the default here. A weight is a Gaussian matrix times that
  diagonal times another Gaussian matrix.
- Entries have heavier tails than a Gaussian, and a few columns are larger than the others.
- Inputs have a few channels, the same for every token, that are about twenty times as large as the rest
  (Dettmers et al., LLM.int8, 2022; Xiao et al., SmoothQuant, 2023; Li et al., SVDQuant, 2024, for
  diffusion transformers); the rest differ by a log-normal factor, and a part of their variance lies in few
  directions.

None of it was compared with the weights of Wan itself.
"""

# N tokens, I input width, O output width, R the smaller of I and O

import torch
from torch import Tensor

SPECTRUM = 1 / 3
"""Exponent of the singular values: k ** -SPECTRUM."""
LOUD_SHARE = 0.004
"""Of channels with outliers."""
LOUD_FACTOR = 20.0
CHANNEL_SPREAD = 0.6
"""Standard deviation of the logarithm of a channel's size."""
_TAIL_SHARE = 0.001
_TAIL_FACTOR = 4.0
_COLUMN_FACTOR = 3.0
_DIRECTIONS = 16
_SHARE_IN_DIRECTIONS = 0.3


def realistic_weight(
    shape: tuple[int, int], generator: torch.Generator, spectrum: float = SPECTRUM
) -> Tensor:
    """A weight (O, I), float32 on the generator's device; its outputs are about as large as its inputs.

    Args:
        shape: O and I.
        generator: Of the random numbers.
        spectrum: The k-th singular value goes as ``k ** -spectrum``; 0 is a product of two Gaussians.
    """
    device = generator.device
    outputs, inputs = shape
    values = min(shape)
    sizes_R = torch.arange(1, values + 1, device=device) ** -float(spectrum)
    left_OR = torch.randn(outputs, values, generator=generator, device=device)
    weight_OI = (left_OR * sizes_R) @ torch.randn(values, inputs, generator=generator, device=device)
    is_tail_OI = torch.rand(outputs, inputs, generator=generator, device=device) < _TAIL_SHARE
    weight_OI[is_tail_OI] *= _TAIL_FACTOR
    weight_OI[:, _loud(inputs, generator)] *= _COLUMN_FACTOR
    return weight_OI / (weight_OI.std() * inputs**0.5)


def channel_sizes(channels: int, generator: torch.Generator) -> Tensor:
    """How large each channel of an activation is, a few of them many times larger; float32, median one."""
    sizes = torch.exp(torch.randn(channels, generator=generator, device=generator.device) * CHANNEL_SPREAD)
    sizes[_loud(channels, generator)] *= LOUD_FACTOR
    return sizes


def realistic_inputs(
    tokens: int, sizes_I: Tensor, directions_KI: Tensor, generator: torch.Generator
) -> Tensor:
    """Inputs (N, I) of a linear, float32.

    Args:
        tokens: N.
        sizes_I: Of the channels, from `channel_sizes`.
        directions_KI: That the tokens have in common, from `common_directions`.
        generator: Of the random numbers.
    """
    device = generator.device
    own_NI = torch.randn(tokens, sizes_I.numel(), generator=generator, device=device)
    common_NK = torch.randn(tokens, directions_KI.shape[0], generator=generator, device=device)
    common_NI = common_NK @ directions_KI
    share = _SHARE_IN_DIRECTIONS
    return ((1 - share) ** 0.5 * own_NI + share**0.5 * common_NI) * sizes_I


def common_directions(channels: int, generator: torch.Generator) -> Tensor:
    """Directions (K, I) that make up a part of the variance of `realistic_inputs`."""
    directions = torch.randn(_DIRECTIONS, channels, generator=generator, device=generator.device)
    return directions / _DIRECTIONS**0.5


def _loud(channels: int, generator: torch.Generator) -> Tensor:
    """The indices of the channels with outliers."""
    count = max(2, round(channels * LOUD_SHARE))
    return torch.randperm(channels, generator=generator, device=generator.device)[:count]
