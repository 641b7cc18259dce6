import pytest
import torch

from trainer.model.experts import ExpertNotLoadedError, Experts
from trainer.model.image_condition import expert_input
from trainer.model.layouts import open_base
from trainer.model.load import load_expert
from trainer.model.lora import LoraSettings, add_lora, lora_parameters, lora_strength
from trainer.protocol.job import Expert

CPU = torch.device("cpu")


def make_experts(folder, dtype=torch.float32, lora=False, **options):
    base = open_base(str(folder))
    transformers = {expert: load_expert(base, expert, dtype, CPU) for expert in Expert}
    if lora:
        for seed, transformer in enumerate(transformers.values()):
            add_lora(transformer, LoraSettings(rank=4), seed)
            # B at zero would leave A without gradients.
            generator = torch.Generator().manual_seed(seed)
            with torch.no_grad():
                for parameter in lora_parameters(transformer):
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return Experts(transformers, base.boundary_ratio, **options)


def some_inputs(batch=2, frames=3):
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(batch, 16, frames, 4, 6, generator=generator)
    condition = torch.randn(batch, 16, frames, 4, 6, generator=generator)
    text = torch.randn(batch, 512, 64, generator=generator)
    text[:, 7:] = 0
    return noisy, condition, torch.linspace(920.5, 990.25, batch), text


def gradients(experts, expert):
    prediction = experts.predict(expert, *some_inputs())
    prediction.float().square().mean().backward()
    grads = [parameter.grad for parameter in lora_parameters(experts.transformer(expert))]
    assert all(grad is not None and grad.abs().max() > 0 for grad in grads)
    return grads


@pytest.mark.parametrize(
    ("timestep", "expert"),
    [
        (1000.0, Expert.HIGH),
        (900.0, Expert.HIGH),
        (899.999, Expert.LOW),
        (875.0, Expert.LOW),
        (0.0, Expert.LOW),
    ],
)
def test_the_boundary_itself_belongs_to_the_high_noise_expert(timestep, expert):
    assert Experts({}, 0.9).expert_for(timestep) is expert


@pytest.mark.parametrize("expert", list(Expert))
def test_each_expert_predicts_what_its_transformer_says_to_the_36_channels(miniature_folder, expert):
    experts = make_experts(miniature_folder)
    noisy, condition, timesteps, text = some_inputs()
    with torch.no_grad():
        expected = experts.transformers[expert](expert_input(noisy, condition), timesteps, text).sample
        predicted = experts.predict(expert, noisy, condition, timesteps, text)
    assert predicted.shape == noisy.shape
    assert torch.equal(predicted, expected)


def test_an_item_is_predicted_alike_alone_and_in_a_batch(miniature_folder):
    experts = make_experts(miniature_folder)
    inputs = some_inputs()
    with torch.no_grad():
        both = experts.predict(Expert.LOW, *inputs)
        second = experts.predict(Expert.LOW, *(tensor[1:] for tensor in inputs))
    assert torch.allclose(both[1:], second, atol=1e-5)


def test_the_order_of_the_channels_matters_to_the_model(miniature_folder):
    experts = make_experts(miniature_folder)
    noisy, condition, timesteps, text = some_inputs()
    with torch.no_grad():
        right = experts.predict(Expert.HIGH, noisy, condition, timesteps, text)
        swapped = experts.predict(Expert.HIGH, condition, noisy, timesteps, text)
    assert (right - swapped).abs().mean() > 0.01


@pytest.mark.parametrize("expert", list(Expert))
def test_gradient_checkpointing_changes_no_gradient(miniature_folder, expert):
    plain = gradients(make_experts(miniature_folder, lora=True), expert)
    saving = gradients(make_experts(miniature_folder, lora=True, gradient_checkpointing=True), expert)
    for one, other in zip(plain, saving, strict=True):
        assert torch.equal(one, other)


def test_gradient_checkpointing_computes_the_blocks_twice(miniature_folder):
    calls = []
    experts = make_experts(miniature_folder, lora=True, gradient_checkpointing=True)
    block = experts.transformer(Expert.HIGH).blocks[0]
    block.norm1.register_forward_hook(lambda *_: calls.append(1))
    gradients(experts, Expert.HIGH)
    assert len(calls) == 2


def test_at_half_strength_checkpointed_gradients_are_right_if_backward_runs_inside(miniature_folder):
    results = []
    for checkpointing in (False, True):
        experts = make_experts(miniature_folder, lora=True, gradient_checkpointing=checkpointing)
        with lora_strength(experts.transformer(Expert.LOW), 0.5):
            results.append(gradients(experts, Expert.LOW))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_a_gradient_is_the_slope_of_the_loss(miniature_folder):
    experts = make_experts(miniature_folder, lora=True)
    experts.transformer(Expert.HIGH).double()
    parameter = lora_parameters(experts.transformer(Expert.HIGH))[5]
    inputs = some_inputs(batch=1, frames=1)

    def loss():
        return experts.predict(Expert.HIGH, *inputs).square().mean()

    loss().backward()
    step = torch.zeros_like(parameter)
    step[1, 2] = 1e-3
    with torch.no_grad():
        parameter += step
        above = loss()
        parameter -= 2 * step
        below = loss()
    slope = (above - below) / 2e-3
    # The model rounds to float32 inside (norms, modulation), hence the tolerance.
    assert parameter.grad[1, 2].item() == pytest.approx(slope.item(), rel=0.05, abs=1e-6)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_bfloat16_predicts_and_trains_close_to_float32(miniature_folder, checkpointing):
    exact = make_experts(miniature_folder, lora=True)
    rounded = make_experts(miniature_folder, torch.bfloat16, lora=True, gradient_checkpointing=checkpointing)
    inputs = some_inputs()
    with torch.no_grad():
        expected = exact.predict(Expert.HIGH, *inputs)
        predicted = rounded.predict(Expert.HIGH, *inputs)
    assert predicted.dtype == torch.bfloat16
    assert (predicted.float() - expected).norm() < 0.03 * expected.norm()
    given, wanted = gradients(rounded, Expert.HIGH), gradients(exact, Expert.HIGH)
    assert {gradient.dtype for gradient in given} == {torch.float32}
    given, wanted = (torch.cat([one.flatten() for one in side]) for side in (given, wanted))
    assert (given - wanted).norm() < 0.05 * wanted.norm()


def test_training_one_expert_leaves_the_other_and_the_base_alone(miniature_folder):
    experts = make_experts(miniature_folder, lora=True)
    gradients(experts, Expert.HIGH)
    assert all(one.grad is None for one in lora_parameters(experts.transformer(Expert.LOW)))
    high = experts.transformer(Expert.HIGH)
    trained = {id(parameter) for parameter in lora_parameters(high)}
    assert all(one.grad is None for one in high.parameters() if id(one) not in trained)


def test_an_expert_that_is_not_loaded_is_named(miniature_folder):
    base = open_base(str(miniature_folder))
    experts = Experts({Expert.HIGH: load_expert(base, Expert.HIGH, torch.float32, CPU)}, 0.9)
    with pytest.raises(ExpertNotLoadedError, match="low-noise expert is needed"):
        experts.predict(Expert.LOW, *some_inputs())
