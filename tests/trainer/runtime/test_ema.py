"""The average of weights: its numbers, its state, and weights that come back to the bit."""

import numpy as np
import pytest
import torch

from trainer.runtime.ema import WeightAverage


def weights(dtype=torch.float32) -> dict[str, torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    return {
        "a": torch.nn.Parameter(torch.randn(5, 4, generator=generator).to(dtype)),
        "b": torch.nn.Parameter(torch.randn(3, generator=generator).to(dtype)),
    }


def change(parameters, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.add_(torch.randn(parameter.shape, generator=generator).to(parameter.dtype))


def test_the_average_is_the_recurrence_from_a_copy_of_the_first_weights():
    parameters = weights()
    average = WeightAverage(parameters, 0.9)
    expected = {name: parameter.detach().double().numpy().copy() for name, parameter in parameters.items()}
    for seed in range(6):
        change(parameters, seed)
        average.update()
        for name, parameter in parameters.items():
            expected[name] = 0.9 * expected[name] + 0.1 * parameter.detach().double().numpy()
    state = average.state()
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    for name, value in expected.items():
        np.testing.assert_allclose(state[name].numpy(), value, rtol=1e-5, atol=1e-6)


def test_with_a_decay_of_zero_the_average_is_the_newest_weights():
    parameters = weights()
    average = WeightAverage(parameters, 0.0)
    change(parameters, 1)
    average.update()
    assert torch.equal(average.state()["a"], parameters["a"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_weights_come_back_to_the_bit_also_after_an_error(dtype):
    parameters = weights(dtype)
    average = WeightAverage(parameters, 0.9)
    change(parameters, 1)
    average.update()
    with torch.no_grad():
        parameters["b"][0] = -0.0
        parameters["b"][1] = float("nan")
    before = {
        name: parameter.detach().clone().view(torch.uint8).clone() for name, parameter in parameters.items()
    }
    state = average.state()
    with average.swapped_in():
        for name, parameter in parameters.items():
            assert torch.equal(parameter, state[name].to(dtype))
    with pytest.raises(KeyError), average.swapped_in():
        raise KeyError
    for name, parameter in parameters.items():
        assert torch.equal(parameter.detach().view(torch.uint8), before[name])
        assert torch.equal(average.state()[name], state[name])


def test_a_state_loaded_into_a_fresh_average_goes_on_to_the_bit():
    parameters = weights()
    average = WeightAverage(parameters, 0.99)
    change(parameters, 1)
    average.update()
    state = average.state()
    other = WeightAverage(parameters, 0.99)
    other.load_state(state)
    change(parameters, 2)
    average.update()
    other.update()
    assert all(torch.equal(average.state()[name], other.state()[name]) for name in parameters)


def test_after_a_restart_the_average_knows_nothing_of_the_weights_before():
    parameters = weights()
    average = WeightAverage(parameters, 0.99)
    change(parameters, 1)
    average.restart()
    assert torch.equal(average.state()["a"], parameters["a"])
    change(parameters, 2)
    assert not torch.equal(average.state()["a"], parameters["a"])


def test_a_state_is_a_copy_and_one_that_does_not_fit_changes_nothing():
    parameters = weights()
    average = WeightAverage(parameters, 0.5)
    state = average.state()
    state["a"].zero_()
    for wrong in ({"a": state["a"]}, {**state, "b": torch.zeros(4)}, {**state, "c": torch.zeros(1)}):
        with pytest.raises(ValueError, match="other weights"):
            average.load_state(wrong)
    assert torch.equal(average.state()["a"], parameters["a"])
