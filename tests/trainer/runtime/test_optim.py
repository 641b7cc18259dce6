"""Each optimizer takes the step that its formula says, learns from a zero LoRA half, and can be missing."""

import math
import sys
from typing import get_args

import numpy as np
import pytest
import torch

from trainer.runtime.optim import (
    EPS_8BIT,
    USUAL_LEARNING_RATES,
    OptimizerKind,
    OptimizerMissingError,
    doubtful_learning_rate,
    make_optimizer,
    set_learning_rate,
    take_step,
)

KINDS = get_args(OptimizerKind)


def parameter(*shape: int, seed: int = 0) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))


def stepped(kind, weight, gradients, learning_rate, weight_decay=0.0):
    """The weight after a step for each gradient, as float64."""
    parameter = torch.nn.Parameter(torch.tensor(weight, dtype=torch.float32))
    optimizer = make_optimizer(kind, [parameter], learning_rate, weight_decay)
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient, dtype=torch.float32)
        optimizer.step()
    return parameter.detach().double().numpy()


WEIGHT = np.array([[0.5, -1.0, 2.0], [0.1, 0.2, -0.3]])
GRADIENTS = [
    np.array([[0.1, -0.2, 0.3], [1.0, -2.0, 0.5]]),
    np.array([[-0.3, 0.1, 0.2], [0.4, 0.5, -0.6]]),
]


@pytest.mark.parametrize(("kind", "eps"), [("adamw", 1e-8), ("adamw8bit", EPS_8BIT)])
def test_adamw_follows_its_formula(kind, eps):
    weight, first, second = WEIGHT.copy(), np.zeros_like(WEIGHT), np.zeros_like(WEIGHT)
    for count, gradient in enumerate(GRADIENTS, start=1):
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        weight *= 1 - 1e-2 * 0.1
        weight -= 1e-2 * (first / (1 - 0.9**count)) / (np.sqrt(second / (1 - 0.999**count)) + eps)
    # bitsandbytes decays after the step; the two differ by lr * decay * update.
    np.testing.assert_allclose(stepped(kind, WEIGHT, GRADIENTS, 1e-2, 0.1), weight, atol=4e-5)


def test_lion_follows_its_formula():
    weight, momentum = WEIGHT.copy(), np.zeros_like(WEIGHT)
    for gradient in GRADIENTS:
        weight = weight * (1 - 1e-2 * 0.1) - 1e-2 * np.sign(0.9 * momentum + 0.1 * gradient)
        momentum = 0.99 * momentum + 0.01 * gradient
    np.testing.assert_allclose(stepped("lion", WEIGHT, GRADIENTS, 1e-2, 0.1), weight, atol=4e-5)


def test_adafactor_takes_the_rate_as_it_is_whatever_the_weights_size():
    weight, row, column = WEIGHT.copy(), np.zeros(2), np.zeros(3)
    for count, gradient in enumerate(GRADIENTS, start=1):
        beta = 1 - count**-0.8
        row = beta * row + (1 - beta) * (gradient**2).mean(axis=1)
        column = beta * column + (1 - beta) * (gradient**2).mean(axis=0)
        update = gradient / np.sqrt(np.outer(row, column) / row.mean())
        update /= max(1.0, math.sqrt((update**2).mean()))
        weight = weight * (1 - 1e-2 * 0.1) - 1e-2 * update
    np.testing.assert_allclose(stepped("adafactor", WEIGHT, GRADIENTS, 1e-2, 0.1), weight, atol=1e-6)

    from_zero = stepped("adafactor", np.zeros((2, 3)), GRADIENTS[:1], 1e-2)
    assert math.isclose(math.sqrt((from_zero**2).mean()), 1e-2, rel_tol=0.2)


@pytest.mark.parametrize("kind", KINDS)
def test_every_optimizer_learns_a_product_of_which_one_factor_begins_at_zero(kind):
    down = parameter(4, 32, seed=1)
    up = torch.nn.Parameter(torch.zeros(48, 4))
    target = parameter(48, 4, seed=2).detach() @ down.detach() * 0.1
    rate = 1.0 if kind == "prodigy" else 1e-2
    optimizer = make_optimizer(kind, [down, up], rate, 0.0)
    losses = []
    for _ in range(120):
        loss = (up @ down - target).square().mean()
        loss.backward()
        take_step(optimizer, [down, up], max_grad_norm=1.0)
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
    assert down.grad is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_rate_set_later_is_the_one_that_steps_are_taken_with(kind):
    weight = parameter(8, 8)
    optimizer = make_optimizer(kind, [weight], 1e-2, 0.0)
    for rate in (1e-2, 0.0):
        set_learning_rate(optimizer, rate)
        before = weight.detach().clone()
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        assert torch.equal(before, weight) == (rate == 0.0)


@pytest.mark.parametrize("kind", ["adamw8bit", "adamw", "adafactor", "lion"])
def test_weight_decay_is_the_rate_times_the_decay_off_the_weight(kind):
    decayed = stepped(kind, WEIGHT, [np.zeros_like(WEIGHT)], 0.1, 0.5)
    np.testing.assert_allclose(decayed, WEIGHT * 0.95, rtol=1e-6)


def test_prodigy_decays_weights_too_and_prints_nothing(capfd):
    plain = stepped("prodigy", WEIGHT, GRADIENTS * 10, 1.0)
    decayed = stepped("prodigy", WEIGHT, GRADIENTS * 10, 1.0, 5.0)
    assert not np.array_equal(plain, decayed)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("kind", "module", "package"),
    [
        ("adamw8bit", "bitsandbytes.optim.adamw", "bitsandbytes"),
        ("lion", "bitsandbytes.optim.lion", "bitsandbytes"),
        ("prodigy", "prodigyopt", "prodigyopt"),
        ("adafactor", "transformers.optimization", "transformers"),
    ],
)
def test_a_missing_library_is_named(monkeypatch, kind, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(OptimizerMissingError, match=rf"{kind} comes from the package {package}") as caught:
        make_optimizer(kind, [parameter(2, 2)], 1e-4, 0.0)
    assert "adamw" in caught.value.hint


def test_a_rate_far_from_the_optimizers_own_is_doubted():
    assert all(doubtful_learning_rate(kind, rate) == "" for kind, rate in USUAL_LEARNING_RATES.items())
    assert "Set the learning rate to 1." in doubtful_learning_rate("prodigy", 1e-4)
    assert "diverge" in doubtful_learning_rate("adamw", 1.0)
    assert doubtful_learning_rate("adamw", 1e-3) == ""
