"""What each way of storing the frozen base costs in precision, measured on made-up weights.

Two measurements: a small stack of the real model's blocks with LoRA, and one linear at any size. How the
weights and inputs are made, and what that agrees with, is said in `trainer.model.frozen.realistic`.
"""

# B batch, N tokens, C channels, T latent frames, H/W latent height and width, L text rows, D text width
# I input width, O output width

import copy
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor, nn
from torch.nn import functional

from trainer.model.block.groups import GROUPS
from trainer.model.frozen.linear import FrozenLinear
from trainer.model.frozen.quantizer import Mode, quantized
from trainer.model.frozen.realistic import (
    SPECTRUM,
    channel_sizes,
    common_directions,
    realistic_inputs,
    realistic_weight,
)
from trainer.model.frozen.statistics import InputStatistics
from trainer.model.frozen.weights import FrozenWeight, why_no_float8_products
from trainer.model.lora import LoraSettings, add_lora, lora_parameters

MODES: tuple[Mode, ...] = ("none", "float8", "float8_compute", "nf4", "nf4_recovered")

_LATENT_SHAPE = (1, 36, 3, 16, 16)
_TEXT_ROWS = 64
_CALIBRATION_PASSES = 4
_LORA_RANK = 16
_LOUD_LAYERS = re.compile(r"to_v|ffn\.net\.0\.proj|text_embedder\.linear_2")


@dataclass(frozen=True, slots=True)
class StackPlan:
    """The stack of blocks that is measured.

    Attributes:
        width: A multiple of 128, the width of a head, as in the real model.
        layers: Blocks.
        rank: Of the side branch. To stand for the real model's 64 of 5120 it should be that share.
        spectrum: `realistic_weight`.
        dtype: What is computed in, also by the reference.
        device: Where.
        seed: Of everything random.
    """

    width: int = 512
    layers: int = 4
    rank: int = 16
    spectrum: float = SPECTRUM
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 0


@dataclass(frozen=True, slots=True)
class StackErrors:
    """Relative errors, as norms, against the same stack with its weights as they are.

    Attributes:
        mode: How the weights are stored.
        block: Of a block's output, given the right input; mean over the blocks.
        block_change: Of what the block adds to its input; mean over the blocks.
        prediction: Of the whole model's output.
        gradient: Of the LoRA's gradient, all layers as one vector.
        cosine: Between that and the right gradient.
    """

    mode: Mode
    block: float
    block_change: float
    prediction: float
    gradient: float
    cosine: float


@dataclass(frozen=True, slots=True)
class LinearErrors:
    """Relative errors of one linear: of its output, and of its input's gradient."""

    mode: Mode
    output: float
    input_gradient: float


class _Pass(NamedTuple):
    """What one forward and backward pass gave; blocks and inputs of blocks in order."""

    block_inputs: list[tuple[Any, ...]]
    blocks: list[Tensor]
    prediction: Tensor
    gradient: Tensor


def measure_stack(plan: StackPlan, modes: Iterable[Mode] = MODES) -> list[StackErrors]:
    """Relative errors of each mode in a stack of the real model's blocks.

    The side branches know the RMS of inputs over passes with other noise and texts than those measured.
    """
    base = _make_model(plan)
    statistics = _gather(base, plan)
    reference = _run(_stored(base, "none", plan, None), plan, None)
    return [
        _compare(mode, _run(_stored(base, mode, plan, statistics), plan, reference.block_inputs), reference)
        for mode in modes
    ]


def measure_linear(
    shape: tuple[int, int],
    rank: int,
    spectrum: float = SPECTRUM,
    modes: Sequence[Mode] = MODES,
    *,
    seed: int = 0,
) -> list[LinearErrors]:
    """Relative errors of each mode in one linear (O, I); on the CPU, in float32.

    The gradient that comes in is white: nothing is published about that of a diffusion transformer.
    """
    generator = torch.Generator().manual_seed(seed)
    weight_OI = realistic_weight(shape, generator, spectrum)
    sizes_I = channel_sizes(shape[1], generator)
    directions_KI = common_directions(shape[1], generator)
    known_NI, x_NI = (realistic_inputs(512, sizes_I, directions_KI, generator) for _ in range(2))
    statistics = InputStatistics("")
    statistics.add("linear", known_NI)
    grad_NO = torch.randn(512, shape[0], generator=generator)
    right_NO, right_NI = x_NI @ weight_OI.T, grad_NO @ weight_OI
    found: list[LinearErrors] = []
    for mode in modes:
        stored = quantized(
            weight_OI,
            mode,
            recovery_rank=rank,
            input_rms_I=statistics.rms("linear"),
            dtype=torch.float32 if mode == "none" else torch.bfloat16,
        )
        linear = FrozenLinear(stored, dtype=torch.float32)
        x = x_NI.clone().requires_grad_()
        out_NO = linear(x)
        out_NO.backward(grad_NO)
        assert x.grad is not None
        found.append(
            LinearErrors(mode, relative_error(out_NO.detach(), right_NO), relative_error(x.grad, right_NI))
        )
    return found


