"""A frozen linear inside plain PyTorch and below peft's layers."""

import copy

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from peft import LoKrConfig, LoraConfig, inject_adapter_in_model
from torch import nn
from torch.utils.checkpoint import checkpoint

from trainer.model.frozen.linear import FrozenLinear, described_weights
from trainer.model.frozen.nf4 import Nf4Weight
from trainer.model.frozen.packing import PackedBlock
from trainer.model.frozen.quantizer import quantized
from trainer.model.lora import LoraSettings, add_lora, lora_dropout, lora_parameters

MODES = ["none", "float8", "nf4", "nf4_recovered"]


def some(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def frozen_of(mode, shape=(96, 128), seed=0):
    weight = some(*shape, seed=seed) / shape[1] ** 0.5
    return quantized(weight, mode, recovery_rank=8, dtype=torch.float32)


def plain_twin(linear):
    """An ordinary linear with the same values."""
    twin = nn.Linear(linear.in_features, linear.out_features, bias=linear.bias is not None)
    with torch.no_grad():
        twin.weight.copy_(linear.weight)
        if linear.bias is not None:
            twin.bias.copy_(linear.bias)
    return twin.requires_grad_(False)


@pytest.mark.parametrize("shape", [(128,), (5, 128), (2, 5, 128), (0, 128), (2, 0, 128)])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_it_computes_what_an_ordinary_linear_computes(mode, has_bias, shape):
    linear = FrozenLinear(frozen_of(mode), some(96, seed=1) if has_bias else None, dtype=torch.float32)
    twin = plain_twin(linear)
    x = some(*shape, seed=2).requires_grad_()
    other_x = x.detach().clone().requires_grad_()
    grad = some(*shape[:-1], 96, seed=3)
    found, wanted = linear(x), twin(other_x)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    found.backward(grad)
    wanted.backward(grad)
    torch.testing.assert_close(x.grad, other_x.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_linears_that_share_a_weight_compute_with_their_own_rows(mode):
    whole = frozen_of(mode)
    parts = [
        FrozenLinear(whole, start=start, stop=stop, dtype=torch.float32)
        for start, stop in ((0, 32), (32, 80), (80, 96))
    ]
    assert [part.out_features for part in parts] == [32, 48, 16]
    x = some(4, 128, seed=1)
    together = FrozenLinear(whole, dtype=torch.float32)(x)
    torch.testing.assert_close(torch.cat([part(x) for part in parts], 1), together, atol=1e-4, rtol=1e-4)
    assert torch.equal(torch.cat([part.weight for part in parts]), whole.dense(torch.float32))
    for part in parts:
        own_x = x.clone().requires_grad_()
        grad = some(4, part.out_features, seed=2)
        part(own_x).backward(grad)
        torch.testing.assert_close(own_x.grad, grad @ part.weight, atol=1e-4, rtol=1e-4)


def test_the_weight_may_move_between_the_passes():
    whole = frozen_of("nf4_recovered")
    linear = FrozenLinear(whole, start=32, stop=96, dtype=torch.float32)
    x = some(4, 128, seed=1).requires_grad_()
    wanted = torch.autograd.grad(linear(x).sum(), x)[0]
    out = linear(x)
    first_place = {name: tensor.clone() for name, tensor in whole.stored.items()}
    for tensor in whole.stored.values():
        tensor.zero_()
    whole.rebind(first_place)
    assert torch.equal(torch.autograd.grad(out.sum(), x)[0], wanted)
    whole.rebind(frozen_of("nf4_recovered", seed=5).stored)
    assert not torch.equal(linear(x), out)


def test_a_packed_block_serves_its_linears():
    whole = frozen_of("nf4_recovered")
    linear = FrozenLinear(whole, start=32, stop=96, dtype=torch.float32)
    before = linear(some(4, 128))
    PackedBlock([whole], pin=False)
    assert torch.equal(linear(some(4, 128)), before)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_gives_the_same_gradients(use_reentrant):
    linear = FrozenLinear(frozen_of("nf4_recovered"), some(96, seed=1), dtype=torch.float32)
    layers = nn.Sequential(linear, nn.GELU(), nn.Linear(96, 3))
    x = some(2, 4, 128, seed=2).requires_grad_()
    plain = torch.autograd.grad(layers(x).sum(), [x, *layers[2].parameters()])
    layers(x)
    found_x = x.detach().clone().requires_grad_()
    checkpoint(layers, found_x, use_reentrant=use_reentrant).sum().backward()
    found = [found_x.grad, *(one.grad for one in layers[2].parameters())]
    assert all(torch.equal(one, other) for one, other in zip(plain, found, strict=True))


def test_without_gradients_nothing_is_recorded():
    linear = FrozenLinear(frozen_of("nf4"), dtype=torch.float32)
    with torch.no_grad():
        assert linear(some(4, 128).requires_grad_()).grad_fn is None
    assert linear(some(4, 128)).grad_fn is None


def test_nothing_but_the_bias_is_a_parameter_and_nothing_trains():
    linear = FrozenLinear(frozen_of("nf4"), some(96))
    assert [name for name, _ in linear.named_parameters()] == ["bias"]
    assert list(linear.state_dict()) == ["bias"]
    assert not any(one.requires_grad for one in linear.parameters())
    with pytest.raises((AttributeError, KeyError)):
        linear.weight = nn.Parameter(some(96, 128))


def test_a_description_costs_nothing_and_ends(monkeypatch):
    linear = FrozenLinear(frozen_of("nf4"), dtype=torch.bfloat16)
    with described_weights():
        monkeypatch.setattr(Nf4Weight, "dense", None)
        weight = linear.weight
        assert (weight.shape, weight.dtype, weight.device) == ((96, 128), torch.bfloat16, linear.device)
        assert weight.untyped_storage().nbytes() <= 2
        monkeypatch.undo()
    assert torch.equal(linear.weight, linear.frozen.dense(torch.bfloat16))


class Two(nn.Module):
    """A model that peft may change."""

    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def adapted(config, frozen):
    linears = [
        FrozenLinear(frozen_of("nf4_recovered", shape, seed), some(shape[0], seed=9), dtype=torch.float32)
        for seed, shape in enumerate([(64, 128), (96, 64)])
    ]
    model = Two(*(linears if frozen else map(plain_twin, linears)))
    torch.manual_seed(0)
    return inject_adapter_in_model(config, model)


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(r=4, target_modules=["first", "second"], init_lora_weights=False),
        LoraConfig(r=4, target_modules=["first", "second"], init_lora_weights=False, use_dora=True),
        LoraConfig(r=4, target_modules=["first", "second"]),
        LoKrConfig(r=4, target_modules=["first", "second"], init_weights=False),
    ],
    ids=["lora", "dora", "lora from zero", "lokr"],
)
def test_peft_trains_on_top_of_it_as_on_an_ordinary_linear(config):
    models = [adapted(copy.deepcopy(config), frozen=frozen) for frozen in (True, False)]
    x, target = some(5, 128, seed=1), some(5, 96, seed=2)
    losses = []
    for model in models:
        trained = [one for one in model.parameters() if one.requires_grad]
        assert trained
        optimizer = torch.optim.Adam(trained, lr=0.005)
        seen = []
        for _ in range(20):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), target)
            loss.backward()
            optimizer.step()
            seen.append(loss.item())
        losses.append(seen)
    assert losses[0][-1] < 0.9 * losses[0][0]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("kind", ["lora", "dora", "lokr"])
