"""The objective against the formulas, written out in plain Python."""

import pytest
import torch

from trainer.objective.flow_matching import add_noise, velocity_target
from trainer.objective.guidance import differential_guidance_target
from trainer.objective.losses import item_losses


def random_latents(*seeds: int) -> list[torch.Tensor]:
    return [torch.randn(2, 3, 2, 2, 2, generator=torch.Generator().manual_seed(seed)) for seed in seeds]


def test_interpolation_and_target_follow_the_formulas():
    clean, noise = random_latents(0, 1)
    noisy = add_noise(clean, noise, torch.tensor([250.0, 1000.0]))
    target = velocity_target(clean, noise)
    for item, sigma in enumerate((0.25, 1.0)):
        flat = zip(*(x[item].flatten().tolist() for x in (clean, noise, noisy, target)), strict=True)
        for x0, eps, x_t, v in flat:
            assert x_t == pytest.approx((1 - sigma) * x0 + sigma * eps, abs=1e-6)
            assert v == pytest.approx(eps - x0, abs=1e-6)


@pytest.mark.parametrize("kind", ["mse", "mae", "huber"])
def test_each_loss_equals_its_formula_item_by_item(kind):
    predicted, target = random_latents(2, 3)
    delta = 0.5

    def error_cost(e: float) -> float:
        if kind == "mse":
            return e * e
        if kind == "mae":
            return abs(e)
        return e * e / 2 if abs(e) <= delta else delta * (abs(e) - delta / 2)

    losses = item_losses(predicted, target, kind, delta)
    for item in range(2):
        costs = [error_cost(e) for e in (predicted[item] - target[item]).flatten().tolist()]
        assert float(losses[item]) == pytest.approx(sum(costs) / len(costs), rel=1e-5)


def test_half_precision_predictions_are_compared_in_float32():
    target = torch.full((1, 1, 1, 1, 1), 257.0)
    losses = item_losses(torch.ones_like(target, dtype=torch.bfloat16), target)
    assert losses.dtype is torch.float32
    assert float(losses) == 256.0**2


def test_differential_guidance_scales_the_gradient_and_squares_into_the_loss():
    predicted, target = random_latents(4, 5)
    plain = predicted.clone().requires_grad_()
    item_losses(plain, target).mean().backward()
    guided = predicted.clone().requires_grad_()
    loss = item_losses(guided, differential_guidance_target(guided, target, 3.0)).mean()
    loss.backward()
    torch.testing.assert_close(guided.grad, 3.0 * plain.grad)
    torch.testing.assert_close(loss.detach(), 9.0 * item_losses(predicted, target).mean())
