"""Experts as small as they come: weights in memory, a plain one to compare with, and one that is computed by hand."""

from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor

from trainer.model.assemble import AssembledExpert, Assembly, assemble_expert
from trainer.model.expert_plan import ExpertPlan
from trainer.model.lora import LoraSettings, add_lora, load_lora_state, lora_state
from trainer.model.miniature import MiniatureConfig, build_expert, build_text_encoder, build_vae
from trainer.model.random_base import ModelConfigs
from trainer.model.weight_source import WeightSource

CPU = torch.device("cpu")
SMALL = MiniatureConfig(heads=2, head_dim=64, layers=2, ffn_dim=192)
"""Two heads of 64: rotary positions, heads and 4-bit blocks are all there."""
TEXT_TOKENS = 7


class MemorySource(WeightSource):
    """An expert's weights in memory; counts how often each is read."""

    def __init__(self, tensors, config, seed) -> None:
        self.place = Path(f"expert {seed}")
        self.config = MappingProxyType(dict(config))
        self.shapes = MappingProxyType({name: tuple(one.shape) for name, one in tensors.items()})
        self.files = ()
        self.tensors = tensors
        self.reads: Counter[str] = Counter()

    def tensor(self, name: str) -> Tensor:
        self.reads[name] += 1
        return self.tensors[name].clone()


def expert_weights(config: MiniatureConfig = SMALL, seed: int = 0, dtype=torch.float32) -> MemorySource:
    """Random weights of which none is trivial: norms are not one, biases not zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_expert(config)
        for parameter in model.parameters():
            if parameter.ndim == 1:
                torch.nn.init.normal_(parameter, std=0.1)
        for name, parameter in model.named_parameters():
            if ".norm" in name and name.endswith("weight"):
                torch.nn.init.normal_(parameter, mean=1.0, std=0.2)
    tensors = {name: one.detach().to(dtype) for name, one in model.named_parameters()}
    return MemorySource(tensors, model.config, seed)


def small_configs() -> ModelConfigs:
    """The parts of a base in small."""
    return ModelConfigs(
        expert=dict(expert_weights(SMALL).config),
        vae=dict(build_vae(SMALL).config),
        text=build_text_encoder(SMALL, 128).config.to_dict(),
    )


def plain_expert(source: MemorySource, dtype=torch.float32, device=CPU) -> WanTransformer3DModel:
    """Diffusers' own model with the source's weights, in the number types of `load_expert`."""
    from trainer.model.load import empty_model, fill

    model = empty_model(WanTransformer3DModel, source)
    fill(model, source, "", dtype, device)
    return model.requires_grad_(False).eval()


def small_expert(
    source: MemorySource, plan: ExpertPlan | None = None, device=CPU, dtype=torch.float32, **options
) -> AssembledExpert:
    """The source's expert with frozen linears; `options` are those of `Assembly`."""
    return assemble_expert(source, Assembly(plan or ExpertPlan(), device, dtype, **options))


def put_lora(
    transformer, settings: LoraSettings | None = None, seed: int = 0, deviation: float = 0.1
) -> None:
    """A LoRA that is not at rest: both halves are random."""
    add_lora(transformer, settings or LoraSettings(rank=4, alpha=6), seed)
    generator = torch.Generator().manual_seed(seed)
    state = {
        name: one.cpu() + torch.randn(one.shape, generator=generator) * deviation
        for name, one in lora_state(transformer).items()
    }
    load_lora_state(transformer, state)


def block_inputs(transformer, batch: int = 2, seed: int = 0, dtype=torch.float32, size=(2, 4, 6)):
    """Tokens, and what else a block takes: each item has a timestep of its own."""
    generator = torch.Generator().manual_seed(seed)
    width = transformer.config.num_attention_heads * transformer.config.attention_head_dim
    frames, height, width_tokens = size
    tokens = frames * height * width_tokens // 4

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    rotary = transformer.rope(torch.zeros(1, 36, *size))
    x = drawn(batch, tokens, width).to(dtype)
    text = drawn(batch, TEXT_TOKENS, width).to(dtype)
    return x, text, drawn(batch, 6, width) * 0.3, rotary


def expert_inputs(transformer, batch: int = 1, seed: int = 0, size=(2, 4, 6), text_tokens: int = TEXT_TOKENS):
    """What a whole expert takes, on its device and in its number type; the second item is less noisy."""
    generator = torch.Generator().manual_seed(seed)
    like = transformer.patch_embedding.weight
    latents = torch.randn(batch, 36, *size, generator=generator).to(like)
    text = torch.randn(batch, text_tokens, transformer.config.text_dim, generator=generator).to(like)
    timesteps = torch.linspace(950.0, 400.0, batch) if batch > 1 else torch.tensor([950.0])
    return {
        "hidden_states": latents,
        "timestep": timesteps.to(like.device),
        "encoder_hidden_states": text,
        "return_dict": False,
    }


def one_step(transformer, inputs=None, context=None) -> tuple[Tensor, list[Tensor]]:
    """The output and the gradients of the LoRA of one forward and backward pass."""
    parameters = [one for one in transformer.parameters() if one.requires_grad]
    for parameter in parameters:
        parameter.grad = None
    with context or nullcontext():
        (out,) = transformer(**(inputs or expert_inputs(transformer)))
        out.float().square().mean().backward()
    return out.detach().clone(), [one.grad.clone() for one in parameters]


def distance(given, expected) -> float:
    """How far tensors, or lists of them taken as one, lie apart, relative to what was expected."""
    if isinstance(given, Tensor):
        given, expected = [given], [expected]
    given, expected = (
        torch.cat([one.detach().float().flatten() for one in side]) for side in (given, expected)
    )
    return float((given - expected).norm() / expected.norm().clamp_min(1e-30))


def is_same(given: tuple[Tensor, list[Tensor]], expected: tuple[Tensor, list[Tensor]]) -> bool:
    """Whether two steps gave the same output and gradients, bit for bit."""
    return torch.equal(given[0], expected[0]) and all(
        torch.equal(one, other) for one, other in zip(given[1], expected[1], strict=True)
    )
