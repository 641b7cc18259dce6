"""LoRA, DoRA and LoKr on the experts, by peft: where they sit, how they begin, how they act."""

import re
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from peft import LoKrConfig, LoraConfig
from torch import nn

from trainer.errors import TrainerError
from trainer.model.lora_layers import (
    get_strength,
    has_dropout,
    lora_layers,
    named_parameters,
    put_lokr,
    put_lora,
    set_strength,
)
from trainer.model.lora_weights import (
    LoraStateError,
    complete_dora,
    load_lora_state,
    lora_file_state,
    lora_parameters,
    lora_state,
    start_from,
)
from trainer.protocol.job import Expert, JobSpec

__all__ = [
    "LoraFilterError",
    "LoraSettings",
    "LoraStateError",
    "add_lora",
    "complete_dora",
    "load_lora_state",
    "lora_disabled",
    "lora_dropout",
    "lora_file_state",
    "lora_parameters",
    "lora_settings",
    "lora_state",
    "lora_strength",
    "lora_target_shapes",
    "start_from",
]

TARGETS = r"blocks\.\d+\.(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ffn\.net\.(0\.proj|2))"
"""The ten linears of a block: both attentions' four and the feed-forward's two."""

_ORIGINAL_PARTS = (
    ("attn1.to_out.0", "self_attn.o"),
    ("attn2.to_out.0", "cross_attn.o"),
    ("attn1.to_", "self_attn."),
    ("attn2.to_", "cross_attn."),
    ("ffn.net.0.proj", "ffn.0"),
    ("ffn.net.2", "ffn.2"),
)


class LoraFilterError(TrainerError):
    """A layer filter that leaves nothing to train, or that no layer's name contains."""

    kind = "lora_filter"

    def __init__(self, problem: str, names: Iterable[str]) -> None:
        examples = ", ".join(list(names)[:10])
        super().__init__(problem, f"Layers have names such as: {examples}.")


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """The shape of a LoRA.

    Attributes:
        rank: At least 1. LoKr factorises its second factor where this is less than half its side.
        alpha: Above 0; the LoRA acts with alpha / rank. None means alpha = rank.
        type: LoRA; DoRA (weight-decomposed); LoKr (Kronecker factors).
        dropout: Share (0 up to 1) of the LoRA's inputs dropped inside `lora_dropout`, nowhere else.
        only_if_contains: Parts of original layer names ("self_attn", "ffn.0", "blocks.3.") of which a
            layer's must contain one; empty takes every layer.
        ignore_if_contains: Parts of which it must contain none.
    """

    rank: int
    alpha: float | None = None
    type: Literal["lora", "dora", "lokr"] = "lora"
    dropout: float = 0.0
    only_if_contains: tuple[str, ...] = ()
    ignore_if_contains: tuple[str, ...] = ()

    @property
    def trained_alpha(self) -> float:
        """Alpha, or the rank where none is set."""
        return float(self.rank) if self.alpha is None else self.alpha

    @property
    def has_filters(self) -> bool:
        """Whether some of the model's layers may be left out."""
        return bool(self.only_if_contains or self.ignore_if_contains)


def lora_settings(job: JobSpec, expert: Expert) -> LoraSettings:
    """The shape of an expert's LoRA: TARGET, with the expert's own rank where MULTISTAGE sets one."""
    target = job.target
    return LoraSettings(
        rank=job.multistage.override(expert, "rank") or target.rank,
        alpha=target.alpha,
        type=target.type,
        dropout=target.dropout,
        only_if_contains=target.only_if_contains,
        ignore_if_contains=target.ignore_if_contains,
    )


def add_lora(transformer: WanTransformer3DModel, settings: LoraSettings, seed: int) -> None:
    """Put a LoRA on every target; the output is that of the base, bit for bit, until it is trained.

    The weights are float32 whatever the base has, and depend on the seed alone (DoRA's magnitudes on
    the base): neither on the global generators, which are left as they were, nor on the device.

    Args:
        transformer: Changed in place; its own weights are frozen.
        settings: What to put on it.
        seed: Of the random half (Kaiming uniform); the other begins at zero.

    Raises:
        LoraFilterError: the filters leave no layer, or one of them matches none.
    """
    paths = [
        path
        for path, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and re.fullmatch(TARGETS, path)
    ]
    targets = "|".join(map(re.escape, _chosen(paths, settings))) if settings.has_filters else TARGETS
    alpha: Any = settings.trained_alpha
    if settings.type == "lokr":
        config = LoKrConfig(r=settings.rank, alpha=alpha, target_modules=targets)
        put_lokr(transformer, config, seed, settings.dropout)
        return
    put_lora(
        transformer,
        LoraConfig(
            r=settings.rank,
            lora_alpha=alpha,
            target_modules=targets,
            lora_dropout=settings.dropout,
            use_dora=settings.type == "dora",
            init_lora_weights=False,
        ),
        seed,
    )


