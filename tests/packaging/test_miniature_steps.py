"""A step is AdamW's on gradients of norm 1 at most; recorded steps teach what ordinary steps teach."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def steps():
    import miniature_steps

    return miniature_steps


def learner_of(steps, module, *, graphs=False, said=None):
    habit = steps.Habit(graphs=graphs, quiet=nullcontext(), report=(said if said is not None else []).append)
    return steps.Learner(module, habit, betas=(0.9, 0.99), weight_decay=0.01)


def test_a_step_clips_the_gradient_and_moves_by_the_given_rate(steps):
    module, twin = nn.Linear(4, 2), nn.Linear(4, 2)
    twin.load_state_dict(module.state_dict())
    inputs = torch.full((3, 4), 50.0)
    learner = learner_of(steps, module)
    optimizer = torch.optim.AdamW(twin.parameters(), betas=(0.9, 0.99), weight_decay=0.01)
    for rate in (0.1, 0.01):
        values = learner.step(
            "only", (inputs,), rate, lambda given: (module(given).square().mean(), torch.tensor(7.0))
        )
        loss = twin(inputs).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        assert values.tolist() == [loss.item(), 7.0]
    assert torch.equal(module.weight, twin.weight)


def test_a_step_whose_gradient_is_not_finite_changes_nothing(steps):
    module = nn.Linear(4, 2)
    before = module.weight.detach().clone()
    learner = learner_of(steps, module)
    learner.step("only", (torch.full((1, 4), float("inf")),), 0.1, lambda given: (module(given).sum(),))
    assert torch.equal(module.weight, before)
    learner.step("only", (torch.ones(1, 4),), 0.1, lambda given: (module(given).sum(),))
    assert not torch.equal(module.weight, before)


@pytest.mark.gpu
def test_recorded_steps_teach_what_ordinary_steps_teach(steps):
    device, said = torch.device("cuda"), []
    weights = []
    for graphs in (False, True):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1)).to(device)
        learner = learner_of(steps, module, graphs=graphs, said=said)
        goal = torch.linspace(-1.0, 1.0, 8, device=device)

        def compute(given: torch.Tensor, module=module, goal=goal) -> tuple[torch.Tensor]:
            return ((module(given)[:, 0] - given @ goal).square().mean(),)

        losses = []
        for step in range(200):
            inputs = torch.randn(64, 8, generator=torch.Generator().manual_seed(step)).to(device)
            losses.append(float(learner.step("only", (inputs,), 3e-3, compute)[0]))
        weights.append(losses)
    assert said == []
    ordinary, recorded = (sum(losses[-20:]) / 20 for losses in weights)
    assert recorded < 0.3 * weights[1][0]
    assert recorded == pytest.approx(ordinary, rel=0.5)
