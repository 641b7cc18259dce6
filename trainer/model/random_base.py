"""A base of the real model's shapes with random weights, for measurements where no real ones are at hand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor, nn
from transformers import UMT5Config, UMT5EncoderModel

from trainer.model.a14b_config import A14B_BOUNDARY, A14B_I2V_CONFIG, A14B_TEXT_CONFIG, A14B_VAE_CONFIG
from trainer.model.layouts import BaseModel
from trainer.model.text import MAX_TOKENS, Tokenize
from trainer.model.weight_source import WeightSource
from trainer.protocol.job import Expert

DEVIATION = 0.02


@dataclass(frozen=True, slots=True)
class ModelConfigs:
    """What the parts are made with; the real model's unless told otherwise.

    Attributes:
        layers: Blocks of an expert, if not as many as its config has.
    """

    expert: Mapping[str, Any] = field(default_factory=lambda: A14B_I2V_CONFIG)
    vae: Mapping[str, Any] = field(default_factory=lambda: A14B_VAE_CONFIG)
    text: Mapping[str, Any] = field(default_factory=lambda: A14B_TEXT_CONFIG)
    layers: int | None = None


class RandomWeights(WeightSource):
    """Weights drawn when they are asked for: normal with a deviation of 0.02, norms 1, biases 0."""

    def __init__(self, device: torch.device, config: Mapping[str, Any], model: nn.Module) -> None:
        """Describe the part; draws nothing yet.

        Args:
            device: Where weights are drawn, which is much faster on a GPU.
            config: That the model was made with.
            model: On the meta device.
        """
        self.place = Path("random weights")
        self.config = MappingProxyType(dict(config))
        shapes = model.named_parameters(remove_duplicate=False)
        self.shapes = MappingProxyType({name: tuple(one.shape) for name, one in shapes})
        self.files = ()
        self._device = device
        self._generator = torch.Generator(device).manual_seed(0)

    def tensor(self, name: str) -> Tensor:
        """A weight in bfloat16, on the source's device."""
        made = torch.empty(self.shapes[name], dtype=torch.bfloat16, device=self._device)
        if name.endswith("bias"):
            return made.zero_()
        if ".norm" in name or "layer_norm" in name:
            return made.fill_(1.0)
        if name.endswith("scale_shift_table"):
            return made.normal_(0.0, made.shape[-1] ** -0.5, generator=self._generator)
        return made.normal_(0.0, DEVIATION, generator=self._generator)


class RandomSource(RandomWeights):
    """The weights of an expert."""

    def __init__(
        self, device: torch.device, layers: int | None = None, config: Mapping[str, Any] | None = None
    ) -> None:
        """Describe the expert; draws nothing yet.

        Args:
            device: Where weights are drawn.
            layers: Blocks, if not as many as the config has.
            config: Of the expert; None takes the real model's.
        """
        described = dict(A14B_I2V_CONFIG if config is None else config)
        if layers is not None:
            described["num_layers"] = layers
        super().__init__(device, described, _empty(WanTransformer3DModel, described))


@dataclass(frozen=True, slots=True)
class RandomBase(BaseModel):
    """A base whose parts are drawn; without a fingerprint, for nothing of it comes a second time."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    configs: ModelConfigs = field(default_factory=ModelConfigs)

    def expert_source(self, expert: Expert) -> WeightSource:
        """An expert's weights; both have the same."""
        del expert
        return RandomSource(self.device, self.configs.layers, self.configs.expert)

    def vae_source(self) -> WeightSource:
        """The VAE's weights."""
        return RandomWeights(self.device, self.configs.vae, _empty(AutoencoderKLWan, self.configs.vae))

    def text_source(self) -> WeightSource:
        """The text encoder's weights."""
        config = self.configs.text
        with torch.device("meta"):
            model = UMT5EncoderModel(UMT5Config.from_dict(dict(config)))
        return RandomWeights(self.device, config, model)

    def open_tokenizer(self) -> Tokenize:
        """Gives every prompt its full length."""
        return RandomTokenizer(int(self.configs.text["vocab_size"]))


def random_base(device: torch.device, configs: ModelConfigs | None = None) -> RandomBase:
    """The base; draws nothing yet.

    Args:
        device: Where weights are drawn.
        configs: Of its parts; None takes the real model's.
    """
    place = Path("random weights")
    return RandomBase(
        folder=place,
        boundary_ratio=A14B_BOUNDARY,
        fingerprint="",
        vae_fingerprint="",
        text_fingerprint="",
        parts={},
        tokenizer=place,
        scheduler=None,
        device=device,
        configs=configs or ModelConfigs(),
    )


class RandomTokenizer:
    """In the place of a tokenizer: whatever the prompt is, as many tokens as the encoder ever gets."""

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary

    def __call__(self, prompts: list[str], **_: object) -> dict[str, Tensor]:
        """Token ids and mask, (prompts, 512) both, as a tokenizer of transformers gives them."""
        shape = (len(prompts), MAX_TOKENS)
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(2, self._vocabulary, shape, generator=generator)
        return {"input_ids": ids, "attention_mask": torch.ones(shape, dtype=torch.long)}


def _empty(kind: Any, config: Mapping[str, Any]) -> nn.Module:
    with init_empty_weights():
        return kind.from_config(dict(config))