@contextmanager
def lora_disabled(transformer: WanTransformer3DModel) -> Generator[None]:
    """Compute with the base alone, bit for bit; a transformer without LoRA is left as it is.

    With gradient checkpointing, a backward pass through what was computed here belongs inside too:
    it computes the forward pass again.
    """
    layers = [layer for _, layer in lora_layers(transformer)]
    parameters = list(named_parameters(transformer).values())
    trained = [parameter.requires_grad for parameter in parameters]
    enabled = [not layer.disable_adapters for layer in layers]
    try:
        for layer in layers:
            layer.enable_adapters(enabled=False)
        yield
    finally:
        for layer, was_enabled in zip(layers, enabled, strict=True):
            layer.enable_adapters(enabled=was_enabled)
        # peft sets this too when it switches adapters; here it comes back as it was.
        for parameter, was_trained in zip(parameters, trained, strict=True):
            parameter.requires_grad_(was_trained)


@contextmanager
def lora_strength(transformer: WanTransformer3DModel, strength: float) -> Generator[None]:
    """Compute with that many times the LoRA's change of each weight; contexts inside each other multiply.

    0 is the base, also for DoRA: the whole change is scaled, magnitudes included, as ComfyUI does it.

    With gradient checkpointing, a backward pass through what was computed here belongs inside too:
    it computes the forward pass again.
    """
    layers = [layer for _, layer in lora_layers(transformer)]
    strengths = [get_strength(layer) for layer in layers]
    try:
        for layer, before in zip(layers, strengths, strict=True):
            set_strength(layer, before * strength)
        yield
    finally:
        for layer, before in zip(layers, strengths, strict=True):
            set_strength(layer, before)


@contextmanager
def lora_dropout(transformer: WanTransformer3DModel, seed: int) -> Generator[None]:
    """Drop inputs of the LoRA inside, as its settings say; outside, nothing is ever dropped.

    Which ones is a function of the seed and of what is computed inside: give each micro-batch a seed
    of its own, e.g. ``derived_seed(seed, "dropout", step, micro_batch)``, and a resumed run drops what the
    uninterrupted one would have. The global generators come back as they were.

    With gradient checkpointing, the backward pass belongs inside too: it computes the forward pass
    again, with the same inputs dropped.
    """
    layers = [layer for _, layer in lora_layers(transformer) if has_dropout(layer)]
    with ExitStack() as stack:
        if layers:
            device = next(iter(named_parameters(transformer).values())).device
            stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
            torch.manual_seed(seed)
        for layer in layers:
            layer.train()
            stack.callback(layer.eval)
        yield


def lora_target_shapes(
    config: Mapping[str, Any], settings: LoraSettings | None = None
) -> dict[str, tuple[int, int]]:
    """(out, in) of every linear that gets a LoRA, by module path, from an expert's config alone.

    Args:
        config: From `expert_config`.
        settings: Whose filters leave layers out; None takes all.

    Raises:
        LoraStateError: the config makes no Wan transformer.
        LoraFilterError: the filters leave no layer, or one of them matches none.
    """
    try:
        with torch.device("meta"):
            transformer: Any = WanTransformer3DModel.from_config(dict(config))
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise LoraStateError(f"its config makes no transformer ({error})") from error
    shapes = {
        path: (module.out_features, module.in_features)
        for path, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and re.fullmatch(TARGETS, path)
    }
    chosen = list(shapes) if settings is None else _chosen(list(shapes), settings)
    return {path: shapes[path] for path in chosen}


def _chosen(paths: list[str], settings: LoraSettings) -> list[str]:
    """The module paths whose original names pass the filters."""
    names = {path: _original_name(path) for path in paths}
    for setting, filters in (
        ("only_if_contains", settings.only_if_contains),
        ("ignore_if_contains", settings.ignore_if_contains),
    ):
        for part in filters:
            if not part or not any(part in name for name in names.values()):
                raise LoraFilterError(f'{setting}: no layer\'s name contains "{part}".', names.values())
    chosen = [
        path
        for path, name in names.items()
        if (not settings.only_if_contains or any(part in name for part in settings.only_if_contains))
        and not any(part in name for part in settings.ignore_if_contains)
    ]
    if not chosen:
        only, ignored = (", ".join(one) for one in (settings.only_if_contains, settings.ignore_if_contains))
        raise LoraFilterError(
            f"only_if_contains ({only}) and ignore_if_contains ({ignored}) leave no layer to train.",
            names.values(),
        )
    return chosen


def _original_name(path: str) -> str:
    """The name in Wan's own code: ``blocks.0.attn1.to_q`` is ``blocks.0.self_attn.q``."""
    for part, original in _ORIGINAL_PARTS:
        path = path.replace(part, original)
    return path