def report_errors(device: torch.device) -> list[str]:
    """What each mode costs, in lines for people: two blocks of the real width on a GPU, four narrow ones on a CPU."""
    if device.type == "cuda":
        plan = StackPlan(width=5120, layers=2, rank=64, dtype=torch.bfloat16, device=device)
    else:
        plan = StackPlan(rank=6)
    refusal = why_no_float8_products(device)
    modes: list[Mode] = [mode for mode in MODES if mode != "float8_compute" or not refusal]
    number_type = str(plan.dtype).removeprefix("torch.")
    lines = [
        "Relative errors against the same weights as they are; weights and inputs are made up.",
        f"{plan.layers} blocks of width {plan.width}, side branches of rank {plan.rank}, {number_type}.",
        *stack_table(measure_stack(plan, modes)).splitlines(),
    ]
    return [*lines, f"float8_compute is left out: {refusal}."] if refusal else lines


def stack_table(rows: Sequence[StackErrors]) -> str:
    """The errors as a Markdown table, in percent."""
    lines = [
        "| stored as | block's output | what a block adds | prediction | LoRA gradient | its cosine |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.mode} | {row.block:.2%} | {row.block_change:.2%} | {row.prediction:.2%} "
        f"| {row.gradient:.2%} | {row.cosine:.5f} |"
        for row in rows
    ]
    return "\n".join(lines)


def relative_error(found: Tensor, right: Tensor) -> float:
    """Norm of the difference over that of what is right."""
    right = right.double()
    return float((found.double() - right).norm() / right.norm())


