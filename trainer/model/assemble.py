"""Experts with frozen linears: read block by block, stored as the plan says, and set up to compute.

An expert is never whole in any other form than the one that it is used in: each block's weights go from
the file through quantization to their place, RAM or GPU, before the next block's are read.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel, WanTransformerBlock
from torch import Tensor, nn

from trainer.model.block.activation_store import ActivationStore
from trainer.model.block.computed_block import BlockPlan, ComputedBlock
from trainer.model.block.groups import GROUPS
from trainer.model.block.linear_group import LinearGroup, OnInput
from trainer.model.block.passes import compilation
from trainer.model.block.recomputed_block import RecomputedBlock
from trainer.model.expert_plan import ExpertPlan
from trainer.model.frozen.linear import FrozenLinear
from trainer.model.frozen.packing import PackedBlock
from trainer.model.frozen.quantized_cache import QuantizedCache
from trainer.model.frozen.quantizer import Stored, from_stored, quantized, stored_layout
from trainer.model.frozen.slots import BlockSlots
from trainer.model.frozen.streaming import MemoryReport, StreamedExpert, memory_report
from trainer.model.frozen.weights import FrozenWeight
from trainer.model.load import empty_model, fill
from trainer.model.lora_layers import carries_only_plain_lora
from trainer.model.weight_source import WeightSource
from trainer.protocol.job import Expert

OnBlock = Callable[[int, int], None]
"""Told after each block how many are done, and of how many."""


@dataclass(slots=True)
class AssembledExpert:
    """An expert, loaded.

    Attributes:
        transformer: Diffusers' model; the ten linears of each block are `FrozenLinear`.
        groups: Of each block, by the names of `GROUPS`.
        packed: The blocks in RAM; empty where they lie on the device for good.
    """

    transformer: WanTransformer3DModel
    groups: list[dict[str, LinearGroup]]
    packed: list[PackedBlock]


@dataclass(frozen=True, slots=True)
class Assembly:
    """What it takes to assemble an expert, beside its weights.

    Attributes:
        plan: How it is stored.
        device: Where it will compute.
        dtype: What it computes in.
        in_ram: Whether the blocks' masters lie in RAM; from `lies_in_ram`.
        input_rms: RMS of the input channels of every group, by "blocks.0.self_qkv" and so on; for the
            plan's low-rank branches.
        cache: Of the quantized weights on disk.
    """

    plan: ExpertPlan
    device: torch.device
    dtype: torch.dtype
    in_ram: bool = False
    input_rms: Mapping[str, Tensor] | None = None
    cache: QuantizedCache | None = None


def lies_in_ram(plan: ExpertPlan, blocks: int, experts: int, device: torch.device) -> bool:
    """Whether masters in RAM are needed: some blocks are streamed, or an idle expert makes room."""
    if plan.resident_of(blocks) < blocks:
        return True
    return plan.low_vram and experts > 1 and device.type == "cuda"


def assemble_expert(
    source: WeightSource, assembly: Assembly, on_block: OnBlock | None = None
) -> AssembledExpert:
    """Read an expert.

    Args:
        source: Its weights.
        assembly: What to make of them.
        on_block: Told of progress; may raise to stop.

    Raises:
        BaseModelError: the files do not make this model.
    """
    transformer = empty_model(WanTransformer3DModel, source)
    all_groups: list[dict[str, LinearGroup]] = []
    packed: list[PackedBlock] = []
    blocks: list[Any] = list(transformer.blocks)
    for index, block in enumerate(blocks):
        weights = _block_weights(source, index, assembly)
        groups = {
            name: LinearGroup(
                name,
                weight,
                _joined(source, index, GROUPS[name], "bias", assembly).to(assembly.dtype),
                GROUPS[name],
            )
            for name, weight in weights.items()
        }
        for group in groups.values():
            _replace_linears(block, group, assembly.dtype)
        if assembly.in_ram:
            packed.append(PackedBlock(list(weights.values()), pin=assembly.device.type == "cuda"))
        all_groups.append(groups)
        if on_block is not None:
            on_block(index + 1, len(blocks))
    fill(transformer, source, "", assembly.dtype, assembly.device)
    return AssembledExpert(transformer.requires_grad_(requires_grad=False).eval(), all_groups, packed)


def block_layout(source: WeightSource, plan: ExpertPlan, dtype: torch.dtype) -> dict[str, dict[str, Stored]]:
    """What is stored of each block, by group and tensor, without making it."""
    return {
        name: stored_layout(plan.mode, _shape_of(source, paths), plan.recovery_rank, dtype)
        for name, paths in GROUPS.items()
    }


def _block_weights(source: WeightSource, index: int, assembly: Assembly) -> dict[str, FrozenWeight]:
    """The frozen weights of a block, from the cache on disk, or quantized now and cached."""
    plan, cache = assembly.plan, assembly.cache
    found = None if cache is None else cache.load_block(index).tensors
    if found is not None:
        shapes = {name: _shape_of(source, paths) for name, paths in GROUPS.items()}
        return {
            name: from_stored(
                plan.mode,
                shapes[name],
                # Masters in RAM are copied from the mapped file; others go to the device.
                found[name]
                if assembly.in_ram
                else {key: one.to(assembly.device) for key, one in found[name].items()},
            )
            for name in GROUPS
        }
    weights = {
        name: quantized(
            _joined(source, index, paths, "weight", assembly),
            plan.mode,
            recovery_rank=plan.recovery_rank,
            input_rms_I=None
            if assembly.input_rms is None
            else assembly.input_rms.get(f"blocks.{index}.{name}"),
            dtype=assembly.dtype,
        )
        for name, paths in GROUPS.items()
    }
    if cache is not None:
        cache.store_block(index, {name: weight.stored for name, weight in weights.items()})
    return weights


def _shape_of(source: WeightSource, paths: tuple[str, ...]) -> tuple[int, int]:
    """Of a group's weights, rows together; all blocks are alike."""
    shapes = [source.shapes[f"blocks.0.{path}.weight"] for path in paths]
    return sum(shape[0] for shape in shapes), shapes[0][1]


