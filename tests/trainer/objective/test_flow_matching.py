"""The objective against the formulas, written out in plain Python."""

import torch

from trainer.objective.flow_matching import add_noise, flow_matching_loss, velocity_target


def test_interpolation_target_and_loss_follow_the_formulas():
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(2, 3, 2, 2, 2, generator=generator)
    noise = torch.randn(2, 3, 2, 2, 2, generator=generator)
    predicted = torch.randn(2, 3, 2, 2, 2, generator=generator)
    timesteps = torch.tensor([250.0, 1000.0])

    noisy = add_noise(clean, noise, timesteps)
    loss = flow_matching_loss(predicted, velocity_target(clean, noise))

    squares = []
    for item, sigma in enumerate((0.25, 1.0)):
        flat = zip(*(x[item].flatten().tolist() for x in (clean, noise, noisy, predicted)), strict=True)
        for x0, eps, x_t, v in flat:
            assert abs(x_t - ((1 - sigma) * x0 + sigma * eps)) < 1e-6
            squares.append((v - (eps - x0)) ** 2)
    assert abs(float(loss) - sum(squares) / len(squares)) < 1e-5


def test_half_precision_inputs_are_compared_in_float32():
    clean = torch.full((1, 1, 1, 1, 1), 1.0, dtype=torch.bfloat16)
    noise = torch.full((1, 1, 1, 1, 1), 257.0, dtype=torch.float32)
    target = velocity_target(clean, noise)
    assert target.dtype is torch.float32
    assert float(flow_matching_loss(torch.zeros_like(target, dtype=torch.bfloat16), target)) == 256.0**2
