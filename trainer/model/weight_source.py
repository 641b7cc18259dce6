"""The weights of one part of the model, under the names of its class, read one at a time.

Whatever files hold them (one or several, diffusers' names or the original ones, plain or in float8 with
scales), a weight is read when it is asked for, so that RAM never holds more than one.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from trainer.model.base_errors import BaseModelError, PartNotLoadedError, WrongModelError, WrongPartError
from trainer.model.part_configs import (
    Shapes,
    UnusualShapesError,
    expert_config_of,
    text_config_of,
    vae_config_of,
)
from trainer.model.part_kinds import (
    TEXT_WORDS,
    VAE_WORDS,
    check_expert,
    check_text_encoder,
    check_vae,
    expert_prefix,
    is_text_encoder,
    is_vae,
    words_for,
)
from trainer.model.stored_weights import StoredWeight, stored_weights
from trainer.model.weight_files import open_tensors
from trainer.model.weight_names import Renaming, expert_names, text_names, vae_names

Weights = Mapping[str, StoredWeight]
Config = Mapping[str, Any]
Wrong = Callable[[str], BaseModelError]

_ORIGINAL_CONFIG_MARK = "num_heads"
"""In the configs of the original release; diffusers' have another name for it."""


class WeightSource:
    """The weights of one part.

    Attributes:
        place: The file or folder that errors name.
        config: What the class is made with.
        shapes: Of all weights, by the class's names.
        files: That hold them.
    """

    def __init__(self, place: Path, config: Config, weights: Weights) -> None:
        self.place = place
        self.config = MappingProxyType(dict(config))
        self.shapes: Shapes = MappingProxyType({name: stored.shape for name, stored in weights.items()})
        self.files = tuple(dict.fromkeys(stored.file.path for stored in weights.values()))
        self._weights = weights

    def tensor(self, name: str) -> Tensor:
        """A weight on the CPU: bfloat16 where the file has float8, else in the type of the file.

        Raises:
            BaseModelError: there is no such weight, or its file cannot be read.
        """
        if name not in self._weights:
            raise PartNotLoadedError(self.place, f"its weight {name} is missing")
        return self._weights[name].read()


def open_expert(place: Path, files: Sequence[Path], config: Config | None = None) -> WeightSource:
    """The weights of an expert under the names of `WanTransformer3DModel`.

    Args:
        place: The file or folder that errors name.
        files: That hold them: one, or several shards.
        config: Diffusers' or the original release's; None derives it from the shapes.

    Raises:
        BaseModelError: a file is damaged, or not of an expert of Wan 2.2 I2V.
    """
    wrong = partial(WrongModelError, place)
    weights = _all_weights(files)
    prefix = expert_prefix(weights)
    if prefix is None:
        raise wrong(words_for(weights))
    # With a prefix there may be more in the file than the expert.
    bare = {name.removeprefix(prefix): stored for name, stored in weights.items() if name.startswith(prefix)}
    check_expert(place, bare, bare["patch_embedding.weight"].shape)
    if "head.modulation" in bare:
        bare = _renamed(bare, expert_names, wrong)
    if config is None or _ORIGINAL_CONFIG_MARK in config:
        original = config
        config = _derived(bare, lambda shapes: expert_config_of(shapes, original), wrong)
    return WeightSource(place, config, bare)


def open_vae(place: Path, files: Sequence[Path], config: Config | None = None) -> WeightSource:
    """The weights of the VAE under the names of `AutoencoderKLWan`; arguments as for `open_expert`.

    Raises:
        BaseModelError: a file is damaged, or not of this VAE.
    """
    wrong = partial(WrongPartError, place, VAE_WORDS)
    weights = _all_weights(files)
    if not is_vae(weights):
        raise wrong(words_for(weights))
    is_original = "conv2.weight" in weights
    check_vae(place, weights["conv2.weight" if is_original else "post_quant_conv.weight"].shape)
    if is_original:
        weights = _renamed(weights, vae_names, wrong)
    config = _derived(weights, vae_config_of, wrong) if config is None else config
    return WeightSource(place, config, weights)


def open_text_encoder(place: Path, files: Sequence[Path], config: Config | None = None) -> WeightSource:
    """The weights of UMT5 under the names of `UMT5EncoderModel`; arguments as for `open_expert`.

    Raises:
        BaseModelError: a file is damaged, or not of UMT5.
    """
    wrong = partial(WrongPartError, place, TEXT_WORDS)
    weights = _all_weights(files)
    if not is_text_encoder(weights):
        raise wrong(words_for(weights))
    if "blocks.0.pos_embedding.embedding.weight" in weights:
        weights = _renamed(weights, text_names, wrong)
    check_text_encoder(place, weights)
    # Both are the one table of embeddings, and files hold it under either name or both.
    embedding = weights.get("shared.weight") or weights.get("encoder.embed_tokens.weight")
    if embedding is not None:
        weights = {**weights, "shared.weight": embedding}
    config = _derived(weights, text_config_of, wrong) if config is None else config
    return WeightSource(place, config, weights)


def _all_weights(files: Sequence[Path]) -> dict[str, StoredWeight]:
    weights: dict[str, StoredWeight] = {}
    for file in files:
        weights.update(stored_weights(open_tensors(file)))
    return weights


def _renamed(weights: Weights, rename: Renaming, wrong: Wrong) -> dict[str, StoredWeight]:
    own_names = rename(weights)
    if foreign := sorted(weights.keys() - own_names.keys()):
        raise wrong(f"it has {len(foreign)} weights of another model, first {foreign[0]}")
    return {own: weights[name] for name, own in own_names.items()}


def _derived(weights: Weights, config_of: Callable[[Shapes], Config], wrong: Wrong) -> Config:
    try:
        return config_of({name: stored.shape for name, stored in weights.items()})
    except UnusualShapesError as error:
        raise wrong(str(error)) from error
