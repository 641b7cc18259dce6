"""LoKr computed factor by factor is peft's LoKr."""

import pytest
import torch
from peft import LoKrConfig
from torch import nn

from trainer.model.lora_layers import ADAPTER, KroneckerModel, lora_layers, row_norms


class OneLinear(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)


@pytest.mark.parametrize("rank", [3, 16])
@pytest.mark.parametrize(("inputs", "outputs"), [(12, 20), (64, 48)])
def test_the_factors_one_after_the_other_give_what_the_whole_change_gives(inputs, outputs, rank):
    torch.manual_seed(0)
    model = OneLinear(inputs, outputs)
    KroneckerModel(model, LoKrConfig(r=rank, alpha=5, target_modules=["linear"], init_weights=False), ADAPTER)
    ((path, layer),) = lora_layers(model)
    assert path == "linear"
    x = torch.randn(2, 7, inputs, requires_grad=True)
    delta = layer.get_delta_weight(ADAPTER)
    assert delta.abs().max() > 0.01
    expected = nn.functional.linear(x, layer.base_layer.weight + delta, layer.base_layer.bias)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)
    parameters = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    weights = torch.randn(2, 7, outputs)
    found = torch.autograd.grad((layer(x) * weights).sum(), [x, *parameters])
    wanted = torch.autograd.grad((expected * weights).sum(), [x, *parameters])
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_row_norms_are_float32_lengths_of_rows():
    weight = torch.tensor([[3.0, 4.0], [0.0, 2.0]], dtype=torch.bfloat16)
    assert row_norms(weight).tolist() == [5.0, 2.0]
    assert row_norms(weight, torch.tensor([[2.0, 8.0], [0.0, 0.0]])).tolist() == [13.0, 2.0]
    assert row_norms(weight).dtype == torch.float32