def test_the_programs_own_loras_sit_on_a_real_model_with_frozen_linears(kind):
    torch.manual_seed(0)
    size = {"num_attention_heads": 1, "attention_head_dim": 64, "ffn_dim": 128, "num_layers": 1}
    model = WanTransformer3DModel(**size, in_channels=36, out_channels=16, text_dim=64, freq_dim=64)
    model.requires_grad_(False)
    plain = copy.deepcopy(model)
    paths = [path for path, module in model.blocks.named_modules() if isinstance(module, nn.Linear)]
    for path in paths:
        module = model.blocks.get_submodule(path)
        model.blocks.set_submodule(
            path,
            FrozenLinear(quantized(module.weight, "nf4", recovery_rank=1), module.bias, dtype=torch.float32),
        )
        plain.blocks.get_submodule(path).weight.data.copy_(model.blocks.get_submodule(path).weight)
    gradients = []
    for one in (model, plain):
        add_lora(one, LoraSettings(rank=4, type=kind, dropout=0.25), seed=0)
        with lora_dropout(one, 3):
            out = one(some(1, 36, 1, 4, 4), torch.tensor([500.0]), some(1, 8, 64, seed=1), return_dict=False)[
                0
            ]
            out.square().mean().backward()
        gradients.append([parameter.grad for parameter in lora_parameters(one)])
    assert len(gradients[0]) == len(gradients[1])
    assert any(one.abs().max() > 0 for one in gradients[0])
    for found, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-3)
