"""From the base's files to experts that compute as the job says."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from trainer.data.batches import BatchSource
from trainer.model.assemble import (
    AssembledExpert,
    Assembly,
    ServedExperts,
    assemble_expert,
    block_layout,
    lies_in_ram,
    serve,
)
from trainer.model.expert_plan import ExpertPlan, expert_plan
from trainer.model.experts import Experts
from trainer.model.frozen.quantized_cache import QuantizedCache, QuantizedKey, forget_unused
from trainer.model.frozen.weights import why_no_float8_products
from trainer.model.weight_source import WeightSource
from trainer.protocol.events import Phase, WorkMeasured
from trainer.protocol.job import Expert
from trainer.recipes.input_statistics import InputChannels, input_channels
from trainer.recipes.run_context import RunContext
from trainer.runtime.device import compute_dtype
from trainer.runtime.host_memory import check_ram
from trainer.runtime.work_meter import Cost

Dress = Callable[[Expert, WanTransformer3DModel], None]

QUANTIZED_FOLDER = "quantized"
"""In the cache folder."""
MOST_QUANTIZED_BYTES = 120 * 2**30
"""What quantized weights may take on the disk, of all bases and ways together."""


@dataclass(slots=True)
class LoadedExperts:
    """Experts, ready.

    Attributes:
        experts: To predict with.
        served: How they compute.
    """

    experts: Experts
    served: ServedExperts


def load_experts(
    context: RunContext, needed: Sequence[Expert], batches: BatchSource, dress: Dress
) -> LoadedExperts:
    """Read the experts that a run needs.

    Args:
        context: The run.
        needed: Which are loaded.
        batches: Of the run's clips, for what 4-bit weights need to know of them.
        dress: Puts a LoRA on an expert, or nothing.

    Raises:
        BaseModelError: the base's files do not make these experts.
        RamTooSmallError: what must wait in RAM does not fit there.
        StopRequested: meanwhile.
    """
    device = context.device
    sources = {expert: context.base.expert_source(expert) for expert in needed}
    plan = supported_plan(context, int(next(iter(sources.values())).config["num_layers"]))
    channels: dict[Expert, InputChannels] = {}
    if plan.mode == "nf4_recovered":
        found = {
            expert: input_channels(context, source, expert, batches) for expert, source in sources.items()
        }
        channels = {expert: one for expert, one in found.items() if one is not None}
    blocks = sum(int(source.config["num_layers"]) for source in sources.values())
    check_ram(ram_bytes(context, sources, plan), context.reporter.warn)
    loaded: dict[Expert, AssembledExpert] = {}
    done_before = 0
    with context.reporter.phase(Phase.LOADING, blocks, "blocks") as report:
        for expert, source in sources.items():
            words = expert.value.replace("_", "-")

            def on_block(done: int, _: int, before: int = done_before, words: str = words) -> None:
                context.control.raise_if_stopped()
                report.progress(before + done, f"{words} expert")

            watch = context.meter.begin()
            known = channels.get(expert)
            statistics = "" if known is None else known.fingerprint
            # A branch that was made without the clips must not be there when they are known.
            is_kept = statistics or plan.mode != "nf4_recovered"
            cache = quantized_cache(context, source, expert, plan, statistics) if is_kept else None
            assembly = Assembly(
                plan,
                device,
                compute_dtype(device),
                lies_in_ram(plan, int(source.config["num_layers"]), len(sources), device),
                None if known is None else known.rms,
                cache,
            )
            loaded[expert] = assemble_expert(source, assembly, on_block)
            done_before += int(source.config["num_layers"])
            dress(expert, loaded[expert].transformer)
            context.reporter.say(
                loading_told(expert, watch.stop(), anew=cache is not None and cache.was_written)
            )
    return ready(context, loaded, plan)


def loading_told(expert: Expert, cost: Cost, *, anew: bool) -> WorkMeasured:
    """What reading an expert took; `anew` where its weights had to be quantized, which is done once."""
    return WorkMeasured(
        work="loading",
        expert=expert,
        seconds=cost.seconds,
        first_seconds=cost.seconds if anew else 0.0,
        reserved_bytes=cost.reserved_bytes,
        allocated_bytes=cost.allocated_bytes,
        ram_bytes=cost.ram_bytes,
    )


def ram_bytes(context: RunContext, sources: Mapping[Expert, WeightSource], plan: ExpertPlan) -> int:
    """What the experts' blocks will take of RAM."""
    total = 0
    for source in sources.values():
        layers = int(source.config["num_layers"])
        if lies_in_ram(plan, layers, len(sources), context.device):
            layout = block_layout(source, plan, compute_dtype(context.device))
            total += layers * sum(stored.size_bytes for parts in layout.values() for stored in parts.values())
    return total


def ready(context: RunContext, loaded: Mapping[Expert, AssembledExpert], plan: ExpertPlan) -> LoadedExperts:
    """Set loaded experts up to compute."""
    warn = context.reporter.warn
    served = serve(loaded, plan, context.device, warn)
    memory = served.memory()
    if memory is not None and memory.refusal:
        warn(
            f"The system does not let RAM be pinned ({memory.refusal}), so steps take longer.",
            "Close other programs, or keep more blocks on the GPU (model.resident_blocks).",
        )
    boundary = context.job.multistage.boundary or context.base.boundary_ratio
    return LoadedExperts(
        Experts(
            {expert: one.transformer for expert, one in loaded.items()}, boundary, vacated=served.vacated
        ),
        served,
    )


def supported_plan(context: RunContext, blocks: int) -> ExpertPlan:
    """The job's plan, with what this device cannot do replaced by the next best, and said."""
    plan = expert_plan(context.job, blocks)
    if plan.mode == "float8_compute" and (reason := why_no_float8_products(context.device)):
        context.reporter.warn(
            f"This device cannot multiply in 8 bits ({reason}); weights are stored in 8 bits all the same.",
            "Set quantization.transformer to float8 to be without this warning.",
        )
        return replace(plan, mode="float8")
    return plan


def quantized_cache(
    context: RunContext, source: WeightSource, expert: Expert, plan: ExpertPlan, statistics: str
) -> QuantizedCache | None:
    """Where an expert's quantized weights are kept from run to run; None for weights that are not quantized.

    Neither are those of a base without a fingerprint: they are drawn anew each time.
    """
    if plan.mode == "none" or not context.base.fingerprint:
        return None
    folder = Path(context.job.cache_folder) / QUANTIZED_FOLDER
    dtype = compute_dtype(context.device)
    key = QuantizedKey(
        base=context.base.fingerprint,
        expert=expert,
        mode=plan.mode,
        rank=plan.recovery_rank,
        statistics=statistics,
        dtype=str(dtype).removeprefix("torch."),
    )
    forget_unused(folder, key, MOST_QUANTIZED_BYTES)
    return QuantizedCache(folder, key, block_layout(source, plan, dtype), context.reporter.warn)
