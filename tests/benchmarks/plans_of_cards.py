"""The recommended plan of each size of card, trained on this card held to that size; run by hand.

python tests/benchmarks/plans_of_cards.py [--cards 8,12,24] [--steps 20] [--ram 64]

Random weights of the real shapes; both experts in turn, at the largest size of the plan. Cards whose plans say the same
are measured once, under the smallest of them. The plans are those for a card of this one's compute capability.
"""

import argparse
import os
import sys
from pathlib import Path

# Before torch is loaded: as the trainer does it.
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import msgspec
import torch

from trainer.recipes.measure import Bench
from trainer.recipes.measure_case import Case, Measured
from trainer.runtime.device import choose_device, device_name
from wan_studio.domain.machine import GIB, Machine, PlannedGpu
from wan_studio.domain.recommend import Planner, Recommendation
from wan_studio.services.preset_store import settings_for

CARDS = "8,10,11,12,16,20,24,32,40,48,80,96,141"
TAKEN_BY_OTHERS = 0.6
"""GiB of the card that the desktop holds in each plan."""
BLOCKS = 40


def main() -> None:
    """Plan, train and compare; a line for each plan as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cards", default=CARDS, help="sizes in GiB")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--ram", type=float, default=64.0, help="of the planned machine, in GiB")
    parser.add_argument("--gpu", type=int, default=0)
    options = parser.parse_args()
    device = choose_device(options.gpu)
    capability = torch.cuda.get_device_capability(device)
    print(f"torch {torch.__version__}, {device_name(device)}; {options.steps} steps of each plan", flush=True)
    cards: dict[Case, list[float]] = {}
    plans: dict[Case, Recommendation] = {}
    for size in sorted(float(one) for one in options.cards.split(",")):
        plan = plan_for(size, options.ram, capability)
        case = case_of(plan, options.steps)
        cards.setdefault(case, []).append(size)
        plans.setdefault(case, plan)
    bench = Bench(device, lambda line: print(line, flush=True))
    print(
        "| cards, GB | plan | forecast, reserved GiB | measured | off by | s a step |\n|---|---|---|---|---|---|",
        flush=True,
    )
    for case, sizes in cards.items():
        found = bench.measure(msgspec.structs.replace(case, cap=min(sizes)))
        print(line_of(sizes, plans[case], found), flush=True)


def plan_for(vram_gib: float, ram_gib: float, capability: tuple[int, int]) -> Recommendation:
    """What the app recommends for motion on a card of this size and the measured one's arithmetic."""
    gpu = PlannedGpu("", round(vram_gib * GIB), round((vram_gib - TAKEN_BY_OTHERS) * GIB), capability)
    machine = Machine(gpu, round(ram_gib * GIB), round((ram_gib - 3) * GIB), 500 * GIB)
    plan = Planner(machine, "motion").recommend(settings_for("motion", "Wan-AI/Wan2.2-I2V-A14B-Diffusers"))
    assert plan.fits, f"no plan fits {vram_gib:g} GB with {ram_gib:g} GB of RAM"
    return plan


def case_of(plan: Recommendation, steps: int) -> Case:
    """The plan's step at its largest size, in the words of `trainer measure`."""
    settings, shape = plan.settings, plan.judgement.memory.training.shape
    assert shape is not None, "training has a size"
    resident = settings.model.resident_of(BLOCKS)
    return Case(
        width=shape.width,
        height=shape.height,
        frames=shape.frames,
        mode=settings.quantization.transformer,
        keep=settings.training.kept_activations if settings.training.gradient_checkpointing else "everything",
        kept_blocks=settings.training.kept_blocks,
        resident=None if resident == BLOCKS else resident,
        low_vram=settings.model.low_vram,
        offload=settings.model.checkpoint_offloading,
        chunks=settings.model.feed_forward_chunks,
        rank=settings.target.rank,
        batch=settings.training.batch_size,
        experts=2,
        # One more is taken before them, in which passes are compiled.
        steps=steps - 1,
    )


def line_of(sizes: list[float], plan: Recommendation, found: Measured) -> str:
    """A row of the table."""
    forecast = plan.judgement.memory.training
    cards = ", ".join(f"{size:g}" for size in sizes)
    if found.error:
        return f"| {cards} | {found.case.words()} | {forecast.reserved / GIB:.2f} | {found.error} | | |"
    off = forecast.reserved / found.reserved - 1.0
    return (
        f"| {cards} | {found.case.words()} | {forecast.reserved / GIB:.2f} | {found.reserved / GIB:.2f} | "
        f"{(forecast.reserved - found.reserved) / GIB:+.2f} GiB, {off:+.1%} | {found.seconds:.2f} |"
    )


if __name__ == "__main__":
    main()
