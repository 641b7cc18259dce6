"""An expert of the real model's shape with random weights, for measurements where no real ones are at hand."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor

from trainer.model.a14b_config import A14B_I2V_CONFIG
from trainer.model.weight_source import WeightSource

DEVIATION = 0.02


class RandomSource(WeightSource):
    """Weights drawn when they are asked for: normal with a deviation of 0.02, norms 1, biases 0."""

    def __init__(
        self, device: torch.device, layers: int | None = None, config: Mapping[str, Any] | None = None
    ) -> None:
        """Describe the expert; draws nothing yet.

        Args:
            device: Where weights are drawn, which is much faster on a GPU.
            layers: Blocks, if not as many as the config has.
            config: Of the expert; None takes the real model's.
        """
        described = dict(A14B_I2V_CONFIG if config is None else config)
        if layers is not None:
            described["num_layers"] = layers
        maker: Any = WanTransformer3DModel
        with init_empty_weights():
            model = maker.from_config(described)
        shapes = {name: tuple(one.shape) for name, one in model.named_parameters()}
        self.place = Path("random weights")
        self.config = MappingProxyType(described)
        self.shapes = MappingProxyType(shapes)
        self.files = ()
        self._device = device
        self._generator = torch.Generator(device).manual_seed(0)

    def tensor(self, name: str) -> Tensor:
        """A weight in bfloat16, on the source's device."""
        made = torch.empty(self.shapes[name], dtype=torch.bfloat16, device=self._device)
        if name.endswith("bias"):
            return made.zero_()
        if ".norm" in name:
            return made.fill_(1.0)
        if name.endswith("scale_shift_table"):
            return made.normal_(0.0, made.shape[-1] ** -0.5, generator=self._generator)
        return made.normal_(0.0, DEVIATION, generator=self._generator)
