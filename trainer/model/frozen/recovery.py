"""4-bit weights with what the rounding lost, as far as a frozen low-rank branch can hold it.

The branch and the 4-bit part are found together, so that ``W - Q - up @ down`` is small where the inputs
are large: with ``a`` the RMS of each input channel over the user's own clips, they minimise
``|(W - Q - up @ down) diag(a)|``, the expected error of the output for inputs without correlation.
Nothing is downloaded and nothing trained.

How much it helps depends on the inputs. On made-up weights with a few loud input channels (`realistic`),
with a rank of the share that 64 is of 5120, four tenths of NF4's error are left; without loud channels
between six and nine tenths.

The best branch of rank R for a rest ``E`` needs no division by ``a``: with ``U`` the R leading left singular
vectors of ``E diag(a)`` it is ``U @ (U.T @ E)``.
"""

# I input width, O output width, R rank of the branch, S columns of the sketch (a little more than R)

from typing import NamedTuple

import torch
from torch import Tensor

from trainer.model.frozen.nf4 import Nf4Weight, check_width
from trainer.model.frozen.nf4_rounding import pack_for

ROUNDS = 3
"""Times that the branch and the 4-bit part are found in turn; two more gain another hundredth of the error."""
OVERSAMPLING = 16
POWER_ITERATIONS = 3
_SEED = 0


class Branch(NamedTuple):
    """A low-rank matrix ``up @ down``: up (O, R), down (R, I)."""

    up_OR: Tensor
    down_RI: Tensor

    def matrix(self) -> Tensor:
        """The whole, float32 (O, I)."""
        return self.up_OR.float() @ self.down_RI.float()


class RecoveredWeight(Nf4Weight):
    """NF4 and a side branch; ``stored`` has "down" (R, I) and "up" (O, R) too, in the computing type."""

    @property
    def side_branch(self) -> tuple[Tensor, Tensor]:
        return self.stored["down"], self.stored["up"]

    def dense(self, dtype: torch.dtype) -> Tensor:
        down_RI, up_OR = self.side_branch
        return torch.addmm(self._unpacked(dtype), up_OR.to(dtype), down_RI.to(dtype))

    def _stored_rows(self, start: int, stop: int) -> dict[str, Tensor]:
        branch = {"down": self.stored["down"], "up": self.stored["up"][start:stop]}
        return super()._stored_rows(start, stop) | branch


def side_rank(shape: tuple[int, int], rank: int) -> int:
    """The rank of the branch of a weight (O, I): what was asked for, or all that there is."""
    return min(rank, *shape)


@torch.no_grad()
def recovered(
    weight_OI: Tensor, rank: int, input_rms_I: Tensor | None = None, dtype: torch.dtype = torch.bfloat16
) -> RecoveredWeight:
    """Store a weight in 4 bits with a side branch; the same from the same values, on its device.

    Several layers with one input are best stored as one: they share ``down``.

    Args:
        weight_OI: Any float type. Takes up to five times its size in float32 meanwhile.
        rank: Of the branch, at least 1.
        input_rms_I: RMS of each input channel, any float type and device; None counts all alike.
        dtype: Of the branch.

    Raises:
        Nf4WidthError: the width is no multiple of 64.
    """
    shape = (weight_OI.shape[0], weight_OI.shape[1])
    check_width(shape)
    wide_OI = weight_OI.float()
    importance_I = _importance(input_rms_I, wide_OI)
    best: tuple[float, dict[str, Tensor], Branch] | None = None
    # Plain NF4 comes first, so that the result is never worse; then the branch takes the best part of the
    # weight itself, the 4-bit part the rest, and so on in turn.
    branch: Branch | None = None
    for turn in range(ROUNDS + 1):
        target_OI = wide_OI if branch is None else wide_OI - branch.matrix()
        packed = pack_for(target_OI, importance_I)
        rest_OI = wide_OI - Nf4Weight(shape, packed).dense(torch.float32)
        found = leading_part(rest_OI, side_rank(shape, rank), importance_I, dtype)
        error = float(torch.linalg.norm((rest_OI - found.matrix()) * importance_I))
        if best is None or error < best[0]:
            best = (error, packed, found)
        branch = leading_part(wide_OI, side_rank(shape, rank), importance_I, dtype) if turn == 0 else found
    assert best is not None
    _, packed, found = best
    return RecoveredWeight(shape, packed | {"down": found.down_RI, "up": found.up_OR})


def leading_part(matrix_OI: Tensor, rank: int, importance_I: Tensor, dtype: torch.dtype) -> Branch:
    """The best rank-R approximation of a float32 matrix, errors counted by the importance of their column.

    Found by a randomised range finder with power iterations; the random numbers are always the same.
    """
    weighted_OI = matrix_OI * importance_I
    columns = min(rank + OVERSAMPLING, *matrix_OI.shape)
    generator = torch.Generator().manual_seed(_SEED)
    sketch_IS = torch.randn(matrix_OI.shape[1], columns, generator=generator).to(matrix_OI.device)
    basis_OS = _orthonormal(weighted_OI @ sketch_IS)
    for _ in range(POWER_ITERATIONS):
        basis_OS = _orthonormal(weighted_OI @ _orthonormal(weighted_OI.T @ basis_OS))
    small_SI = basis_OS.T @ weighted_OI
    # In ascending order; in float64 because the squares spread twice as far as the singular values.
    _, turn_SS = torch.linalg.eigh(small_SI.double() @ small_SI.double().T)
    up_OR = basis_OS @ turn_SS[:, -rank:].flip(1).to(basis_OS.dtype)
    down_RI = up_OR.T @ matrix_OI
    # The factors share the scale, as those of a LoRA would: neither leaves the range of bfloat16.
    length_R = torch.linalg.norm(down_RI, dim=1).clamp_min(torch.finfo(torch.float32).tiny).sqrt()
    return Branch((up_OR * length_R).to(dtype).contiguous(), (down_RI / length_R[:, None]).to(dtype))


def _importance(input_rms_I: Tensor | None, weight_OI: Tensor) -> Tensor:
    """Positive, about one; all ones where nothing useful is known."""
    ones_I = torch.ones(weight_OI.shape[1], device=weight_OI.device)
    if input_rms_I is None:
        return ones_I
    rms_I = input_rms_I.to(ones_I)
    overall = rms_I.square().mean().sqrt()
    if not bool(torch.isfinite(overall)) or float(overall) == 0.0:
        return ones_I
    # A channel that the user's clips leave silent may speak in a preview.
    return (rms_I / overall).clamp_min(_LEAST_IMPORTANCE)


_LEAST_IMPORTANCE = 0.01


def _orthonormal(matrix: Tensor) -> Tensor:
    return torch.linalg.qr(matrix).Q