def _joined(
    source: WeightSource, index: int, paths: tuple[str, ...], kind: str, assembly: Assembly
) -> Tensor:
    """The weights or biases of linears with one input, rows together, on the device."""
    parts = [source.tensor(f"blocks.{index}.{path}.{kind}").to(assembly.device) for path in paths]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _replace_linears(block: nn.Module, group: LinearGroup, dtype: torch.dtype) -> None:
    start = 0
    for path in group.paths:
        linear: Any = block.get_submodule(path)
        stop = start + linear.out_features
        # The bias is still on the meta device, and filled with all others.
        frozen = FrozenLinear(group.weight, linear.bias, start=start, stop=stop, dtype=dtype)
        owner, _, leaf = path.rpartition(".")
        setattr(block.get_submodule(owner), leaf, frozen)
        start = stop


# ---- Setting up -------------------------------------------------------------------------------


@dataclass(slots=True)
class ServedExperts:
    """How loaded experts compute; the handles on it while a run goes on.

    Attributes:
        plans: Of each expert's blocks; may be changed between steps.
        streamed: The experts whose blocks come from RAM.
        store: Where activations wait.
    """

    plans: dict[Expert, list[BlockPlan]]
    streamed: dict[Expert, StreamedExpert]
    store: ActivationStore

    def announce(self, expert: Expert) -> None:
        """Say that this expert computes next, so that its first blocks are on their way."""
        if expert in self.streamed:
            self.streamed[expert].announce()

    def gather(self, expert: Expert, on_input: OnInput | None) -> None:
        """Tell a function the inputs of an expert's groups from now on; None ends that."""
        for plan in self.plans[expert]:
            plan.on_input = on_input

    def memory(self) -> MemoryReport | None:
        """Where streamed blocks take memory; None where none are."""
        return memory_report(self.streamed.values()) if self.streamed else None

    @contextmanager
    def vacated(self) -> Generator[None]:
        """Have the GPU memory of blocks that lie in RAM as well; nothing may be predicted inside."""
        with ExitStack() as stack:
            for slots in {id(one.slots): one.slots for one in self.streamed.values()}.values():
                stack.enter_context(slots.vacated())
            yield

    def release(self) -> None:
        """After a step that broke off: no block is in use any more."""
        for expert in self.streamed.values():
            expert.slots.abandon()
        self.store.clear()


def serve(
    experts: Mapping[Expert, AssembledExpert],
    plan: ExpertPlan,
    device: torch.device,
    on_failure: Callable[[str], None],
) -> ServedExperts:
    """Set loaded experts up to compute, with the LoRAs that are on them.

    Args:
        experts: With or without LoRA.
        plan: How to compute.
        device: Where.
        on_failure: Told in a sentence when passes cannot be compiled; they run all the same.
    """
    if plan.compiled and device.type == "cuda":
        compilation.wish(on_failure)
    store = ActivationStore(device, enabled=plan.checkpoint_offloading)
    streamed = _streams(experts, plan, device)
    plans: dict[Expert, list[BlockPlan]] = {}
    for expert, assembled in experts.items():
        plans[expert] = []
        blocks: list[Any] = list(assembled.transformer.blocks)
        for index, block in enumerate(blocks):
            block_plan = BlockPlan(
                keep=plan.keep_of(index, len(blocks)),
                feed_forward_chunks=plan.feed_forward_chunks,
                keeper=store,
            )
            if expert in streamed:
                block_plan.ready = streamed[expert].block
            plans[expert].append(block_plan)
            block.forward = _computation(index, block, assembled.groups[index], block_plan)
    return ServedExperts(plans, streamed, store)


def _streams(
    experts: Mapping[Expert, AssembledExpert], plan: ExpertPlan, device: torch.device
) -> dict[Expert, StreamedExpert]:
    packed = {expert: one.packed for expert, one in experts.items() if one.packed}
    if not packed:
        return {}
    resident = plan.resident_of(max(len(blocks) for blocks in packed.values()))
    if plan.low_vram:
        slots = BlockSlots.for_experts(device, list(packed.values()), resident)
        return {expert: StreamedExpert(blocks, slots) for expert, blocks in packed.items()}
    return {
        expert: StreamedExpert(blocks, BlockSlots.for_experts(device, [blocks], resident))
        for expert, blocks in packed.items()
    }


def _computation(
    index: int, block: WanTransformerBlock, groups: dict[str, LinearGroup], plan: BlockPlan
) -> ComputedBlock | RecomputedBlock:
    is_usual = isinstance(block.norm2, nn.LayerNorm) and block.attn2.add_k_proj is None
    if is_usual and carries_only_plain_lora(block):
        return ComputedBlock(index, block, groups, plan)
    return RecomputedBlock(index, block, plan)