def _make_model(plan: StackPlan) -> WanTransformer3DModel:
    """The real class in small; its blocks' weights, gains and text as in `realistic`."""
    generator = torch.Generator(plan.device).manual_seed(plan.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        model: Any = WanTransformer3DModel(
            num_attention_heads=plan.width // 128,
            attention_head_dim=128,
            in_channels=36,
            out_channels=16,
            text_dim=256,
            ffn_dim=round(plan.width * 2.7 / 64) * 64,
            num_layers=plan.layers,
            rope_max_seq_len=64,
        )
    model.requires_grad_(requires_grad=False)
    model.to(plan.device)
    with torch.no_grad():
        for path, module in model.named_modules():
            if not isinstance(module, nn.Linear) or not (
                path.startswith("blocks") or "text_embedder" in path
            ):
                continue
            weight = realistic_weight((module.out_features, module.in_features), generator, plan.spectrum)
            if _LOUD_LAYERS.search(path):
                # Their outputs are inputs of the next linear, without a norm that could make its channels loud.
                weight *= channel_sizes(module.out_features, generator)[:, None]
            module.weight.copy_(weight)
        for block in model.blocks:
            table = block.scale_shift_table
            for scale in (1, 4):
                table[0, scale] = channel_sizes(plan.width, generator) - 1
            block.norm2.weight.copy_(channel_sizes(plan.width, generator))
    return model


def _copy(base: WanTransformer3DModel, dtype: torch.dtype) -> WanTransformer3DModel:
    """A copy in the computing type, but for the parts that the model wants in float32."""
    model = copy.deepcopy(base)
    kept: Any = model._keep_in_fp32_modules  # noqa: SLF001 - said nowhere else
    for name, parameter in model.named_parameters():
        if not any(part in name.split(".") for part in kept):
            parameter.data = parameter.data.to(dtype)
    return model


def _stored(
    base: WanTransformer3DModel, mode: Mode, plan: StackPlan, statistics: InputStatistics | None
) -> WanTransformer3DModel:
    """A copy of the model whose blocks' linears are frozen weights, in the computing type."""
    model = _copy(base, plan.dtype)
    for index, block in enumerate(model.blocks):
        for name, paths in GROUPS.items():
            # From the base: its weights were not rounded to the computing type.
            linears: list[Any] = [base.blocks[index].get_submodule(path) for path in paths]
            frozen = quantized(
                torch.cat([linear.weight for linear in linears]),
                mode,
                recovery_rank=plan.rank,
                input_rms_I=None if statistics is None else statistics.rms(f"{index}.{name}"),
                dtype=plan.dtype,
            )
            _put(block, dict(zip(paths, linears, strict=True)), frozen, plan.dtype)
    return model


def _put(block: nn.Module, linears: dict[str, nn.Linear], frozen: FrozenWeight, dtype: torch.dtype) -> None:
    """Let the layers of a block compute with their rows of a frozen weight."""
    start = 0
    for path, linear in linears.items():
        stop = start + linear.out_features
        bias_O = None if linear.bias is None else linear.bias.to(dtype)
        block.set_submodule(path, FrozenLinear(frozen, bias_O, start=start, stop=stop, dtype=dtype))
        start = stop


def _gather(base: WanTransformer3DModel, plan: StackPlan) -> InputStatistics:
    """Input statistics of the model as it is."""
    statistics = InputStatistics("")
    model = _copy(base, plan.dtype)
    for index, block in enumerate(model.blocks):
        for name, paths in GROUPS.items():
            block.get_submodule(paths[0]).register_forward_pre_hook(_feeder(statistics, f"{index}.{name}"))
    with torch.no_grad():
        for one in range(_CALIBRATION_PASSES):
            model(**_inputs(plan, plan.seed + 1 + one), return_dict=False)
    return statistics


def _feeder(statistics: InputStatistics, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    return lambda _, inputs: statistics.add(name, inputs[0])


def _inputs(plan: StackPlan, seed: int) -> dict[str, Tensor]:
    """Noise, a timestep and a text."""
    generator = torch.Generator().manual_seed(seed)
    values = {
        "hidden_states": torch.randn(_LATENT_SHAPE, generator=generator),
        "encoder_hidden_states": torch.randn(1, _TEXT_ROWS, 256, generator=generator),
    }
    timestep = torch.rand(1, generator=generator) * 1000
    return {name: one.to(plan.device, plan.dtype) for name, one in values.items()} | {
        "timestep": timestep.to(plan.device)
    }


def _run(model: WanTransformer3DModel, plan: StackPlan, block_inputs: list[tuple[Any, ...]] | None) -> _Pass:
    """One pass with a LoRA that acts, and each block alone on the inputs given (its own if None)."""
    add_lora(model, LoraSettings(rank=_LORA_RANK), plan.seed)
    generator = torch.Generator().manual_seed(plan.seed + 100)
    for parameter in lora_parameters(model):
        noise = torch.randn(parameter.shape, generator=generator) * 0.2 / parameter.shape[-1] ** 0.5
        parameter.data.add_(noise.to(parameter.device))
    seen: list[tuple[Any, ...]] = []
    hooks = [
        block.register_forward_pre_hook(lambda _, inputs: seen.append(_detached(inputs)))
        for block in model.blocks
    ]
    prediction = model(**_inputs(plan, plan.seed), return_dict=False)[0]
    for hook in hooks:
        hook.remove()
    target = torch.randn(prediction.shape, generator=generator).to(plan.device)
    functional.mse_loss(prediction.float(), target).backward()
    gradients = [one.grad.flatten() for one in lora_parameters(model) if one.grad is not None]
    inputs = seen if block_inputs is None else block_inputs
    with torch.no_grad():
        blocks = [block(*one) for block, one in zip(model.blocks, inputs, strict=True)]
    return _Pass(inputs, blocks, prediction.detach(), torch.cat(gradients))


def _detached(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(one.detach() if isinstance(one, Tensor) else one for one in inputs)


def _compare(mode: Mode, found: _Pass, right: _Pass) -> StackErrors:
    changes = [
        (one - inputs[0], other - inputs[0])
        for one, other, inputs in zip(found.blocks, right.blocks, right.block_inputs, strict=True)
    ]
    outputs = list(zip(found.blocks, right.blocks, strict=True))
    return StackErrors(
        mode=mode,
        block=sum(relative_error(*pair) for pair in outputs) / len(outputs),
        block_change=sum(relative_error(*pair) for pair in changes) / len(changes),
        prediction=relative_error(found.prediction, right.prediction),
        gradient=relative_error(found.gradient, right.gradient),
        cosine=float(functional.cosine_similarity(found.gradient.double(), right.gradient.double(), dim=0)),
    )
