"""What each way of storing the frozen base costs in precision, as tables to print."""

import torch

from trainer.recipes.measure_errors import MODES, StackPlan, measure_linear, measure_stack, stack_table

RANK = 64
"""Of the side branch, for the real model's width."""
WIDTH = 5120
_LINEARS = ((1536, 1536), (1536, 4096))


def report_errors(device: torch.device) -> list[str]:
    """Errors of a stack of blocks with LoRA against the same in bfloat16, and of single linears, line by line.

    On a GPU the blocks are wider. The rank of the side branch is the real model's share of the width.
    """
    on_gpu = device.type == "cuda"
    plan = StackPlan(
        width=2048 if on_gpu else 512,
        rank=RANK * (2048 if on_gpu else 512) // WIDTH,
        dtype=torch.bfloat16 if on_gpu else torch.float32,
        device=device,
    )
    lines = [
        f"{plan.layers} blocks of width {plan.width}, side branches of rank {plan.rank}, made-up weights:"
    ]
    lines += stack_table(measure_stack(plan)).splitlines()
    for shape in _LINEARS:
        rank = RANK * shape[1] // WIDTH
        found = {one.mode: one for one in measure_linear(shape, rank, modes=MODES)}
        told = ", ".join(f"{mode} {one.output:.2%}" for mode, one in found.items())
        share = found["nf4_recovered"].output / found["nf4"].output
        lines.append(f"one linear {shape[0]} x {shape[1]}, output: {told}; recovered is {share:.2f} of nf4")
    return lines
